//! The ruleset before: it comes back with its sockets, and a ruleset for a time makes place for it by itself.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::time::{Duration, Instant};

use common::{Receiver, asked, open, snapshot, source, state, to, told, tree, tree_of_one, up};
use inlet::rules::OnMissing;
use inlet::rules::Protocol::{Tcp, Udp};
use inlet::{
    ApplyOptions, CommitOptions, ConfirmError, Error, Instance, Pending, ServiceRequest, SocketError,
    await_confirmation,
};
use inlet_testkit::{Caps, TcpServer, World, without_caps};

const HOUR: Duration = Duration::from_secs(3600);

const WEB: &str = r#"{"services": {"web": {"on_missing": "pass"}, "dns": {}}, "rules": [
    {"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": "any"},
    {"to": "dns", "protocol": "udp", "local": "192.0.2.0/24", "ports": 53}]}"#;

const PROXY: &str = r#"{"services": {"proxy": {}, "dns": {}}, "rules": [
    {"to": "proxy", "protocol": "tcp", "local": "192.0.2.0/24", "ports": "any"},
    {"to": "dns", "protocol": "udp", "local": "192.0.2.0/24", "ports": 53},
    {"verdict": "refuse", "protocol": "udp", "local": "192.0.2.7", "ports": 53}]}"#;

fn apply_for(instance: &mut Instance, text: &str, within: Duration) {
    let new = instance.parse(source(text)).unwrap().ruleset;
    instance.commit(new, &CommitOptions { confirm_within: Some(within), ..CommitOptions::default() }).unwrap();
}

/// WEB in force, with sockets.
fn world() -> Option<(World, [Receiver; 2])> {
    let world = World::new()?;
    world.local("192.0.2.0/24").unwrap();
    let mut instance = up(&world);
    instance.apply(source(WEB), &ApplyOptions::default()).unwrap();
    let receivers = ["web", "dns"].map(|name| Receiver::of(&mut instance, name));
    drop(instance);
    Some((world, receivers))
}

#[test]
fn back_and_forth() {
    let Some((world, _receivers)) = world() else { return };
    let first = snapshot(&world).into_ruleset();
    let mut instance = open(&world);
    instance.apply(source(PROXY), &ApplyOptions::default()).unwrap();
    let _proxy = Receiver::of(&mut instance, "proxy");
    let second = instance.ruleset().unwrap().clone();
    assert_eq!((asked(Tcp, "192.0.2.7:80").as_str(), asked(Udp, "192.0.2.7:53").as_str()), ("proxy", "Refused"));
    for _ in 0..3 {
        let committed = instance.roll_back(&CommitOptions::default()).unwrap();
        assert_eq!((instance.ruleset().unwrap(), &committed.before), (&first, &second));
        assert_eq!((asked(Tcp, "192.0.2.7:80").as_str(), asked(Udp, "192.0.2.7:53").as_str()), ("web", "dns"));
        instance.roll_back(&CommitOptions::default()).unwrap();
        assert_eq!(instance.ruleset().unwrap(), &second);
        assert_eq!((asked(Tcp, "192.0.2.7:80").as_str(), asked(Udp, "192.0.2.7:53").as_str()), ("proxy", "Refused"));
    }
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, instance.generation()));
}

#[test]
fn the_first_ruleset_has_none_before_it() {
    let Some(world) = World::new() else { return };
    assert!(matches!(up(&world).roll_back(&CommitOptions::default()), Err(Error::Confirm(ConfirmError::NoPrevious))));
    open(&world)
        .set_service(
            &"web".parse().unwrap(),
            ServiceRequest { on_missing: Some(OnMissing::Pass), ..ServiceRequest::default() },
        )
        .unwrap();
    assert!(open(&world).roll_back(&CommitOptions::default()).unwrap().plan.rules.is_empty());
    assert!(snapshot(&world).ruleset().services().is_empty());
}

