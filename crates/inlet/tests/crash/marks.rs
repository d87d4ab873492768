//! What hands marks over is attached before a commit is in force, and goes after one that does not need it.

use inlet::rules::Protocol::{Tcp, Udp};
use inlet::{ApplyOptions, Instance};
use inlet_testkit::World;
use libc::{NFPROTO_IPV4, NFPROTO_IPV6};

use crate::common::marks::{Hooks, require_marks};
use crate::common::{Receiver, asked, here, open, source, tree, up};
use crate::{DOWN, MARKED, MARKS, NEW, NO_MARKS, OLD, killed, works_and_ends};

const BOTH: &[i32] = &[NFPROTO_IPV4, NFPROTO_IPV6];

/// An instance with these rules, and receivers for those that come.
fn with(rules: &str) -> Option<(World, Vec<Receiver>)> {
    let world = World::new().filter(|_| require_marks())?;
    world.local("192.0.2.0/24").unwrap();
    world.local("2001:db8::/64").unwrap();
    let mut instance = up(&world);
    instance.apply(source(rules), &ApplyOptions::default()).unwrap();
    let names = ["old", "web"].into_iter();
    let receivers = names.map(|name| Receiver::of(&mut instance, name)).collect();
    Some((world, receivers))
}

#[test]
fn marks_at_every_step() {
    for (step, is_new) in MARKS {
        let Some((world, receivers)) = with(OLD) else { return };
        let mut hooks = Hooks::default();
        killed(&world, "marks", step, None);
        let [v4, v6] = if *is_new { ["web", "web"] } else { ["old", "Refused"] };
        for protocol in [Tcp, Udp] {
            assert_eq!(asked(protocol, "192.0.2.9:80"), v4, "{step}");
            assert_eq!(asked(protocol, "[2001:db8::9]:80"), v6, "{step}");
        }
        hooks.note(&world);
        // The next command keeps them or takes them away.
        drop(open(&world));
        hooks.become_those_of(&world, if *is_new { BOTH } else { &[] });
        let mut instance = open(&world);
        assert_eq!(here(&world).dir().join("marks").exists(), *is_new, "{step}");
        instance.apply(source(MARKED), &ApplyOptions::default()).unwrap();
        assert_eq!([asked(Tcp, "192.0.2.9:80"), asked(Udp, "[2001:db8::9]:80")], ["web", "web"], "{step}");
        hooks.become_those_of(&world, BOTH);
        instance.apply(source(NEW), &ApplyOptions::default()).unwrap();
        hooks.become_those_of(&world, &[]);
        drop((instance, receivers));
        works_and_ends(&world, step);
    }
}

#[test]
fn the_end_of_marks_at_every_step() {
    for (step, is_new) in NO_MARKS {
        let Some((world, receivers)) = with(MARKED) else { return };
        let mut hooks = Hooks::default();
        hooks.become_those_of(&world, BOTH);
        killed(&world, "commit", step, None);
        assert_eq!(asked(Tcp, "192.0.2.9:80"), "web", "{step}");
        assert_eq!(asked(Tcp, "[2001:db8::9]:80"), if *is_new { "Refused" } else { "web" }, "{step}");
        drop(open(&world));
        hooks.become_those_of(&world, if *is_new { &[] } else { BOTH });
        let mut instance = open(&world);
        instance.apply(source(NEW), &ApplyOptions::default()).unwrap();
        hooks.become_those_of(&world, &[]);
        drop((instance, receivers));
        works_and_ends(&world, step);
    }
}

/// The end of an instance that has them.
#[test]
fn down_with_marks_at_every_step() {
    for step in [DOWN, &["marks:detached", "marks:removed"]].concat() {
        let Some((world, receivers)) = with(MARKED) else { return };
        let mut hooks = Hooks::default();
        hooks.become_those_of(&world, BOTH);
        killed(&world, "down", step, None);
        Instance::down(&here(&world)).unwrap();
        hooks.become_those_of(&world, &[]);
        assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
        assert_eq!(asked(Tcp, "192.0.2.9:80"), "Refused", "{step}");
        drop(receivers);
    }
}
