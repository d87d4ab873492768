//! Network namespaces and the private bpffs.

use std::fs;
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use inlet_testkit::{
    Answer, BpfFs, Dial, Namespace, Netns, TcpServer, UdpServer, World, dial_tcp, require_program, require_root,
};

use crate::{assert_from, at, host_mounts, stdout, thread_netns};

#[test]
fn namespaces_in_parallel_threads_are_apart() {
    if !require_root() {
        return;
    }
    let both = Barrier::new(2);
    let visit = |name: &'static str| {
        let netns = Netns::new().unwrap();
        let server = TcpServer::spawn(name, at("127.0.0.1:7000")).unwrap();
        both.wait();
        let answer = dial_tcp(at("127.0.0.1:7000"), &Dial::new());
        assert_from(&answer, name, "127.0.0.1:7000");
        assert_eq!(server.served(), 1);
        both.wait();
        netns.inode().unwrap()
    };
    thread::scope(|scope| {
        let one = scope.spawn(|| visit("one"));
        let two = scope.spawn(|| visit("two"));
        assert_ne!(one.join().unwrap(), two.join().unwrap());
    });
}

#[test]
fn guards_restore_what_was() {
    if !require_root() {
        return;
    }
    let (netns, directory) = (thread_netns(), std::env::current_dir().unwrap());
    let mounts = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let world = World::new().unwrap();
    assert_ne!(thread_netns(), netns);
    assert_ne!(fs::read_link("/proc/thread-self/ns/mnt").unwrap(), mounts);
    assert_eq!(std::env::current_dir().unwrap(), directory);
    // A thread that still shares this one's directory must not stop the return.
    let server = UdpServer::spawn("late", at("127.0.0.1:0")).unwrap();
    drop(world);
    assert_eq!(thread_netns(), netns);
    assert_eq!(fs::read_link("/proc/thread-self/ns/mnt").unwrap(), mounts);
    assert_eq!(std::env::current_dir().unwrap(), directory);
    drop(server);
}

#[test]
fn a_namespace_is_restored_after_a_panic() {
    if !require_root() {
        return;
    }
    let before = thread_netns();
    let other = Netns::unentered().unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        other.enter(|| std::panic::resume_unwind(Box::new("on purpose")))
    }));
    assert!(result.is_err());
    assert_eq!(thread_netns(), before);
}

#[test]
fn another_namespace_is_entered_for_a_closure_only() {
    if !require_root() {
        return;
    }
    let netns = Netns::new().unwrap();
    let other = Netns::unentered().unwrap();
    let there = other.enter(|| TcpServer::spawn("there", at("127.0.0.1:7000"))).unwrap();
    assert_eq!(Namespace::current().unwrap().inode().unwrap(), netns.inode().unwrap());
    let dial = || dial_tcp(at("127.0.0.1:7000"), &Dial::new());
    assert_eq!(dial(), Answer::Refused);
    assert_eq!(other.enter(dial).name(), Some("there"));
    assert_eq!(there.served(), 1);
}

#[test]
fn the_path_leads_other_processes_in() {
    if !require_root() || !require_program("nsenter") {
        return;
    }
    let other = Netns::unentered().unwrap();
    let inode = stdout(
        Command::new("nsenter")
            .arg(format!("--net={}", other.path().display()))
            .args(["readlink", "/proc/self/ns/net"]),
    );
    assert_eq!(inode, format!("net:[{}]", other.inode().unwrap()));
}

#[test]
fn failures_of_ip_carry_its_words() {
    if !require_root() {
        return;
    }
    let netns = Netns::new().unwrap();
    let error = netns.ip(&["link", "set", "nosuch", "up"]).unwrap_err();
    assert!(error.to_string().contains("nosuch"), "{error}");
}

#[test]
fn the_bpffs_is_private_and_goes_away() {
    if !require_root() {
        return;
    }
    let before = host_mounts();
    let bpffs = BpfFs::new().unwrap();
    let path = bpffs.path().to_owned();
    assert_eq!(host_mounts(), before);
    let own = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    assert!(own.contains(&format!("{} bpf", path.display())), "{own}");
    fs::create_dir(path.join("inside")).unwrap();
    // The main thread's view of the same directory is empty.
    let seen = format!("/proc/{}/root{}", std::process::id(), path.display());
    assert_eq!(fs::read_dir(seen).unwrap().count(), 0);
    drop(bpffs);
    assert!(!path.exists());
    assert_eq!(host_mounts(), before);
}

#[test]
fn two_bpffs_nest_and_a_dead_directory_is_swept() {
    if !require_root() {
        return;
    }
    let stale = std::env::temp_dir().join("inlet-testkit/bpffs-of-the-dead");
    fs::create_dir_all(&stale).unwrap();
    let outer = BpfFs::new().unwrap();
    let inner = BpfFs::new().unwrap();
    assert!(!stale.exists());
    assert!(outer.path().exists() && outer.path() != inner.path());
    drop(inner);
    fs::create_dir(outer.path().join("still-a-bpffs")).unwrap();
}
