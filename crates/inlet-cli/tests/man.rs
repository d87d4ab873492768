//! The help of every command, and the man pages. No kernel has to do with it, and no right is needed.

// clippy.toml allows this in test functions; these are what they call.
#![allow(clippy::unwrap_used)]

#[path = "common/ran.rs"]
mod ran;

use std::path::{Path, PathBuf};
use std::process::Command;

use inlet_testkit::{output, require_program};

use crate::ran::inlet;

/// The names of all man pages that the command writes, each with its path.
fn man_pages(dir: &Path) -> Vec<(String, PathBuf)> {
    let ran = inlet(&["man".as_ref(), dir.as_os_str()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let mut pages = Vec::new();
    for section in ["man1", "man5"] {
        for file in std::fs::read_dir(dir.join(section)).unwrap() {
            let path = file.unwrap().path();
            pages.push((path.file_name().unwrap().to_string_lossy().into_owned(), path));
        }
    }
    pages.sort();
    pages
}

/// All commands: there is a man page for each that clap knows (see the tests of `manual`).
#[test]
fn every_command_has_help() {
    let dir = tempfile::tempdir().unwrap();
    let names = man_pages(dir.path()).into_iter().filter_map(|(page, _)| Some(page.strip_suffix(".1")?.to_owned()));
    let commands: Vec<String> = names.map(|name| name.replace('-', " ")).collect();
    assert!(commands.len() > 28, "{commands:?}");
    for command in &commands {
        let args: Vec<&str> = command.split(' ').skip(1).chain(["--help"]).collect();
        let ran = inlet(&args);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{command}");
        for text in [format!("Usage: {command}"), "Examples:".to_owned(), "Exit status:".to_owned()] {
            assert!(ran.stdout.contains(&text), "{command}: {text}: {}", ran.stdout);
        }
        assert!(!ran.stdout.contains('\x1b'), "colour in a pipe: {}", ran.stdout);
    }
    let ran = inlet(&["bind", "--help"]);
    assert!(ran.stdout.contains("inlet bind [OPTIONS] <SERVICE> <tcp|udp> <PREFIX> <PORTS>"), "{}", ran.stdout);
    assert!(ran.stdout.contains("inlet bind [OPTIONS] --pass|--refuse <tcp|udp> <PREFIX> <PORTS>"), "{}", ran.stdout);
    assert!(inlet(&["--version"]).stdout.starts_with("inlet "));
}

#[test]
fn man_pages_have_their_sections() {
    let dir = tempfile::tempdir().unwrap();
    let pages = man_pages(&dir.path().join("man"));
    let sections =
        ["NAME", "SYNOPSIS", "DESCRIPTION", "\"EXIT STATUS\"", "ENVIRONMENT", "FILES", "EXAMPLES", "\"SEE ALSO\""];
    for (name, path) in &pages {
        let text = std::fs::read_to_string(path).unwrap();
        let (title, section) = name.rsplit_once('.').unwrap();
        assert!(text.contains(&format!(".TH {} {section} 20", title.to_uppercase())), "{name}");
        if section == "1" {
            for title in sections {
                assert!(text.contains(&format!("\n.SH {title}\n")), "{name}: {title}");
            }
            assert!(text.contains("INLET_BPFFS"), "{name}");
        }
    }
    for page in ["inlet.1", "inlet-bind.1", "inlet-explain.1", "inlet-service-set.1", "inlet.toml.5"] {
        assert!(pages.iter().any(|(name, _)| name == page), "{page}");
    }
    let ran = inlet(&["man", "/proc/inlet-man"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("error: cannot write man pages into /proc/inlet-man: "), "{}", ran.stderr);
}

#[test]
fn man_pages_have_no_faults() {
    if !require_program("mandoc") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pages = man_pages(dir.path());
    let ran = output(Command::new("mandoc").args(["-T", "lint"]).args(pages.iter().map(|(_, path)| path))).unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.is_empty(), "{said}");
}
