//! The process is killed at every step of every operation that changes state. Afterwards traffic flows by the state of
//! before or of after, readers can read, the next command does its work, and nothing is left over.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]
#![cfg(feature = "faults")]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Receiver, asked, at, bind, here, open, snapshot, source, state, to, tree, tree_of_one, up};
use inlet::core::Protocol::{Tcp, Udp};
use inlet::{Error, Instance, ServiceRequest, Snapshot, UpOptions};
use inlet_testkit::{Program, TcpServer, World};

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

/// Each with who answers over IPv4 and IPv6 then: a dual-stack socket has a place in a lane of each family.
const UNREGISTER: &[(&str, [&str; 2])] =
    &[("unregister:one", ["Refused", "web"]), ("unregister:all", ["Refused", "Refused"])];

const CONFIRM: &[&str] = &["confirm:confirmed"];

/// Each step of a commit that describes a service, after its commit point.
const DESCRIBE: &[&str] = &["describe:directory", "describe:pin", "describe:link", "adopt:planned", "adopt:stored"];

const DOWN: &[&str] = &["down:withdrawn", "down:detached"];

const OPERATION: &str = "INLET_CHILD_OPERATION";
const BPFFS: &str = "INLET_CHILD_BPFFS";

/// What the killed process runs: this same program with nothing but this test in it. In a normal run it is nothing.
#[test]
fn child() {
    let Ok(operation) = std::env::var(OPERATION) else { return };
    let bpffs = std::env::var(BPFFS).unwrap();
    let here = || at(bpffs.as_ref());
    let open = || Instance::open(here()).unwrap();
    match operation.as_str() {
        "up" => drop(Instance::up(here(), &UpOptions::default()).unwrap()),
        "commit" => drop(open().apply(source(NEW)).unwrap()),
        "roll back" => drop(open().roll_back().unwrap()),
        "commit to confirm" => {
            let mut instance = open();
            for_a_time(&mut instance, Duration::from_secs(3600));
        }
        "open" => drop(open()),
        "confirm" => open().confirm().unwrap(),
        // The socket is passed as a service manager would, so that the parent goes on serving it.
        "register" => drop(open().register("web", std::io::stdin()).unwrap()),
        "unregister" => drop(open().unregister("web", None).unwrap()),
        "describe" => drop(described(&mut open())),
        "down" => Instance::down(&here()).unwrap(),
        other => panic!("{other}"),
    }
}

/// Runs an operation in a process that is killed at the step, and sees to it that it was.
fn described(instance: &mut Instance) -> inlet::Committed {
    let listen = ["tcp:*:8080", "udp:*:8080"].map(|text| text.parse().unwrap());
    let description = Some(Some(inlet::core::Description::new(listen).unwrap()));
    let request = inlet::ServiceRequest { description, ..inlet::ServiceRequest::default() };
    instance.set_service(&"web".parse().unwrap(), request).unwrap()
}

/// The description is in force from the commit point on; what was left to do, the next command does.
#[test]
fn describe_at_every_step() {
    for step in DESCRIBE {
        let Some(world) = World::new() else { return };
        let targets = both_families(&world);
        let server = TcpServer::spawn("early", "[::]:8080".parse().unwrap()).unwrap();
        killed(&world, "describe", step, None);
        assert_eq!(snapshot(&world).ruleset().services().iter().filter(|(_, it)| it.description.is_some()).count(), 1);
        let found = open(&world).adopt().unwrap();
        assert!(found.iter().all(|found| found.outcome.is_ok()) && found.len() == 1, "{step}: {found:?}");
        assert_eq!(targets.map(|target| asked(Tcp, target)), ["early", "early"], "{step}");
        assert_eq!(state(&world, "web").sockets.len(), 1, "{step}");
        drop(server);
        let server = TcpServer::spawn("late", "[::]:8080".parse().unwrap()).unwrap();
        assert_eq!(targets.map(|target| asked(Tcp, target)), ["late", "late"], "{step}");
        drop(server);
        let by_hand = inlet::ServiceRequest { description: Some(None), ..inlet::ServiceRequest::default() };
        open(&world).set_service(&"web".parse().unwrap(), by_hand).unwrap();
        works_and_ends(&world, step);
    }
}

