//! What an interrupted command left goes with `inlet gc`, whether or not another command follows in its namespace.

use std::fs::{File, remove_dir, rename};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Instant;

use inlet::rules::Protocol::Tcp;
use inlet::{Listed, Unfinished};
use inlet_testkit::{PATIENCE, TcpServer, World};
use rustix::fs::{FlockOperation, flock};

use crate::common::{self, asked, here, open, snapshot, tree, tree_of_one};
use crate::{DETACH, DOWN, UP, both_families, killed};

fn listed(world: &World) -> Vec<Listed> {
    inlet::list(world.bpffs.path()).unwrap()
}

/// What `inlet gc` removes.
fn unfinished(world: &World) -> Vec<Listed> {
    listed(world).into_iter().filter(|it| it.unfinished.is_some()).collect()
}

#[test]
fn of_up_at_every_step() {
    for step in UP {
        let Some(world) = World::new() else { return };
        killed(&world, "up", step, None);
        let found = unfinished(&world);
        let left = !["up:root", "up:published"].contains(step);
        assert_eq!(found.iter().map(|it| it.unfinished).collect::<Vec<_>>(), vec![Some(Unfinished::Up); left.into()]);
        assert!(found.iter().all(|it| it.location.is_some() && it.remove().unwrap()), "{step}");
        match *step {
            "up:published" => assert_eq!(snapshot(&world).generation(), 1),
            _ => assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}"),
        }
    }
}

#[test]
fn of_down_at_every_step() {
    for step in DOWN.iter().chain(DETACH) {
        let Some(world) = World::new() else { return };
        let targets = both_families(&world);
        common::bind(&mut open(&world), "dns", inlet::rules::Protocol::Udp, "192.0.2.0/24", "53");
        let server = TcpServer::spawn("web", common::anywhere()).unwrap();
        open(&world).register("web", &server).unwrap();
        killed(&world, "down", step, None);
        let found = unfinished(&world);
        assert_eq!(found.iter().map(|it| it.unfinished).collect::<Vec<_>>(), [Some(Unfinished::Down)], "{step}");
        assert!(found[0].remove().unwrap(), "{step}");
        assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
        assert_eq!(targets.map(|target| asked(Tcp, target)), ["Refused", "Refused"], "{step}");
        // Who comes late finds it gone.
        assert!(found[0].remove().unwrap(), "{step}");
    }
}

/// A command that runs has the lock. What it makes is not taken away from it, and stays when it is done.
#[test]
fn of_a_running_command_it_does_not_touch() {
    let Some(world) = World::new() else { return };
    killed(&world, "up", "up:made", None);
    let (dir, root) = (here(&world).dir(), world.bpffs.path().join("inlet"));
    let half = unfinished(&world).remove(0);
    // From here on this test is that command.
    let lock = File::open(root.join("lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let inode = lock.metadata().unwrap().ino();
    let made = half.directory.clone();
    let collector = thread::spawn(move || half.remove());
    let waits = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&format!(":{inode} ")))
    };
    let until = Instant::now() + PATIENCE;
    while !waits() {
        assert!(Instant::now() < until && !collector.is_finished(), "nobody waits for the lock");
        thread::yield_now();
    }
    assert!(made.is_dir());
    rename(&made, &dir).unwrap();
    remove_dir(root.join("lock")).unwrap();
    drop(lock);
    assert!(collector.join().unwrap().unwrap());
    assert_eq!(tree(world.bpffs.path()), tree_of_one(&world, 1));
    assert_eq!(snapshot(&world).generation(), 1);
}
