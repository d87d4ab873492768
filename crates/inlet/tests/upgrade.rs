//! State that earlier versions made becomes state of this one while packets go on being steered.
//!
//! `tests/state/` has what builds of these versions left in the kernel, as it was read there: the image of a generation, and
//! beside it what its `export` wrote. Maps are made here in the sizes that they had. Their program is stood in for by
//! one that gives every packet to the socket of one slot of their map of sockets.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use common::bpf::{attach, choosing_from};
use common::{Running, asked, at, here, killed, open, snapshot, state, told, tree};
use inlet::rules::Protocol::Tcp;
use inlet::rules::config::Source;
use inlet::rules::{Plan, ServiceId, image};
use inlet::{CommitOptions, Error, Instance, Snapshot, StateError, Unfinished, UpOptions};
use inlet_testkit::{TcpServer, UdpServer, World};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, num_possible_cpus};

const MAX_SOCKETS: u32 = 100;
const LANES: u32 = 4 * 4096;
const LANE_SLOTS: usize = 64;
/// How many packets the earlier version counted, on each processor.
const COUNTED: u64 = 7;

/// What an earlier version made.
struct Format {
    number: u32,
    /// The words of a lane before its slots; the first one says how many slots are shown.
    head: usize,
    slots_per_socket: u32,
    /// Later additions to the first format.
    has_binds: bool,
    generation: u64,
    image: &'static [u8],
    previous: Option<&'static [u8]>,
    export: &'static str,
}

const FORMATS: [Format; 2] = [
    Format {
        number: 1,
        head: 1,
        slots_per_socket: 1,
        has_binds: false,
        generation: 10,
        image: include_bytes!("state/format-1.image"),
        previous: None,
        export: include_str!("state/format-1.json"),
    },
    Format {
        number: 2,
        head: 2,
        slots_per_socket: 2,
        has_binds: true,
        generation: 11,
        image: include_bytes!("state/format-2.image"),
        previous: Some(include_bytes!("state/format-2.previous")),
        export: include_str!("state/format-2.json"),
    },
];

/// The servers of the services in these rulesets.
struct Servers {
    v4: TcpServer,
    v6: TcpServer,
    _ntp: UdpServer,
}

impl Servers {
    fn start() -> Self {
        Self {
            v4: TcpServer::spawn("web", "127.0.0.1:0".parse().unwrap()).unwrap(),
            v6: TcpServer::spawn("web6", "[::1]:0".parse().unwrap()).unwrap(),
            _ntp: UdpServer::spawn("ntp", "127.0.0.1:1123".parse().unwrap()).unwrap(),
        }
    }
}

fn map(kind: MapType, name: &str, [key, value]: [u32; 2], entries: u32, flags: u32, pin: &Path) -> MapHandle {
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags,
        ..Default::default()
    };
    let mut map = MapHandle::create(kind, Some(name), key, value, entries, &opts).unwrap();
    map.pin(pin).unwrap();
    map
}

/// A map of one value, which nobody can change.
fn frozen(name: &str, value: &[u8], pin: &Path) {
    let map = map(MapType::Array, name, [4, value.len() as u32], 1, libbpf_sys::BPF_F_MMAPABLE, pin);
    map.update(&[0; 4], value, MapFlags::ANY).unwrap();
    map.freeze().unwrap();
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
}

/// What a lane was: so many slots, all of them shown.
fn lane(format: &Format, slots: &[u32]) -> Vec<u8> {
    let mut lane = vec![slots.len() as u32; format.head];
    lane.extend(slots);
    lane.resize(format.head + LANE_SLOTS, 0);
    let bytes: Vec<u8> = lane.iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert!(bytes.len() == (format.head + LANE_SLOTS) * 4);
    bytes
}

