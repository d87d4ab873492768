//! The process is killed at every step of every operation that changes state. Afterwards traffic flows by the state of
//! before or of after, readers can read, the next command does its work, and nothing is left over.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]
#![cfg(feature = "faults")]

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod commit;
mod confirm;
mod instance;
mod leftover;
mod marks;
mod sockets;
mod sticky;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use common::{Receiver, asked, at, bind, here, open, source, state, tree, tree_of_one, up};
use inlet::rules::Answers;
use inlet::rules::Protocol::{Tcp, Udp};
use inlet::{ApplyOptions, CommitOptions, Instance, UpOptions};
use inlet_testkit::World;

const UP: &[&str] = &[
    "up:root",
    "up:directory",
    "up:map",
    "up:maps",
    "commit:filled",
    "commit:directory",
    "commit:pin",
    "up:generation",
    "up:attached",
    "up:made",
    "up:published",
];

/// Each with whether the new ruleset is in force then.
const COMMIT: &[(&str, bool)] = &[
    ("commit:filled", false),
    ("commit:loaded", false),
    ("commit:directory", false),
    ("commit:pin", false),
    ("commit:beside", false),
    ("commit:pinned", false),
    ("commit:swapped", true),
    ("retire:hidden", true),
    ("slots:emptied", true),
    ("commit:retired", true),
];

const REGISTER: &[&str] = &["register:stored", "register:lane", "register:shown"];

/// Each step of a lane that moves to a longer range.
const MOVE: &[&str] = &["move:noted", "move:copied", "move:swapped", "move:late"];

/// Each with who answers over IPv4 and IPv6 then: a dual-stack socket has a place in a lane of each family.
const UNREGISTER: &[(&str, [&str; 2])] =
    &[("unregister:one", ["Refused", "web"]), ("unregister:all", ["Refused", "Refused"])];

const CONFIRM: &[&str] = &["confirm:confirmed"];

/// Each step of a commit that describes a service, with whether the description is in force then.
const DESCRIBE: &[(&str, bool)] = &[
    ("describe:directory", false),
    ("describe:attached", false),
    ("adopt:planned", false),
    ("adopt:stored", false),
    ("commit:staged", false),
    ("commit:pinned", false),
    ("commit:swapped", true),
    ("describe:pin", true),
    ("describe:link", true),
    ("commit:retired", true),
];

/// Each step of a commit whose rules have marks as the first ones, with whether it is in force then.
const MARKS: &[(&str, bool)] = &[
    ("marks:directory", false),
    ("marks:map", false),
    ("marks:loaded", false),
    ("marks:attached", false),
    ("marks:pinned", false),
    ("commit:loaded", false),
    ("commit:pinned", false),
    ("commit:swapped", true),
    ("commit:retired", true),
];

/// Each step by which what handed marks over goes, with whether rules that need none are in force then.
const NO_MARKS: &[(&str, bool)] =
    &[("commit:pinned", false), ("commit:swapped", true), ("marks:detached", true), ("marks:removed", true)];
/// Each step of a commit with the first rule of UDP: all before it is in force.
const ATTACH: &[&str] = &["answers:directory", "answers:map", "answers:attached", "answers:port", "answers:interface"];

/// Each step of a commit after which no answer leaves from elsewhere than its socket: all after it is in force. The end of an
/// instance has the same.
const DETACH: &[&str] = &["answers:uncovered", "answers:detached"];

/// Each step of a commit whose flows stay on sockets as the first ones: all before it is in force.
const STICKY: &[&str] = &["sticky:directory", "sticky:map"];

/// Each step of a change of how many flows are kept.
const RESIZE: &[&str] = &["flows:set", "answers:before", "sticky:before", "answers:resized"];

/// Each with who answers new flows then.
const DRAIN: &[(&str, &str)] = &[("drain:one", "dns"), ("drain:hidden", "Refused")];

const DOWN: &[&str] = &["down:withdrawn", "down:detached"];

/// What the killed process runs: this same program with nothing but this test in it. In a normal run it is nothing.
#[test]
fn child() {
    let Some((operation, bpffs)) = common::killed::operation() else { return };
    let here = || at(&bpffs);
    let open = || Instance::open(here()).unwrap();
    match operation.as_str() {
        "up" => drop(Instance::up(here(), &UpOptions::default()).unwrap()),
        "commit" => drop(open().apply(source(NEW), &ApplyOptions::default()).unwrap()),
        "roll back" => drop(open().roll_back(&CommitOptions::default()).unwrap()),
        "commit to confirm" => {
            let mut instance = open();
            for_a_time(&mut instance, Duration::from_secs(3600));
        }
        "open" => drop(open()),
        "confirm" => open().confirm().unwrap(),
        // The socket is passed as a service manager would, so that the parent goes on serving it.
        "register" => drop(open().register("web", std::io::stdin()).unwrap()),
        "unregister" => drop(open().unregister("web", None).unwrap()),
        "marks" => drop(open().apply(source(MARKED), &ApplyOptions::default()).unwrap()),
        "first of udp" => bind(&mut open(), "dns", Udp, "192.0.2.0/24", "53"),
        "range of udp" => bind(&mut open(), "dns", Udp, "192.0.2.0/24", "1-65535"),
        "insist" => {
            let mut instance = open();
            let request = inlet::ServiceRequest { answers: Some(Answers::Asked), ..inlet::ServiceRequest::default() };
            instance.set_service(&"dns".parse().unwrap(), request).unwrap();
            let refused = instance.bind(&common::to("dns"), &common::selector(Udp, "192.0.2.0/24", "53")).unwrap_err();
            let message =
                "answers of service \"dns\" cannot leave from where they are asked on this host: no cgroup v2 ";
            assert!(refused.to_string().starts_with(message), "{refused}");
            assert_eq!(refused.remedy().as_deref(), Some("mount -t cgroup2 none /sys/fs/cgroup"));
        }
        "no larger" => {
            let error = open().set_max_flows(1 << 12).unwrap_err();
            assert!(error.to_string().contains("cgroup"), "{error}");
        }
        "last of udp" => drop(open().unbind(&common::selector(Udp, "192.0.2.0/24", "53")).unwrap()),
        "sticky" => sticky::set(&mut open()),
        "resize" => open().set_max_flows(4096).unwrap(),
        "drain" => sticky::drain(&mut open()),
        "describe" => drop(described(&mut open())),
        "down" => Instance::down(&here()).unwrap(),
        other => panic!("{other}"),
    }
}

