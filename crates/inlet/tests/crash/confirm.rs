//! Going back, and confirmation.

use std::time::Duration;

use inlet::rules::Protocol::Tcp;
use inlet::{ApplyOptions, CommitOptions, ConfirmError, Error};
use inlet_testkit::World;

use crate::common::{Receiver, asked, open, snapshot, source, tree, tree_of_one, up};
use crate::{COMMIT, CONFIRM, NEW, OLD, for_a_time, killed, works_and_ends};

/// A commit that goes back is one as any other; and so is the one of who comes when the time to confirm is over.
#[test]
fn going_back_at_every_step() {
    for (step, is_back) in COMMIT.iter().filter(|(step, _)| !["retire:hidden", "slots:emptied"].contains(step)) {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        instance.apply(source(OLD), &ApplyOptions::default()).unwrap();
        let receivers = ["old", "gone", "web"].map(|name| Receiver::of(&mut instance, name));
        instance.apply(source(NEW), &ApplyOptions::default()).unwrap();
        drop(instance);
        killed(&world, "roll back", step, None);
        let expected = |is_old: bool| if is_old { ("old", "gone") } else { ("web", "Refused") };
        let asked = || (asked(Tcp, "192.0.2.9:80"), asked(Tcp, "192.0.2.9:81"));
        let told = asked();
        assert_eq!((told.0.as_str(), told.1.as_str()), expected(*is_back), "{step}");
        // Once more is the other one, with its sockets.
        open(&world).roll_back(&CommitOptions::default()).unwrap();
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
        instance.apply(source(OLD), &ApplyOptions::default()).unwrap();
        let receivers = ["old", "gone", "web"].map(|name| Receiver::of(&mut instance, name));
        drop(instance);
        killed(&world, "commit to confirm", step, None);
        let at_80 = if *is_new { "web" } else { "old" };
        assert_eq!(asked(Tcp, "192.0.2.9:80"), at_80, "{step}");
        assert_eq!(snapshot(&world).pending().unwrap().is_some(), *is_new, "{step}");
        if *is_new {
            assert!(
                matches!(
                    open(&world).apply(source(OLD), &ApplyOptions::default()),
                    Err(Error::Confirm(ConfirmError::Unconfirmed { .. }))
                ),
                "{step}"
            );
            open(&world).roll_back(&CommitOptions::default()).unwrap();
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
        instance.apply(source(OLD), &ApplyOptions::default()).unwrap();
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

#[test]
fn confirm_at_every_step() {
    for step in CONFIRM {
        let Some(world) = World::new() else { return };
        world.local("192.0.2.0/24").unwrap();
        let mut instance = up(&world);
        instance.apply(source(OLD), &ApplyOptions::default()).unwrap();
        let receiver = Receiver::of(&mut instance, "web");
        for_a_time(&mut instance, Duration::from_secs(3600));
        drop(instance);
        killed(&world, "confirm", step, None);
        assert_eq!(snapshot(&world).pending().unwrap(), None, "{step}");
        assert!(matches!(open(&world).confirm(), Err(Error::Confirm(ConfirmError::NothingToConfirm))), "{step}");
        assert_eq!(asked(Tcp, "192.0.2.9:80"), "web", "{step}");
        drop(receiver);
        works_and_ends(&world, step);
    }
}
