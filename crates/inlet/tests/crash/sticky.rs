//! Flows that stay on their sockets, and sockets that are drained.

use inlet::rules::Protocol::Udp;
use inlet::rules::Sticky;
use inlet::{AnswersState, Instance, ServiceRequest};
use inlet_testkit::{UdpServer, World};

use crate::answers::answered_from;
use crate::common::{anywhere, asked, bind, here, open, snapshot, tree, tree_of_one, up};
use crate::{DRAIN, RESIZE, STICKY, killed, works_and_ends};

pub(super) fn set(instance: &mut Instance) {
    let request = ServiceRequest { sticky: Sticky::new(300), ..ServiceRequest::default() };
    instance.set_service(&"dns".parse().unwrap(), request).unwrap();
}

/// A server of this process takes the place of one of the parent.
pub(super) fn drain(instance: &mut Instance) {
    let server = UdpServer::spawn("child", anywhere()).unwrap();
    instance.register("dns", &server).unwrap();
    instance.drain("dns", rustix::process::getppid().unwrap().as_raw_pid() as u32).unwrap();
}

fn serving() -> Option<(World, UdpServer)> {
    let world = World::new()?;
    world.local("192.0.2.0/24").unwrap();
    let mut instance = up(&world);
    bind(&mut instance, "dns", Udp, "192.0.2.0/24", "53");
    let server = UdpServer::spawn("dns", anywhere()).unwrap();
    instance.register("dns", &server).unwrap();
    Some((world, server))
}

#[test]
fn becoming_sticky_at_every_step() {
    for step in STICKY {
        let Some((world, _server)) = serving() else { return };
        killed(&world, "sticky", step, None);
        assert_eq!(asked(Udp, "192.0.2.9:53"), "dns", "{step}");
        let instance = open(&world);
        assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, instance.generation()), "{step}");
        drop(instance);
        works_and_ends(&world, step);
    }
}

#[test]
fn another_size_at_every_step() {
    for step in RESIZE {
        let Some((world, server)) = serving() else { return };
        set(&mut open(&world));
        assert_eq!(answered_from("192.0.2.9:53"), "192.0.2.9:53", "{step}");
        killed(&world, "resize", step, None);
        assert_eq!(answered_from("192.0.2.9:53"), "192.0.2.9:53", "{step}");
        assert!(matches!(snapshot(&world).answers().unwrap(), AnswersState::Asked { .. }), "{step}");
        // The next change brings what was asked for.
        bind(&mut open(&world), "dns", Udp, "192.0.2.0/24", "54");
        let AnswersState::Asked { table, .. } = snapshot(&world).answers().unwrap() else { panic!("{step}") };
        let stays = snapshot(&world).stays().unwrap().unwrap();
        assert_eq!((table.max, stays.max), (4096, 4096), "{step}");
        assert!(!tree(&here(&world).dir()).iter().any(|pin| pin.contains("before")), "{step}");
        assert_eq!(answered_from("192.0.2.9:53"), "192.0.2.9:53", "{step}");
        drop(server);
        Instance::down(&here(&world)).unwrap();
        assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
    }
}

#[test]
fn draining_at_every_step() {
    for (step, who) in DRAIN {
        let Some((world, server)) = serving() else { return };
        set(&mut open(&world));
        killed(&world, "drain", step, None);
        assert_eq!(asked(Udp, "192.0.2.9:53"), *who, "{step}");
        let mut instance = open(&world);
        instance.register("dns", &server).unwrap();
        assert_eq!(asked(Udp, "192.0.2.9:53"), "dns", "{step}");
        drop((instance, server));
        Instance::down(&here(&world)).unwrap();
        assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
    }
}
