//! Programs of SO_REUSEPORT groups that are not asked, and maps that are none of Inlet's: what the check and the writer say
//! of them.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::os::fd::AsFd;

use common::{bind, here, open, up};
use inlet::rules::Protocol::Tcp;
use inlet::{Checker, Error, Instance, StateError};
use inlet_testkit::{Listen, PATIENCE, TcpServer, World};
use libbpf_rs::{MapHandle, MapType};

fn found(world: &World) -> Vec<inlet::Finding> {
    let mut found = Checker::new(here(world)).check(None).unwrap().findings;
    found.retain(|finding| finding.code.starts_with("reuseport-program"));
    found
}

#[test]
fn a_program_that_is_not_asked_is_found() {
    let Some(world) = World::new() else { return };
    let mut instance = up(&world);
    world.local("192.0.2.0/24").unwrap();
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    let group = TcpServer::spawn_with("web", "127.0.0.1:0".parse().unwrap(), Listen::new().workers(2)).unwrap();
    for worker in group.sockets() {
        instance.register("web", worker).unwrap();
    }
    drop(instance);
    assert_eq!(found(&world), []);
    let map = common::bpf::map_of_sockets(MapType::Sockmap, group.as_fd()).unwrap();
    let program = common::bpf::selecting(map.as_fd());
    common::bpf::attach_to_group(group.as_fd(), program.as_fd());
    let [finding] = &found(&world)[..] else { panic!("{:?}", found(&world)) };
    let at = group.local_addr();
    assert_eq!(finding.code, "reuseport-program-not-asked");
    assert!(finding.what.contains(&format!("chooses tcp:{at} of process {} (", std::process::id())), "{finding:?}");
    assert!(finding.what.ends_with(", which service web has, and is not asked"), "{finding:?}");
    // Of a program without a map only the process tells.
    drop(program);
    drop(map);
    let program = common::bpf::selecting_none();
    common::bpf::attach_to_group(group.as_fd(), program.as_fd());
    let [finding] = &found(&world)[..] else { panic!("{:?}", found(&world)) };
    assert_eq!((finding.code, finding.severity), ("reuseport-program-maybe", inlet::Severity::Note));
    drop((program, group));
}

/// The kernel takes a socket into one of the two kinds of maps only.
#[test]
fn a_socket_in_a_reuseport_array_is_named_as_such() {
    let Some(world) = World::new() else { return };
    let mut instance = up(&world);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    let server = TcpServer::spawn_with("web", "127.0.0.1:0".parse().unwrap(), Listen::new().reuseport()).unwrap();
    let map = common::bpf::map_of_sockets(MapType::ReuseportSockarray, server.as_fd()).unwrap();
    let error = instance.register("web", &server).unwrap_err();
    assert!(error.to_string().contains("Device or resource busy"), "{error}");
    drop(map);
    // The map lets go of it a moment after it is closed.
    let until = std::time::Instant::now() + PATIENCE;
    while instance.register("web", &server).is_err() {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    assert!(
        common::bpf::map_of_sockets(MapType::ReuseportSockarray, server.as_fd()).is_err(),
        "nor the other way round"
    );
}

#[test]
fn another_map_at_the_place_of_ours_is_refused() {
    let Some(world) = World::new() else { return };
    drop(up(&world));
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    for (name, kind, sizes, entries, expected) in [
        ("counters", MapType::Hash, (4, 32), 4096, "Hash, key 4, value 32, entries 4096"),
        ("lanes", MapType::Array, (4, 4), 16384, "Array, key 4, value 4, entries 16384"),
        ("lanes", MapType::Array, (4, 8), 16, "Array, key 4, value 8, entries 16"),
        ("sockets", MapType::Array, (4, 8), 16, "Array, key 4, value 8, entries 16"),
    ] {
        let path = here(&world).dir().join(name);
        let (aside, mut other) = (
            here(&world).dir().join(format!("{name}-aside")),
            MapHandle::create(kind, Some("test"), sizes.0, sizes.1, entries, &opts).unwrap(),
        );
        std::fs::rename(&path, &aside).unwrap();
        other.pin(&path).unwrap();
        let error = Instance::open(here(&world)).unwrap_err();
        let Error::State(StateError::OtherMap { path: found_path, found, .. }) = &error else { panic!("{error:?}") };
        assert_eq!((found_path, found.as_str()), (&path, expected));
        assert!(error.to_string().starts_with(&format!("{} is another map than inlet pins there", path.display())));
        assert!(matches!(inlet::Snapshot::open(here(&world)).unwrap_err(), Error::State(StateError::OtherMap { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
    }
    drop(open(&world));
}