fn described(instance: &mut Instance) -> inlet::Committed {
    let listen = ["tcp:*:8080", "udp:*:8080"].map(|text| text.parse().unwrap());
    let description = Some(Some(inlet::rules::Description::new(listen).unwrap()));
    let request = inlet::ServiceRequest { description, ..inlet::ServiceRequest::default() };
    instance.set_service(&"web".parse().unwrap(), request).unwrap()
}

/// Runs an operation in a process that is killed at the step.
fn killed(world: &World, operation: &str, step: &str, stdin: Option<OwnedFd>) {
    common::killed::killed(world, "child", operation, step, stdin);
}

/// The instance can still do all that it is for, and its end leaves nothing.
fn works_and_ends(world: &World, about: &str) {
    let mut instance = open(world);
    bind(&mut instance, "probe", Tcp, "192.0.2.0/24", "4000");
    bind(&mut instance, "probe", Udp, "192.0.2.0/24", "4000");
    let receiver = Receiver::of(&mut instance, "probe");
    assert_eq!(asked(Tcp, "192.0.2.9:4000"), "probe", "{about}");
    assert_eq!(asked(Udp, "192.0.2.9:4000"), "probe", "{about}");
    assert_eq!(tree(world.bpffs.path()), tree_of_one(world, instance.generation()), "{about}");
    drop((instance, receiver));
    assert_eq!(state(world, "probe").counters.missed, 0, "{about}");
    Instance::down(&here(world)).unwrap();
    assert_eq!(tree(world.bpffs.path()), ["inlet"], "{about}");
    assert_eq!(asked(Tcp, "192.0.2.9:4000"), "Refused", "{about}");
}

const OLDEST: &str = r#"{"services": {"oldest": {}, "web": {}},
    "rules": [{"to": "oldest", "protocol": ["tcp", "udp"], "local": "192.0.2.0/24", "ports": 80}]}"#;

const OLD: &str = r#"{"services": {"old": {}, "gone": {}, "web": {}, "new": {}},
    "rules": [{"to": "old", "protocol": ["tcp", "udp"], "local": "192.0.2.0/24", "ports": 80},
              {"to": "gone", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 81}]}"#;

const NEW: &str = r#"{"services": {"new": {}, "old": {}, "web": {}},
    "rules": [{"to": "web", "protocol": ["tcp", "udp"], "local": "192.0.2.0/24", "ports": 80},
              {"verdict": "pass", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 81}]}"#;

const MARKED: &str = r#"{"services": {"new": {}, "old": {}, "web": {}},
    "rules": [{"to": "web", "protocol": ["tcp", "udp"], "local": "192.0.2.0/24", "ports": 80, "mark": "0/1"},
              {"to": "web", "protocol": ["tcp", "udp"], "local": "2001:db8::/64", "ports": 80, "mark": "0/1"}]}"#;

fn for_a_time(instance: &mut Instance, within: Duration) {
    let new = instance.parse(source(NEW)).unwrap().ruleset;
    instance.commit(new, &CommitOptions { confirm_within: Some(within), ..CommitOptions::default() }).unwrap();
}

fn both_families(world: &World) -> [&'static str; 2] {
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/64").unwrap();
    let mut instance = up(world);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    bind(&mut instance, "web", Tcp, "2001:db8::/64", "80");
    ["192.0.2.9:80", "[2001:db8::9]:80"]
}

/// Whoever adds a step finds it missing here.
#[test]
fn every_step_of_the_source_is_tried() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = tree(&src).into_iter().filter(|file| file.ends_with(".rs"));
    let source: String = files.map(|file| std::fs::read_to_string(src.join(file)).unwrap()).collect();
    let commit = COMMIT.iter().map(|(step, _)| *step);
    let pairs = UNREGISTER.iter().map(|(step, _)| *step).chain(DESCRIBE.iter().map(|(step, _)| *step));
    let pairs = pairs.chain(DRAIN.iter().map(|(step, _)| *step));
    let pairs = pairs.chain([MARKS, NO_MARKS].concat().iter().map(|(step, _)| *step)).collect::<Vec<_>>();
    let tried: Vec<&str> = commit
        .chain([UP, REGISTER, MOVE, CONFIRM, ATTACH, DETACH, STICKY, RESIZE, DOWN].concat())
        .chain(pairs)
        .collect();
    for point in source.split("fault::point(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        // Those of routes are tried in tests/routes.rs, of a takeover in tests/upgrade.rs, of own binds in tests/own_binds.rs.
        let elsewhere = ["routes:", "takeover:", "own:"].iter().any(|room| point.starts_with(room));
        assert!(elsewhere || tried.contains(&point), "{point}");
    }
}
