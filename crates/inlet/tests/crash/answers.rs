//! What answers over UDP leave by: attached before the commit that needs it, detached after one that does not.

use std::net::UdpSocket;
use std::process::Command;

use inlet::rules::Protocol::{Tcp, Udp};
use inlet::{AnswersState, Checker, Instance};
use inlet_testkit::{PATIENCE, UdpServer, World, require_program};

use crate::common::{anywhere, asked, bind, here, open, snapshot, tree, tree_of_one, up};
use crate::{ATTACH, DETACH, killed, works_and_ends};

/// From where the answer to a question comes.
pub(super) fn answered_from(target: &str) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"who", target).unwrap();
    socket.recv_from(&mut [0; 256]).unwrap().1.to_string()
}

#[test]
fn attaching_at_every_step() {
    for step in ATTACH {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
        drop(instance);
        killed(&world, "first of udp", step, None);
        assert_eq!(snapshot(&world).generation(), 2, "{step}");
        assert_eq!(snapshot(&world).answers().unwrap(), AnswersState::Bound, "{step}");
        let instance = open(&world);
        assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, instance.generation()), "{step}");
        assert!(instance.ruleset().unwrap().udp_services().is_empty(), "{step}");
        drop(instance);
        works_and_ends(&world, step);
    }
}

#[test]
fn detaching_at_every_step() {
    for step in DETACH {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        bind(&mut instance, "dns", Udp, "192.0.2.0/24", "53");
        let server = UdpServer::spawn("dns", anywhere()).unwrap();
        instance.register("dns", &server).unwrap();
        drop(instance);
        assert_eq!(answered_from("192.0.2.9:53"), "192.0.2.9:53");
        killed(&world, "last of udp", step, None);
        assert_eq!(asked(Udp, "192.0.2.9:53"), "Refused", "{step}");
        assert_eq!(snapshot(&world).answers().unwrap(), AnswersState::Bound, "{step}");
        let instance = open(&world);
        assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, instance.generation()), "{step}");
        drop(instance);
        works_and_ends(&world, step);
    }
}

#[test]
fn down_leaves_nothing_to_answer_by() {
    for step in DETACH {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        bind(&mut up(&world), "dns", Udp, "192.0.2.0/24", "53");
        killed(&world, "down", step, None);
        assert_eq!(asked(Udp, "192.0.2.9:53"), "Refused", "{step}");
        Instance::down(&here(&world)).unwrap();
        assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
    }
}

/// The filters of what leaves through the loopback interface.
fn filters(world: &World) -> String {
    let shown = world.run(Command::new("tc").args(["filter", "show", "dev", "lo", "egress"])).unwrap();
    String::from_utf8(shown.stdout).unwrap()
}

/// A kernel before 6.6 has filters in place of links.
#[test]
fn without_tcx() {
    if !require_program("tc") {
        return;
    }
    for step in DETACH {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        world.run(Command::new("tc").args(["qdisc", "add", "dev", "lo", "clsact"])).unwrap();
        let before = filters(&world);
        drop(up(&world));
        crate::common::killed::without(&world, "child", "first of udp", "tcx");
        assert!(filters(&world).contains("inlet_answer_p"), "{}", filters(&world));
        let server = UdpServer::spawn("dns", anywhere()).unwrap();
        open(&world).register("dns", &server).unwrap();
        assert_eq!(answered_from("192.0.2.9:53"), "192.0.2.9:53");
        // The next change finds it attached.
        bind(&mut open(&world), "dns", Udp, "192.0.2.0/24", "54");
        assert_eq!(filters(&world).matches("handle ").count(), 1, "{}", filters(&world));
        killed(&world, "down", step, None);
        Instance::down(&here(&world)).unwrap();
        assert_eq!((tree(world.bpffs.path()), filters(&world)), (vec!["inlet".to_owned()], before), "{step}");
    }
}

/// A host that lacks what it takes refuses services that insist, and answers as bound for those that say nothing.
#[test]
fn without_control_groups() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    drop(up(&world));
    crate::common::killed::without(&world, "child", "insist", "cgroup2");
    assert_eq!(snapshot(&world).ruleset().len(), 0);
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, snapshot(&world).generation()));

    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    drop(up(&world));
    crate::common::killed::without(&world, "child", "first of udp", "cgroup2");
    assert_eq!(snapshot(&world).answers().unwrap(), AnswersState::Unable);
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, snapshot(&world).generation()));
    // The next change finds what it takes.
    bind(&mut open(&world), "dns", Udp, "192.0.2.0/24", "54");
    assert!(matches!(snapshot(&world).answers().unwrap(), AnswersState::Asked { .. }));

    // What clients of the host lose so is found.
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    drop(up(&world));
    let takes_answers = |world: &World| {
        let found = Checker::new(here(world)).check(None).unwrap().findings;
        found.iter().any(|finding| finding.code == "udp-takes-answers")
    };
    crate::common::killed::without(&world, "child", "range of udp", "cgroup2");
    assert!(takes_answers(&world) && snapshot(&world).client_answers().unwrap().is_none());
    bind(&mut open(&world), "dns", Udp, "192.0.2.0/24", "53");
    assert!(!takes_answers(&world) && snapshot(&world).client_answers().unwrap() == Some(0));
}

/// Tables of another size that cannot be had are an error, and answers go on leaving as asked.
#[test]
fn another_size_that_cannot_be() {
    let Some(world) = World::new() else { return };
    world.local("192.0.2.0/24").unwrap();
    let mut instance = up(&world);
    bind(&mut instance, "dns", Udp, "192.0.2.0/24", "53");
    let server = UdpServer::spawn("dns", anywhere()).unwrap();
    instance.register("dns", &server).unwrap();
    // The size that was written is written back.
    let pins =
        || -> Vec<String> { tree(world.bpffs.path()).into_iter().filter(|pin| !pin.ends_with("/max-flows")).collect() };
    let (size, before) = (instance.max_flows().unwrap(), pins());
    drop(instance);
    assert_eq!(answered_from("192.0.2.9:53"), "192.0.2.9:53");
    crate::common::killed::without(&world, "child", "no larger", "cgroup2");
    assert_eq!(answered_from("192.0.2.9:53"), "192.0.2.9:53");
    let mut instance = open(&world);
    assert_eq!((instance.max_flows().unwrap(), pins()), (size, before));
    instance.set_max_flows(1 << 12).unwrap();
    assert_eq!(answered_from("192.0.2.9:53"), "192.0.2.9:53");
}
