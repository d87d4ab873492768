//! Sockets that come and go: by a description and by hand.

use std::os::fd::AsFd;

use inlet::ServiceRequest;
use inlet::rules::Protocol::Tcp;
use inlet_testkit::{TcpServer, World};

use crate::common::{self, Receiver, asked, open, snapshot, state};
use crate::{DESCRIBE, MOVE, REGISTER, UNREGISTER, both_families, killed, works_and_ends};

/// Before the commit point nothing of the description is in force, and from there on all of it. The next command,
/// whichever it is, does what was left to do or takes back what was begun.
#[test]
fn describe_at_every_step() {
    for (step, is_new) in DESCRIBE {
        let Some(world) = World::new() else { return };
        let targets = both_families(&world);
        let server = TcpServer::spawn("early", "[::]:8080".parse().unwrap()).unwrap();
        killed(&world, "describe", step, None);
        let described = snapshot(&world).ruleset().services().iter().filter(|(_, it)| it.description.is_some()).count();
        let (count, answer) = if *is_new { (1, "early") } else { (0, "Refused") };
        assert_eq!(described, count, "{step}");
        // Its sockets were there first.
        assert_eq!(targets.map(|target| asked(Tcp, target)), [answer; 2], "{step}");
        drop(open(&world));
        assert_eq!(targets.map(|target| asked(Tcp, target)), [answer; 2], "{step}");
        assert_eq!(state(&world, "web").sockets.len(), count, "{step}");
        if !is_new {
            // A listener that would be meant is not.
            let other = TcpServer::spawn("other", "127.0.0.1:8080".parse().unwrap());
            assert_eq!(state(&world, "web").sockets.len(), 0, "{step}");
            drop(other);
            crate::described(&mut open(&world));
            assert_eq!(targets.map(|target| asked(Tcp, target)), ["early", "early"], "{step}");
        }
        drop(server);
        let server = TcpServer::spawn("late", "[::]:8080".parse().unwrap()).unwrap();
        assert_eq!(targets.map(|target| asked(Tcp, target)), ["late", "late"], "{step}");
        let found = open(&world).adopt().unwrap();
        assert!(found.iter().all(|found| found.outcome.is_ok()) && found.len() == 1, "{step}: {found:?}");
        drop(server);
        let by_hand = inlet::ServiceRequest { description: Some(None), ..inlet::ServiceRequest::default() };
        open(&world).set_service(&"web".parse().unwrap(), by_hand).unwrap();
        works_and_ends(&world, step);
    }
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

/// A lane that grows beyond its range moves to another one. Its sockets receive before, after and in between, and none
/// of another service does.
#[test]
fn a_lane_moves_at_every_step() {
    for step in MOVE {
        let Some(world) = World::new() else { return };
        let targets = both_families(&world);
        let mut instance = open(&world);
        let servers = |name: &str, count| -> Vec<TcpServer> {
            (0..count).map(|_| TcpServer::spawn(name, common::anywhere()).unwrap()).collect()
        };
        instance.set_service(&"other".parse().unwrap(), ServiceRequest::default()).unwrap();
        let (web, other) = (servers("web", 9), servers("other", 9));
        // As many as a range has at first; the range of the other service is behind it.
        for (web, other) in web.iter().zip(&other).take(8) {
            instance.register("web", web).unwrap();
            instance.register("other", other).unwrap();
        }
        drop(instance);
        killed(&world, "register", step, Some(web[8].as_fd().try_clone_to_owned().unwrap()));
        let everybody_answers = |count: usize| {
            let served = || web.iter().map(|server| server.served()).collect::<Vec<_>>();
            let before = served();
            for _ in 0..20 * count {
                assert_eq!(targets.map(|target| asked(Tcp, target)), ["web", "web"], "{step}");
            }
            let of = served().iter().zip(before).filter(|(after, before)| **after > *before).count();
            assert_eq!((of, state(&world, "web").sockets.len()), (count, count), "{step}");
        };
        everybody_answers(8);
        let mut instance = open(&world);
        instance.register("other", &other[8]).unwrap();
        instance.register("web", &web[8]).unwrap();
        drop(instance);
        everybody_answers(9);
        assert_eq!(state(&world, "other").sockets.len(), 9, "{step}");
        assert_eq!(open(&world).unregister("web", None).unwrap(), 9, "{step}");
        drop((web, other));
        works_and_ends(&world, step);
    }
}
