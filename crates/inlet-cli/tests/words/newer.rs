//! A state of a newer format: every command that touches it says what it is and how to go on, and changes nothing. The way
//! that they name leads back to this version.

use std::path::PathBuf;
use std::process::Command;

use inlet_testkit::{Dial, TcpServer, dial_tcp};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::{Host, PATIENCE, at};

/// What a newer version writes.
const NEWER: u32 = 4;
const OWN: u32 = 3;

/// Every command that looks at an instance or changes it.
const COMMANDS: &[&[&str]] = &[
    &["up"],
    &["bind", "web", "tcp", "192.0.2.0/24", "81"],
    &["unbind", "tcp", "192.0.2.0/24", "80"],
    &["service", "set", "web", "--on-missing", "pass"],
    &["service", "rm", "web"],
    &["register", "web", "--pid", "1"],
    &["unregister", "web"],
    &["drain", "web", "--pid", "1"],
    &["adopt"],
    &["watch"],
    &["plan", "FILE"],
    &["apply", "FILE"],
    &["apply", "--up", "FILE"],
    &["confirm"],
    &["rollback"],
    &["export"],
    &["status"],
    &["services"],
    &["rules"],
    &["listeners"],
    &["explain", "tcp", "192.0.2.9:80"],
];

struct Newer {
    server: TcpServer,
    dir: PathBuf,
    host: Host,
}

impl Newer {
    /// An instance with a rule and a registered socket.
    fn new() -> Option<Self> {
        let host = Host::up()?;
        host.world.local("192.0.2.0/24").unwrap();
        host.ok(&["bind", "web", "tcp", "192.0.2.0/24", "80"]);
        let root = host.world.bpffs.path().join("inlet");
        let dir = std::fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
        let newer = Self { server: TcpServer::spawn("web", at("127.0.0.1:0")).unwrap(), dir, host };
        newer.register();
        Some(newer)
    }

    fn register(&self) {
        let (pid, listen) = (std::process::id().to_string(), format!("tcp:{}", self.server.local_addr()));
        self.host.ok(&["register", "web", "--pid", &pid, "--listen", &listen]);
    }

    /// Gives the state the number of another format, as a version that writes that one does.
    fn format(&self, number: u32) {
        let meta = MapHandle::from_pinned_path(self.dir.join("meta")).unwrap();
        meta.update(&0_u32.to_ne_bytes(), &number.to_ne_bytes(), MapFlags::ANY).unwrap();
    }

    /// All pins, as `find` tells them, and who answers.
    fn seen(&self) -> (String, String) {
        let mut find = Command::new("find");
        find.arg(self.host.world.bpffs.path()).args(["-printf", "%P %i %m\n"]);
        let output = inlet_testkit::output(&mut find).unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), answer())
    }
}

fn answer() -> String {
    let answer = dial_tcp(at("192.0.2.9:80"), &Dial::new().timeout(PATIENCE));
    answer.name().map_or_else(|| format!("{answer:?}"), str::to_owned)
}

#[test]
fn every_command_refuses_it_and_says_how_to_go_on() {
    let Some(newer) = Newer::new() else { return };
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::fs::write(file.path(), newer.host.ok(&["export"])).unwrap();
    newer.format(NEWER);
    let before = newer.seen();
    let message = format!("{}: state format {NEWER} is newer than {OWN}, which this inlet reads", newer.dir.display());
    for command in COMMANDS {
        let path = file.path().to_str().unwrap();
        let args: Vec<&str> = command.iter().map(|arg| if *arg == "FILE" { path } else { *arg }).collect();
        newer.host.fails(&args, &message);
        let said = newer.host.run(&args).stderr;
        assert!(said.contains("\nfix: use the newer inlet; or go back to this one"), "{said}");
        assert_eq!(newer.seen(), before, "{command:?}");
    }
    // What follows the name of a service is its command, so the place of the state comes before.
    let mut run = Command::new(env!("CARGO_BIN_EXE_inlet"));
    run.arg("--bpffs").arg(newer.host.world.bpffs.path()).args(["run", "web", "--", "true"]);
    let output = inlet_testkit::output(&mut run).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(&message), "{said}");
    assert_eq!(newer.seen(), before);
}

/// Commands for all namespaces tell it of each instance, and go on with the others.
#[test]
fn all_namespaces_are_told() {
    let Some(newer) = Newer::new() else { return };
    newer.format(NEWER);
    let before = newer.seen();
    for list in [&["list"][..], &["list", "--all"]] {
        assert_eq!(newer.host.json(list)[0]["format"], NEWER);
        assert!(newer.host.ok(list).contains(" up "), "{list:?}");
    }
    assert_eq!(newer.host.ok(&["gc"]), "");
    let message = format!("state format {NEWER} is newer than {OWN}");
    for args in [&["up", "--all"][..], &["check"]] {
        let ran = newer.host.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}: {ran:?}");
        let said = ran.stdout + &ran.stderr;
        assert!(said.contains(&message) && said.contains("use the newer inlet; or go back"), "{args:?}: {said}");
    }
    // A takeover by the newer version that was interrupted is for that one to finish.
    let next = newer.dir.with_file_name(newer.dir.file_name().unwrap().to_str().unwrap().replace("netns", "next"));
    std::fs::create_dir(&next).unwrap();
    let ran = newer.host.run(&["gc"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains(&message), "{}", ran.stderr);
    std::fs::remove_dir(&next).unwrap();
    assert_eq!(newer.seen(), before);

    newer.host.ok(&["down", "--all"]);
    assert_eq!(newer.host.ok(&["list", "--all"]), "");
    assert!(!newer.dir.exists());
}

/// The way back that the message names, typed.
#[test]
fn the_way_back_leads_there() {
    let Some(newer) = Newer::new() else { return };
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    // With the newer one, which reads its own format.
    std::fs::write(file.path(), newer.host.ok(&["export"])).unwrap();
    newer.format(NEWER);
    newer.host.ok(&["down"]);
    newer.host.ok(&["up"]);
    assert_ne!(answer(), "web");
    newer.host.ok(&["apply", file.path().to_str().unwrap()]);
    newer.register();
    assert_eq!(answer(), "web");
    assert_eq!(newer.host.ok(&["export"]), std::fs::read_to_string(file.path()).unwrap());
}