fn killed(world: &World, operation: &str, step: &str, stdin: Option<OwnedFd>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(OPERATION, operation).env(BPFFS, world.bpffs.path()).env("INLET_FAULT", step);
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::null());
    let mut child = Program::start(&mut command).unwrap();
    let status = child.wait_exit(Duration::from_secs(60)).unwrap().expect("the child ends");
    assert_eq!(status.signal(), Some(9), "{operation} was not killed at {step}: {status}");
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
    assert_eq!(state(world, "probe").counters.missing, 0, "{about}");
    Instance::down(&here(world)).unwrap();
    assert_eq!(tree(world.bpffs.path()), ["inlet"], "{about}");
    assert_eq!(asked(Tcp, "192.0.2.9:4000"), "Refused", "{about}");
}

#[test]
fn up_at_every_step() {
    for step in UP {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let own = TcpServer::spawn("own", "192.0.2.1:80".parse().unwrap()).unwrap();
        killed(&world, "up", step, None);
        assert_eq!(asked(Tcp, "192.0.2.1:80"), "own", "{step}");
        // Read to the end: who reads keeps writers waiting.
        let read = Snapshot::open(here(&world)).map(|snapshot| snapshot.generation());
        let again = Instance::up(here(&world), &UpOptions::default());
        if *step == "up:published" {
            assert_eq!(read.unwrap(), 1, "{step}");
            assert!(matches!(again, Err(Error::AlreadyUp { .. })), "{step}: {again:?}");
        } else {
            assert!(matches!(read, Err(Error::NotUp { .. })), "{step}: {read:?}");
            assert_eq!(again.unwrap().generation(), 1, "{step}");
        }
        assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, 1), "{step}");
        assert_eq!(asked(Tcp, "192.0.2.1:80"), "own", "{step}");
        drop(own);
        works_and_ends(&world, step);
    }
}

/// An `up` that was killed can also be taken back.
#[test]
fn down_after_a_killed_up() {
    for step in UP {
        let Some(world) = World::new() else { return };
        killed(&world, "up", step, None);
        match Instance::down(&here(&world)) {
            Ok(()) => {}
            Err(Error::NotUp { .. }) if *step == "up:root" => {}
            Err(error) => panic!("{step}: {error}"),
        }
        assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
    }
}

const OLDEST: &str = r#"{"services": {"oldest": {}, "web": {}},
    "rules": [{"to": "oldest", "protocol": ["tcp", "udp"], "local": "192.0.2.0/24", "ports": 80}]}"#;

const OLD: &str = r#"{"services": {"old": {}, "gone": {}, "web": {}, "new": {}},
    "rules": [{"to": "old", "protocol": ["tcp", "udp"], "local": "192.0.2.0/24", "ports": 80},
              {"to": "gone", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 81}]}"#;

const NEW: &str = r#"{"services": {"new": {}, "old": {}, "web": {}},
    "rules": [{"to": "web", "protocol": ["tcp", "udp"], "local": "192.0.2.0/24", "ports": 80},
              {"verdict": "pass", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 81}]}"#;

