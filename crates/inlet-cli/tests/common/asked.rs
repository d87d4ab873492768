//! What several files of tests ask of a host and of its command.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use inlet_testkit::{Dial, End, Namespace, Netns, Program, Proto, dial_tcp, output, veth};
use serde_json::{Value, json};

use crate::{Host, PATIENCE, Ran, at};

pub(crate) fn ok(ran: Ran) -> String {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    ran.stdout
}

pub(crate) fn asked(target: &str) -> String {
    let answer = dial_tcp(at(target), &Dial::new().timeout(PATIENCE));
    answer.name().map_or_else(|| format!("{answer:?}"), str::to_owned)
}

/// A stand-in for the SSH server: a listener of a process of that name.
pub(crate) fn sshd(dir: &std::path::Path) -> Program {
    let path =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).map(|dir| dir.join("socat")).find(|it| it.is_file());
    let program = dir.join("sshd");
    std::fs::copy(path.expect("scripts/deps test brings socat"), &program).unwrap();
    let mut command = Command::new(program);
    let mut sshd = Program::start(command.args(["TCP4-LISTEN:22,fork,reuseaddr", "SYSTEM:true"])).unwrap();
    sshd.wait_listening(Proto::Tcp, at("0.0.0.0:22"), PATIENCE).unwrap();
    sshd
}

/// The processes that wait for an instance in this bpffs.
pub(crate) fn waiting(host: &Host) -> Vec<i32> {
    let bpffs = host.world.bpffs.path().display().to_string();
    let is_it = |dir: &PathBuf| {
        let line = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.contains(&"await-confirmation".as_bytes()) && words.contains(&bpffs.as_bytes())
    };
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    all.filter(is_it).filter_map(|dir| dir.file_name()?.to_str()?.parse().ok()).collect()
}

pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) const NOBODY: u32 = 65534;

/// The findings of a check, by code; what it exits with.
pub(crate) fn findings(host: &Host, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let ran = host.run(&[&["check"], args, &["--json"]].concat());
    assert_eq!(ran.stderr, "");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["unchecked"], json!([]), "root can look at everything");
    (ran.code, report["findings"].as_array().unwrap().clone())
}

pub(crate) fn codes(findings: &[Value]) -> Vec<&str> {
    let mut codes: Vec<&str> = findings.iter().map(|it| it["code"].as_str().unwrap()).collect();
    codes.retain(|code| *code != "rp-filter");
    codes.sort_unstable();
    codes
}

pub(crate) fn one<'a>(findings: &'a [Value], code: &str) -> &'a Value {
    findings.iter().find(|it| it["code"] == code).unwrap_or_else(|| panic!("no {code} in {findings:?}"))
}

/// Runs the command that a finding gives, as a user would.
pub(crate) fn apply_fix(host: &Host, finding: &Value) {
    let command = finding["fix"].as_str().unwrap().split(" (or ").next().unwrap();
    let inlet = format!("{} --bpffs {}", env!("CARGO_BIN_EXE_inlet"), host.world.bpffs.path().display());
    let mut shell = Command::new("sh");
    shell.arg("-ec").arg(format!("inlet() {{ {inlet} \"$@\"; }}\n{command}"));
    let said = output(&mut shell).unwrap();
    assert!(said.status.success(), "{command}: {}", String::from_utf8_lossy(&said.stderr));
}

/// The codes of what `check` finds.
pub(crate) fn all_codes(host: &Host) -> Vec<String> {
    let ran = host.run(&["check", "--json"]);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    found["findings"].as_array().unwrap().iter().map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

/// A namespace beside the host, at 10.9.0.2, from where 192.0.2.0/24 is reached by the host.
pub(crate) fn outside(host: &Host) -> Namespace {
    let outside = Netns::unentered().unwrap();
    veth(
        End { namespace: &host.world, name: "inside", addresses: &["10.9.0.1/24"] },
        End { namespace: &outside, name: "outside", addresses: &["10.9.0.2/24"] },
    )
    .unwrap();
    outside.ip(&["route", "add", "192.0.2.0/24", "via", "10.9.0.1"]).unwrap();
    outside
}