/// Makes the state of an earlier version, with the servers in the service `web`.
fn made_by(format: &Format, world: &World, servers: &Servers) -> PathBuf {
    for prefix in ["192.0.2.0/24", "2001:db8::/64"] {
        world.local(prefix).unwrap();
    }
    let dir = here(world).dir();
    let generation = dir.join(format!("gen-{}", format.generation));
    fs::create_dir_all(&generation).unwrap();
    for made in [&dir, &generation] {
        fs::set_permissions(made, fs::Permissions::from_mode(0o750)).unwrap();
    }
    fs::set_permissions(dir.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let meta = map(MapType::Array, "inlet_meta", [4, 4], 1, 0, &dir.join("meta"));
    meta.update(&[0; 4], &format.number.to_ne_bytes(), MapFlags::ANY).unwrap();
    let slots = MAX_SOCKETS * format.slots_per_socket;
    let sockets = map(MapType::Sockmap, "inlet_sockets", [4, 8], slots, 0, &dir.join("sockets"));
    let bytes = lane(format, &[]).len() as u32;
    let lanes = map(MapType::Array, "inlet_lanes", [4, bytes], LANES, libbpf_sys::BPF_F_MMAPABLE, &dir.join("lanes"));
    let counters = map(MapType::PercpuArray, "inlet_counters", [4, 32], 4096, 0, &dir.join("counters"));
    if format.has_binds {
        map(MapType::RingBuf, "inlet_binds", [0, 0], 1 << 16, 0, &dir.join("binds"));
        fs::create_dir(dir.join("watch")).unwrap();
    }
    let web = u32::from(web(format).get());
    // The lanes of a service: TCP and UDP over IPv4, then over IPv6. Slots between those in use were given back.
    for (server, slot, of) in [(&servers.v4, 0_u32, 0), (&servers.v6, 5, 2)] {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&server.as_fd()) as u64;
        sockets.update(&slot.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY).unwrap();
        lanes.update(&(web * 4 + of).to_ne_bytes(), &lane(format, &[slot]), MapFlags::ANY).unwrap();
    }
    let mut value = [0; 32];
    value[..8].copy_from_slice(&COUNTED.to_ne_bytes());
    counters
        .update_percpu(&web.to_ne_bytes(), &vec![value.to_vec(); num_possible_cpus().unwrap()], MapFlags::ANY)
        .unwrap();
    frozen("inlet_image", format.image, &generation.join("image"));
    if let Some(previous) = format.previous {
        frozen("inlet_previous", previous, &generation.join("previous"));
    }
    let program = choosing_from(&sockets, 0);
    pin(&program, &generation.join("program"));
    pin(&attach(program.as_fd(), world.as_fd()), &dir.join("link"));
    dir
}

fn web(format: &Format) -> ServiceId {
    image::decode(&words(format.image)).unwrap().services().id("web").unwrap()
}

fn pin(object: &impl AsFd, path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&object.as_fd());
    // SAFETY: the descriptor is open, and the path ends in NUL and outlives the call.
    assert_eq!(unsafe { libbpf_sys::bpf_obj_pin(fd, path.as_ptr()) }, 0);
}

/// All that must be so once this version has the instance.
#[track_caller]
fn is_taken_over(format: &Format, world: &World) {
    let (dir, now) = (here(world).dir(), snapshot(world));
    let export = Source::new("format.json", format.export.to_owned());
    let netns = inlet::Netns::own().unwrap();
    let exported = inlet::read_ruleset(export, &netns, now.ruleset()).unwrap().ruleset;
    assert!(Plan::between(&exported, now.ruleset()).is_empty(), "{:?}", Plan::between(&exported, now.ruleset()));
    assert_eq!((now.generation(), now.max_sockets()), (format.generation + 1, MAX_SOCKETS));
    drop(now);
    let web = state(world, "web");
    assert_eq!(web.sockets.len(), 2);
    assert!(web.counters.steered >= COUNTED * num_possible_cpus().unwrap() as u64, "{:?}", web.counters);
    assert_eq!(asked(Tcp, "192.0.2.1:80"), "web");
    assert_eq!(asked(Tcp, "[2001:db8::1]:8500"), "web6");
    // Ports without a rule are the kernel's again.
    assert_eq!(asked(Tcp, "192.0.2.1:81"), "Refused");
    let root = dir.parent().unwrap();
    assert_eq!(fs::read_dir(root).unwrap().count(), 1, "{:?}", tree(root));
    let described = state(world, "ntp").description.is_some();
    assert_eq!(state(world, "ntp").sockets.len(), usize::from(described));
}

fn each_format(test: impl Fn(&Format, &World)) {
    for format in &FORMATS {
        let Some(world) = World::new() else { return };
        test(format, &world);
    }
}

