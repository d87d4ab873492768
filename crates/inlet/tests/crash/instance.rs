//! The beginning and the end of an instance.

use inlet::rules::Protocol::Tcp;
use inlet::{Error, Instance, Snapshot, StateError, UpOptions};
use inlet_testkit::{TcpServer, World};

use crate::common::{self, asked, here, open, to, tree, tree_of_one, up};
use crate::{DOWN, UP, both_families, killed, works_and_ends};

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
            assert!(matches!(again, Err(Error::State(StateError::AlreadyUp { .. }))), "{step}: {again:?}");
        } else {
            assert!(matches!(read, Err(Error::State(StateError::NotUp { .. }))), "{step}: {read:?}");
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
            Err(Error::State(StateError::NotUp { .. })) if *step == "up:root" => {}
            Err(error) => panic!("{step}: {error}"),
        }
        assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
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
            assert!(matches!(Snapshot::open(here(&world)), Err(Error::State(StateError::NotUp { .. }))), "{step}");
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
                assert!(matches!(Instance::down(&here(&world)), Err(Error::State(StateError::NotUp { .. }))), "{step}");
            }
        }
    }
}