#[test]
fn commit_at_every_step() {
    for (step, is_new) in COMMIT {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        // What a service has that went with an earlier commit goes with this one.
        instance.apply(source(OLDEST)).unwrap();
        let oldest = Receiver::of(&mut instance, "oldest");
        instance.apply(source(OLD)).unwrap();
        let old = instance.ruleset().unwrap().clone();
        let receivers = ["old", "gone", "web"].map(|name| Receiver::of(&mut instance, name));
        drop(instance);
        // Counted, so that a later service of the same number would show it.
        assert_eq!(asked(Tcp, "192.0.2.9:81"), "gone");
        killed(&world, "commit", step, None);

        let (at_80, at_81) = if *is_new { ("web", "Refused") } else { ("old", "gone") };
        assert_eq!(asked(Tcp, "192.0.2.9:80"), at_80, "{step}");
        assert_eq!(asked(Udp, "192.0.2.9:80"), at_80, "{step}");
        assert_eq!(asked(Tcp, "192.0.2.9:81"), at_81, "{step}");
        let read = snapshot(&world);
        assert_eq!((read.generation(), read.ruleset() == &old), if *is_new { (4, false) } else { (3, true) }, "{step}");
        assert_eq!(read.ruleset().services().id("gone").is_none(), *is_new, "{step}");
        drop(read);

        // The next command finishes the commit, or removes it.
        let mut instance = open(&world);
        assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, instance.generation()), "{step}");
        // A service that gets the number of the one that went has nothing of it.
        let fresh: Vec<String> = (0..3).map(|number| format!("fresh{number}")).collect();
        for name in &fresh {
            instance.set_service(&name.parse().unwrap(), ServiceRequest::default()).unwrap();
        }
        drop(instance);
        for name in &fresh {
            let state = state(&world, name);
            assert!(state.sockets.is_empty(), "{step}: {state:?}");
            assert_eq!(state.counters, inlet::Counters::default(), "{step}");
        }
        let mut instance = open(&world);
        instance.apply(source(NEW)).unwrap();
        drop(instance);
        assert_eq!(asked(Tcp, "192.0.2.9:80"), "web", "{step}");
        assert_eq!(asked(Tcp, "192.0.2.9:81"), "Refused", "{step}");
        drop((receivers, oldest));
        works_and_ends(&world, step);
    }
}

/// A commit that goes back is one as any other; and so is the one of who comes when the time to confirm is over.
#[test]
fn going_back_at_every_step() {
    for (step, is_back) in COMMIT.iter().filter(|(step, _)| !["retire:hidden", "slots:emptied"].contains(step)) {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        instance.apply(source(OLD)).unwrap();
        let receivers = ["old", "gone", "web"].map(|name| Receiver::of(&mut instance, name));
        instance.apply(source(NEW)).unwrap();
        drop(instance);
        killed(&world, "roll back", step, None);
        let expected = |is_old: bool| if is_old { ("old", "gone") } else { ("web", "Refused") };
        let asked = || (asked(Tcp, "192.0.2.9:80"), asked(Tcp, "192.0.2.9:81"));
        let told = asked();
        assert_eq!((told.0.as_str(), told.1.as_str()), expected(*is_back), "{step}");
        // Once more is the other one, with its sockets.
        open(&world).roll_back().unwrap();
        let told = asked();
        assert_eq!((told.0.as_str(), told.1.as_str()), expected(!is_back), "{step}");
        drop(receivers);
        works_and_ends(&world, step);
    }
}

/// Killed while a ruleset for a time comes into force: it is in force with its time, or not at all.
#[test]
fn commit_to_confirm_at_every_step() {
    for (step, is_new) in COMMIT.iter().filter(|(step, _)| !["retire:hidden", "slots:emptied"].contains(step)) {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        instance.apply(source(OLD)).unwrap();
        let receivers = ["old", "gone", "web"].map(|name| Receiver::of(&mut instance, name));
        drop(instance);
        killed(&world, "commit to confirm", step, None);
        let at_80 = if *is_new { "web" } else { "old" };
        assert_eq!(asked(Tcp, "192.0.2.9:80"), at_80, "{step}");
        assert_eq!(snapshot(&world).pending().unwrap().is_some(), *is_new, "{step}");
        if *is_new {
            assert!(matches!(open(&world).apply(source(OLD)), Err(Error::Unconfirmed { .. })), "{step}");
            open(&world).roll_back().unwrap();
        }
        assert_eq!(
            (asked(Tcp, "192.0.2.9:80").as_str(), asked(Tcp, "192.0.2.9:81").as_str()),
            ("old", "gone"),
            "{step}"
        );
        assert_eq!(snapshot(&world).pending().unwrap(), None, "{step}");
        drop(receivers);
        works_and_ends(&world, step);
    }
}