/// What a service has stays while one can go back to it, and no longer; nobody else gets it.
#[test]
fn sockets_stay_for_one_commit_more() {
    let Some((world, _receivers)) = world() else { return };
    let mut instance = open(&world);
    instance.apply(source(PROXY), &ApplyOptions::default()).unwrap();
    // A new service of the same name is another one.
    instance.set_service(&"web".parse().unwrap(), ServiceRequest::default()).unwrap();
    assert!(state_in(&world, instance, "web").sockets.is_empty());
    let mut instance = open(&world);
    instance.roll_back(&CommitOptions::default()).unwrap();
    instance.roll_back(&CommitOptions::default()).unwrap();
    assert!(state_in(&world, instance, "web").sockets.is_empty());
    open(&world).bind(&to("web"), &common::selector(Tcp, "192.0.2.0/24", "any")).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "Refused");
}

/// Reading takes the lock that a writer has.
fn state_in(world: &World, instance: Instance, service: &str) -> inlet::ServiceState {
    drop(instance);
    state(world, service)
}

/// A socket goes from one service to another with a new name, and back.
#[test]
fn a_renamed_service_takes_its_sockets_along() {
    let Some((world, receivers)) = world() else { return };
    let mut instance = open(&world);
    apply_for(&mut instance, PROXY, HOUR);
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "Refused");
    instance.register("proxy", &receivers[0].tcp).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "web");
    instance.roll_back(&CommitOptions::default()).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "web");
    instance.unregister("web", None).unwrap();
    instance.roll_back(&CommitOptions::default()).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "web");
    // While both are in force it is in one only.
    let both = PROXY.replacen("{\"proxy\"", "{\"web\": {}, \"proxy\"", 1);
    instance.apply(source(&both), &ApplyOptions::default()).unwrap();
    assert!(matches!(instance.register("web", &receivers[0].tcp), Err(Error::Socket(SocketError::Taken { .. }))));
}

#[test]
fn changes_wait_for_confirmation() {
    let Some((world, _receivers)) = world() else { return };
    assert!(matches!(open(&world).confirm(), Err(Error::Confirm(ConfirmError::NothingToConfirm))));
    assert_eq!(snapshot(&world).pending().unwrap(), None);
    let mut instance = open(&world);
    apply_for(&mut instance, PROXY, HOUR);
    for error in [
        instance.apply(source(WEB), &ApplyOptions::default()).unwrap_err(),
        instance.bind(&to("web"), &common::selector(Udp, "192.0.2.0/24", "1")).unwrap_err(),
        instance.set_service(&"new".parse().unwrap(), ServiceRequest::default()).unwrap_err(),
    ] {
        let text = told(&error);
        assert!(text.ends_with("\nfix: inlet confirm, or inlet rollback") && text.contains("3600 seconds"), "{text}");
    }
    // Sockets are not of the ruleset.
    let _proxy = Receiver::of(&mut instance, "proxy");
    drop(instance);
    let Pending { left, waiting } = snapshot(&world).pending().unwrap().unwrap();
    assert!(left.unwrap() > HOUR - Duration::from_secs(60) && !waiting);
    open(&world).confirm().unwrap();
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "proxy");
    open(&world).set_service(&"new".parse().unwrap(), ServiceRequest::default()).unwrap();
}

/// Nobody waits: who comes next goes back, and then does what it came for.
#[test]
fn who_comes_late_goes_back_first() {
    let Some((world, _receivers)) = world() else { return };
    let first = snapshot(&world).into_ruleset();
    let mut instance = open(&world);
    apply_for(&mut instance, PROXY, Duration::from_nanos(1));
    drop(instance);
    assert_eq!(snapshot(&world).pending().unwrap(), Some(Pending { left: None, waiting: false }));
    let mut instance = open(&world);
    assert_eq!((instance.went_back_from(), instance.generation()), (Some(3), 4));
    assert_eq!(instance.ruleset().unwrap(), &first);
    let error = instance.confirm().unwrap_err();
    assert!(matches!(error, Error::Confirm(ConfirmError::TooLate { unconfirmed: 3, generation: 4 })), "{error}");
    assert_eq!((asked(Tcp, "192.0.2.7:80").as_str(), asked(Udp, "192.0.2.7:53").as_str()), ("web", "dns"));
    // Forward again is a decision of its own, without a time.
    instance.roll_back(&CommitOptions::default()).unwrap();
    drop(instance);
    assert_eq!(snapshot(&world).pending().unwrap(), None);
}