#[test]
fn packets_are_steered_all_the_while() {
    each_format(|format, world| {
        let servers = Servers::start();
        made_by(format, world, &servers);
        let (running, dialled) = (Running::new(), AtomicU64::new(0));
        thread::scope(|scope| {
            let _guard = running.guard();
            let dialler = scope.spawn(|| {
                while running.goes_on() {
                    assert_eq!(asked(Tcp, "192.0.2.1:80"), "web");
                    dialled.fetch_add(1, Ordering::Relaxed);
                }
            });
            let more = |than: u64| {
                while dialled.load(Ordering::Relaxed) < than + 50 && !dialler.is_finished() {
                    thread::yield_now();
                }
            };
            more(0);
            let (_, made) = Instance::up_or_open(here(world), &UpOptions::default()).unwrap();
            assert!(!made);
            more(dialled.load(Ordering::Relaxed));
        });
        is_taken_over(format, world);
        // It is an instance as any other from here on.
        let mut instance = open(world);
        if format.previous.is_some() {
            instance.roll_back(&CommitOptions::default()).unwrap();
            assert_eq!(asked(Tcp, "192.0.2.1:80"), "web");
            instance.roll_back(&CommitOptions::default()).unwrap();
        }
        drop(instance);
        Instance::down(&here(world)).unwrap();
        assert_eq!(tree(world.bpffs.path()), ["inlet"]);
        assert_eq!(asked(Tcp, "192.0.2.1:80"), "Refused");
    });
}

#[test]
fn readers_name_the_next_step() {
    each_format(|format, world| {
        let servers = Servers::start();
        let dir = made_by(format, world, &servers);
        let error = Snapshot::open(here(world)).unwrap_err();
        assert!(matches!(error, Error::State(StateError::Older { .. })), "{error:?}");
        let said = format!(
            "{}: state format {} is older than 3, which this inlet reads\nfix: take it over, while packets go on being \
             steered, with: inlet up",
            dir.display(),
            format.number
        );
        assert_eq!(told(&error), said);
        // It may go as it is, too.
        Instance::down(&here(world)).unwrap();
        assert_eq!(tree(world.bpffs.path()), ["inlet"]);
    });
}

#[test]
fn child() {
    let Some((operation, bpffs)) = killed::operation() else { return };
    match operation.as_str() {
        "open" => drop(Instance::open(at(&bpffs)).unwrap()),
        "down" => Instance::down(&at(&bpffs)).unwrap(),
        other => panic!("{other}"),
    }
}

#[test]
fn one_that_is_killed_is_finished_or_begun_anew() {
    for step in ["up:map", "commit:pin", "takeover:made", "takeover:swapped", "takeover:exchanged"] {
        each_format(|format, world| {
            let servers = Servers::start();
            made_by(format, world, &servers);
            killed::killed(world, "child", "open", step, None);
            assert_eq!(asked(Tcp, "192.0.2.1:80"), "web", "{step}");
            drop(open(world));
            is_taken_over(format, world);
            // Or it ends there.
            Instance::down(&here(world)).unwrap();
        });
        each_format(|format, world| {
            let servers = Servers::start();
            made_by(format, world, &servers);
            killed::killed(world, "child", "open", step, None);
            Instance::down(&here(world)).unwrap();
            assert_eq!(tree(world.bpffs.path()), ["inlet"], "{step}");
            assert_eq!(asked(Tcp, "192.0.2.1:80"), "Refused", "{step}");
        });
    }
}

/// `inlet gc` finishes one that was interrupted, as any command does that changes the instance.
#[test]
fn one_that_is_killed_is_finished_by_gc() {
    for step in ["up:map", "commit:pin", "takeover:made", "takeover:swapped", "takeover:exchanged"] {
        each_format(|format, world| {
            let servers = Servers::start();
            made_by(format, world, &servers);
            killed::killed(world, "child", "open", step, None);
            let found = inlet::list(world.bpffs.path()).unwrap();
            let stages: Vec<_> = found.iter().map(|it| it.unfinished).collect();
            assert_eq!(stages, [None, Some(Unfinished::Takeover)], "{step}");
            assert!(!found[0].remove().unwrap() && found[1].remove().unwrap(), "{step}");
            is_taken_over(format, world);
        });
    }
}

/// An instance that was removed in the midst of it leaves what was to take its place.
#[test]
fn what_was_to_take_its_place_goes_with_it() {
    for by_gc in [true, false] {
        each_format(|format, world| {
            let servers = Servers::start();
            made_by(format, world, &servers);
            killed::killed(world, "child", "open", "takeover:made", None);
            killed::killed(world, "child", "down", "down:detached", None);
            let found = inlet::list(world.bpffs.path()).unwrap();
            let stages: Vec<_> = found.iter().map(|it| it.unfinished).collect();
            assert_eq!(stages, [Some(Unfinished::Down), Some(Unfinished::Takeover)]);
            match by_gc {
                true => assert!(found.iter().all(|it| it.remove().unwrap())),
                false => Instance::down(&here(world)).unwrap(),
            }
            assert_eq!(tree(world.bpffs.path()), ["inlet"]);
        });
    }
}
