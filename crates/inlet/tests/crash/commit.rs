//! Commits.

use inlet::rules::Protocol::{Tcp, Udp};
use inlet::{ApplyOptions, ServiceRequest};
use inlet_testkit::World;

use crate::common::{Receiver, asked, here, open, snapshot, source, state, tree, tree_of_one, up};
use crate::{COMMIT, NEW, OLD, OLDEST, killed, works_and_ends};

#[test]
fn commit_at_every_step() {
    for (step, is_new) in COMMIT {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        // What a service has that went with an earlier commit goes with this one.
        instance.apply(source(OLDEST), &ApplyOptions::default()).unwrap();
        let oldest = Receiver::of(&mut instance, "oldest");
        instance.apply(source(OLD), &ApplyOptions::default()).unwrap();
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
        instance.apply(source(NEW), &ApplyOptions::default()).unwrap();
        drop(instance);
        assert_eq!(asked(Tcp, "192.0.2.9:80"), "web", "{step}");
        assert_eq!(asked(Tcp, "192.0.2.9:81"), "Refused", "{step}");
        drop((receivers, oldest));
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