/// Killed while it goes back because nobody confirmed: the next one does it, and what was confirmed stays.
#[test]
fn the_end_of_the_time_at_every_step() {
    for (step, _) in COMMIT.iter().filter(|(step, _)| !["retire:hidden", "slots:emptied"].contains(step)) {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        instance.apply(source(OLD)).unwrap();
        let receivers = ["old", "gone", "web"].map(|name| Receiver::of(&mut instance, name));
        for_a_time(&mut instance, Duration::from_nanos(1));
        drop(instance);
        assert_eq!(asked(Tcp, "192.0.2.9:80"), "web", "{step}");
        killed(&world, "open", step, None);
        drop(open(&world));
        assert_eq!(
            (asked(Tcp, "192.0.2.9:80").as_str(), asked(Tcp, "192.0.2.9:81").as_str()),
            ("old", "gone"),
            "{step}"
        );
        assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, 4), "{step}");
        drop(receivers);
        works_and_ends(&world, step);
    }
}

fn for_a_time(instance: &mut Instance, within: Duration) {
    let new = instance.parse(source(NEW)).unwrap().ruleset;
    instance.replace_to_confirm(new, Some(within)).unwrap();
}

#[test]
fn confirm_at_every_step() {
    for step in CONFIRM {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        instance.apply(source(OLD)).unwrap();
        let receiver = Receiver::of(&mut instance, "web");
        for_a_time(&mut instance, Duration::from_secs(3600));
        drop(instance);
        killed(&world, "confirm", step, None);
        assert_eq!(snapshot(&world).pending().unwrap(), None, "{step}");
        assert!(matches!(open(&world).confirm(), Err(Error::NothingToConfirm)), "{step}");
        assert_eq!(asked(Tcp, "192.0.2.9:80"), "web", "{step}");
        drop(receiver);
        works_and_ends(&world, step);
    }
}

/// The removal of a directory cannot be stopped half way from inside, so what it may leave is made by hand.
#[test]
fn what_is_left_of_a_generation_goes() {
    let parts = ["image", "program"];
    for kept in 0..1 << parts.len() {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        drop(up(&world));
        killed(&world, "commit", "commit:retired", None);
        let former = here(&world).dir().join("gen-1");
        for (bit, part) in parts.iter().enumerate().filter(|(bit, _)| kept & 1 << bit == 0) {
            std::fs::remove_file(former.join(part)).unwrap_or_else(|error| panic!("{bit} {part}: {error}"));
        }
        assert_eq!(snapshot(&world).generation(), 2);
        drop(open(&world));
        assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, 2));
        works_and_ends(&world, &format!("{kept:03b} of the former generation left"));
    }
}

fn both_families(world: &World) -> [&'static str; 2] {
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/64").unwrap();
    let mut instance = up(world);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    bind(&mut instance, "web", Tcp, "2001:db8::/64", "80");
    ["192.0.2.9:80", "[2001:db8::9]:80"]
}

#[test]
fn register_at_every_step() {
    for step in REGISTER {
        let Some(world) = World::new() else { return };
        let targets = both_families(&world);
        let server = TcpServer::spawn("web", common::anywhere()).unwrap();
        killed(&world, "register", step, Some(server.as_fd().try_clone_to_owned().unwrap()));
        for target in targets {
            let told = asked(Tcp, target);
            assert!(["web", "Refused"].contains(&told.as_str()), "{step}: {target} {told}");
        }
        assert!(state(&world, "web").sockets.len() <= 1, "{step}");
        // Another service may come first, and takes nothing away.
        let mut instance = open(&world);
        instance.set_service(&"other".parse().unwrap(), ServiceRequest::default()).unwrap();
        let other = Receiver::of(&mut instance, "other");
        instance.register("web", &server).unwrap();
        drop(instance);
        assert_eq!(targets.map(|target| asked(Tcp, target)), ["web", "web"], "{step}");
        let sockets = state(&world, "web").sockets;
        assert_eq!(sockets.len(), 1, "{step}");
        assert!(sockets[0].v4 && sockets[0].v6, "{step}: {sockets:?}");
        assert_eq!(state(&world, "other").sockets.len(), 2, "{step}");
        assert_eq!(open(&world).unregister("web", None).unwrap(), 1, "{step}");
        assert_eq!(targets.map(|target| asked(Tcp, target)), ["Refused", "Refused"], "{step}");
        drop((server, other));
        works_and_ends(&world, step);
    }
}

