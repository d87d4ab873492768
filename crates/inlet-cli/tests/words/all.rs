//! Commands about the instances of all network namespaces.

use std::process::Command;

use inlet_testkit::Program;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Host;
use crate::asked::until;

/// A process in a network namespace of its own, which ends with it.
struct Elsewhere(Program);

impl Elsewhere {
    fn new() -> Self {
        let mut program = Program::start(Command::new("unshare").args(["--net", "sleep", "1000"])).unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", program.child().id());
        until("it is in a namespace of its own", || std::fs::read_link(&path).is_ok_and(|netns| netns != own));
        Self(program)
    }

    fn name(&mut self) -> String {
        format!("pid:{}", self.0.child().id())
    }

    fn end(mut self) {
        kill_process(Pid::from_child(self.0.child()), Signal::KILL).unwrap();
        self.0.wait_exit(inlet_testkit::PATIENCE).unwrap();
    }
}

/// The namespaces and states that are listed.
fn listed(host: &Host, args: &[&str]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut found: Vec<(String, String)> =
        host.json(args).as_array().unwrap().iter().map(|it| (text(&it["netns"]), text(&it["state"]))).collect();
    found.sort();
    found
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted.iter().map(|(netns, state)| ((*netns).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn all_namespaces_are_listed_and_ended() {
    let Some(host) = Host::new() else { return };
    assert_eq!(host.ok(&["list"]), "");
    assert_eq!(host.ok(&["gc"]), "");
    host.ok(&["up"]);
    let (mut stays, mut ends) = (Elsewhere::new(), Elsewhere::new());
    let (stays_name, ends_name) = (stays.name(), ends.name());
    for name in [&stays_name, &ends_name] {
        host.ok(&["up", "--netns", name]);
    }
    assert_eq!(listed(&host, &["list"]).len(), 3);
    let said = host.ok(&["list"]);
    assert!(said.lines().any(|line| line.starts_with("(this one)") && line.contains("  up ")), "{said}");
    // What one finds elsewhere one may name so.
    assert!(said.lines().any(|line| line.starts_with(&stays_name)), "{said}");
    ends.end();
    let live = pairs(&[("-", "up"), (&stays_name, "up")]);
    until("the namespace ends", || listed(&host, &["list"]) == live);
    assert_eq!(listed(&host, &["list", "--all"]), pairs(&[("-", "ended"), ("-", "up"), (&stays_name, "up")]));
    assert_eq!(listed(&host, &["gc"]), pairs(&[("-", "ended")]));
    assert_eq!(listed(&host, &["list", "--all"]), live);
    assert_eq!(listed(&host, &["up", "--all"]), live);
    assert_eq!(listed(&host, &["down", "--all"]), live);
    assert_eq!(host.ok(&["list", "--all"]), "");
    stays.end();
}

/// One whose namespace cannot be entered is said to be so, and goes on.
#[test]
fn a_namespace_without_name_and_process_is_told() {
    let Some(host) = Host::new() else { return };
    let mut elsewhere = Elsewhere::new();
    host.ok(&["up", "--netns", &elsewhere.name()]);
    // Nothing but an open file keeps the namespace.
    let _held = std::fs::File::open(format!("/proc/{}/ns/net", elsewhere.0.child().id())).unwrap();
    elsewhere.end();
    assert_eq!(listed(&host, &["list"]), pairs(&[("-", "up, not found")]));
    let ran = host.run(&["down", "--all"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("has no name and no process") && ran.stderr.contains("\nfix: "), "{}", ran.stderr);
    assert_eq!(host.ok(&["gc"]), "");
    assert_eq!(listed(&host, &["list"]).len(), 1);
}

/// What is below the bpf filesystem, as `find` tells it.
fn found(host: &Host) -> Vec<String> {
    let mut find = Command::new("find");
    find.arg(host.world.bpffs.path().join("inlet")).args(["-mindepth", "1", "-maxdepth", "1", "-printf", "%f\n"]);
    let output = inlet_testkit::output(&mut find).unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut names: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// A `down` that was killed after its commit point has renamed the directory, and no more: here and in a namespace that
/// ended meanwhile.
#[test]
fn what_interrupted_commands_left_goes() {
    let Some(host) = Host::up() else { return };
    let root = host.world.bpffs.path().join("inlet");
    let own = found(&host).remove(0);
    let mut ends = Elsewhere::new();
    host.ok(&["up", "--netns", &ends.name()]);
    let other = found(&host).into_iter().find(|name| *name != own).unwrap();
    ends.end();
    until("the namespace ends", || listed(&host, &["list"]) == pairs(&[("-", "up")]));
    let halves = [(&other, "new"), (&own, "old")].map(|(name, stage)| name.replacen("netns", stage, 1));
    std::fs::rename(root.join(&other), root.join(&halves[0])).unwrap();
    std::fs::rename(root.join(&own), root.join(&halves[1])).unwrap();
    assert_eq!(host.ok(&["list"]), "");
    let both = pairs(&[("-", "half made"), ("-", "half removed")]);
    assert_eq!(listed(&host, &["list", "--all"]), both);
    assert_eq!(listed(&host, &["gc"]), both);
    assert_eq!(found(&host), Vec::<String>::new());
    assert_eq!(host.ok(&["gc"]), "");

    // `down --all` does it too, and leaves no link that steers.
    host.ok(&["up"]);
    std::fs::rename(root.join(&own), root.join(&halves[1])).unwrap();
    assert_eq!(listed(&host, &["down", "--all"]), pairs(&[("-", "half removed")]));
    assert_eq!(found(&host), Vec::<String>::new());
}