#[test]
fn who_waits_goes_back_in_time() {
    let Some((world, _receivers)) = world() else { return };
    assert!(!await_confirmation(world.bpffs.path(), || panic!("nothing to wait for")).unwrap());
    let mut instance = open(&world);
    apply_for(&mut instance, PROXY, Duration::from_millis(300));
    drop(instance);
    let began = Instant::now();
    let went_back = await_confirmation(world.bpffs.path(), || {
        assert!(snapshot(&world).pending().unwrap().unwrap().waiting);
    });
    assert!(went_back.unwrap() && began.elapsed() < Duration::from_secs(20));
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "web");
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, 4));
}

/// Who waits ends when there is nothing to wait for any more, and not at the end of the time.
#[test]
fn who_waits_ends_with_the_reason() {
    for end in ["confirm", "roll back", "down"] {
        let Some((world, _receivers)) = world() else { return };
        let mut instance = open(&world);
        apply_for(&mut instance, PROXY, HOUR);
        drop(instance);
        let bpffs = world.bpffs.path().to_owned();
        let (ready, is_ready) = std::sync::mpsc::channel();
        // A thread is born into the namespaces of this one.
        let waiting = std::thread::spawn(move || await_confirmation(&bpffs, || ready.send(()).unwrap()));
        is_ready.recv().unwrap();
        match end {
            "confirm" => open(&world).confirm().unwrap(),
            "roll back" => drop(open(&world).roll_back(&CommitOptions::default()).unwrap()),
            _ => Instance::down(&common::here(&world)).unwrap(),
        }
        assert!(!waiting.join().unwrap().unwrap(), "{end}");
        if end == "confirm" {
            assert!(snapshot(&world).ruleset().services().id("proxy").is_some());
        }
    }
}

/// A service that is removed keeps its listener while one can go back, and the listener may close.
#[test]
fn a_listener_that_closed_does_not_come_back() {
    let Some((world, receivers)) = world() else { return };
    open(&world).apply(source(PROXY), &ApplyOptions::default()).unwrap();
    drop(receivers);
    let mut instance = open(&world);
    instance.roll_back(&CommitOptions::default()).unwrap();
    drop(instance);
    common::wait_for_sockets(&world, "web", 0);
    let server = TcpServer::spawn("again", common::anywhere()).unwrap();
    open(&world).register("web", &server).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.7:80"), "again");
}

/// A new service gets no number of one that one can go back to, so that a commit that fails has touched no socket of it.
#[test]
fn a_commit_that_fails_leaves_what_rollback_needs() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    let mut instance = common::up(&world);
    common::bind(&mut instance, "keep", Tcp, "192.0.2.0/24", "81");
    common::bind(&mut instance, "x", Tcp, "192.0.2.0/24", "80");
    let _receiver = Receiver::of(&mut instance, "x");
    let rules = r#"{"services": {"keep": {}}, "rules": []}"#;
    instance.apply(source(rules), &ApplyOptions::default()).unwrap();
    let mut failing = instance;
    let bind = |it: &mut Instance| it.bind(&common::to("y"), &common::selector(Tcp, "192.0.2.0/24", "82")).map(drop);
    without_caps(Caps::PERFMON | Caps::SYS_ADMIN, || bind(&mut failing)).unwrap_err();
    failing.roll_back(&CommitOptions::default()).unwrap();
    assert_eq!(asked(Tcp, "192.0.2.9:80"), "x");
    // A commit that does not fail takes another number too.
    failing.apply(source(rules), &ApplyOptions::default()).unwrap();
    common::bind(&mut failing, "y", Tcp, "192.0.2.0/24", "82");
    let number = |name: &str| common::state(&world, name).id.get();
    drop(failing);
    assert_eq!((number("keep"), number("y")), (1, 3));
}