#[test]
fn unregister_at_every_step() {
    for (step, answers) in UNREGISTER {
        let Some(world) = World::new() else { return };
        let targets = both_families(&world);
        let server = TcpServer::spawn("web", common::anywhere()).unwrap();
        open(&world).register("web", &server).unwrap();
        killed(&world, "unregister", step, None);
        assert_eq!(targets.map(|target| asked(Tcp, target)), *answers, "{step}");
        let left = usize::from(answers.contains(&"web"));
        assert_eq!(state(&world, "web").sockets.len(), left, "{step}");
        assert_eq!(open(&world).unregister("web", None).unwrap(), left, "{step}");
        assert_eq!(targets.map(|target| asked(Tcp, target)), ["Refused", "Refused"], "{step}");
        open(&world).register("web", &server).unwrap();
        assert_eq!(targets.map(|target| asked(Tcp, target)), ["web", "web"], "{step}");
        assert_eq!(state(&world, "web").sockets.len(), 1, "{step}");
        drop(server);
        works_and_ends(&world, step);
    }
}

#[test]
fn down_at_every_step() {
    for step in DOWN {
        for next_is_up in [false, true] {
            let Some(world) = World::new() else { return };
            let targets = both_families(&world);
            let server = TcpServer::spawn("web", common::anywhere()).unwrap();
            open(&world).register("web", &server).unwrap();
            killed(&world, "down", step, None);
            let still = if *step == "down:withdrawn" { "web" } else { "Refused" };
            assert_eq!(targets.map(|target| asked(Tcp, target)), [still; 2], "{step}");
            assert!(matches!(Snapshot::open(here(&world)), Err(Error::NotUp { .. })), "{step}");
            if next_is_up {
                let mut instance = up(&world);
                assert!(instance.ruleset().unwrap().is_empty(), "{step}");
                instance.bind(&to("web"), &common::selector(Tcp, "192.0.2.0/24", "80")).unwrap();
                drop(instance);
                assert_eq!(asked(Tcp, targets[0]), "Refused", "{step}");
                open(&world).register("web", &server).unwrap();
                assert_eq!(asked(Tcp, targets[0]), "web", "{step}");
                drop(server);
                works_and_ends(&world, step);
            } else {
                Instance::down(&here(&world)).unwrap();
                assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
                assert_eq!(targets.map(|target| asked(Tcp, target)), ["Refused", "Refused"], "{step}");
                assert!(matches!(Instance::down(&here(&world)), Err(Error::NotUp { .. })), "{step}");
            }
        }
    }
}

/// Whoever adds a step finds it missing here.
#[test]
fn every_step_of_the_source_is_tried() {
    let source = concat!(
        include_str!("../src/commit.rs"),
        include_str!("../src/confirm.rs"),
        include_str!("../src/generation.rs"),
        include_str!("../src/instance.rs"),
        include_str!("../src/described/find.rs"),
        include_str!("../src/described/programs.rs"),
        include_str!("../src/socket/adopt.rs"),
        include_str!("../src/state.rs"),
    );
    let commit = COMMIT.iter().map(|(step, _)| *step);
    let pairs = UNREGISTER.iter().map(|(step, _)| *step);
    let tried: Vec<&str> = commit.chain([UP, REGISTER, CONFIRM, DESCRIBE, DOWN].concat()).chain(pairs).collect();
    for point in source.split("fault::point(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(tried.contains(&point), "{point}");
    }
}
