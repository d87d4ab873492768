//! Sockets taken from a running process, which knows nothing of it. In a program of their own, as a process that is
//! asked for its sockets lends all of them for a moment.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use common::{Receiver, anywhere, asked, bind, open, state, told, up, wait_for_sockets};
use inlet::rules::Protocol::Tcp;
use inlet::{Adopted, Endpoint, Error, Instance, Refusal, SocketError};
use inlet_testkit::{Caps, PATIENCE, Program, TcpServer, World, as_user, without_caps};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const TARGET: &str = "192.0.2.9:80";

fn bound() -> Option<(World, Instance)> {
    let world = World::new()?;
    world.local("192.0.2.0/24").unwrap();
    let mut instance = up(&world);
    bind(&mut instance, "web", Tcp, "192.0.2.0/24", "80");
    Some((world, instance))
}

/// A process that has this socket open and does nothing with it.
fn holder(socket: impl Into<OwnedFd>, more: impl FnOnce(&mut Command)) -> Program {
    let mut command = Command::new("sleep");
    command.arg("1000").stdin(Stdio::from(socket.into())).stdout(Stdio::null());
    more(&mut command);
    Program::start(&mut command).unwrap()
}

fn copy(socket: impl AsFd) -> OwnedFd {
    socket.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn what_fits_is_taken_and_the_rest_is_named() {
    let Some((world, mut instance)) = bound() else { return };
    let receiver = Receiver::new("web");
    let connected = std::net::TcpStream::connect(("127.0.0.1", receiver.tcp.local_addr().port())).unwrap();
    let adoption = instance.register_process("web", std::process::id(), &[]).unwrap();
    let mut adopted: Vec<String> = adoption.adopted.iter().map(|socket| socket.endpoint.to_string()).collect();
    adopted.sort();
    let port = |server: &inlet_testkit::Server| server.local_addr().port();
    assert_eq!(adopted, [format!("tcp:[::]:{}", port(&receiver.tcp)), format!("udp:[::]:{}", port(&receiver.udp))]);
    let local = connected.local_addr().unwrap().to_string();
    let refused = adoption.refused.iter().find(|refused| refused.what.ends_with(&format!("({local})"))).unwrap();
    assert_eq!(refused.reason, Refusal::Connected);
    let again = instance.register_process("web", std::process::id(), &[]).unwrap();
    assert!(again.adopted.iter().all(|socket| socket.adopted == Adopted::Before) && again.adopted.len() == 2);
    drop(instance);
    assert_eq!(asked(Tcp, TARGET), "web");
    assert_eq!(state(&world, "web").sockets.len(), 2);
}

#[test]
fn listen_narrows() {
    let Some((world, mut instance)) = bound() else { return };
    let [one, two] = ["one", "two"].map(|name| TcpServer::spawn(name, anywhere()).unwrap());
    let endpoint = |server: &TcpServer| -> Endpoint {
        Endpoint::new(Tcp, SocketAddr::new("::".parse().unwrap(), server.local_addr().port()))
    };
    let adoption = instance.register_process("web", std::process::id(), &[endpoint(&two)]).unwrap();
    assert_eq!(adoption.adopted.len(), 1);
    assert_eq!(adoption.adopted[0].endpoint, endpoint(&two));
    let nobody = "tcp:127.0.0.1:9".parse().unwrap();
    let error = instance.register_process("web", std::process::id(), &[nobody]).unwrap_err();
    let text = error.to_string();
    let this = std::process::id();
    assert!(text.starts_with(&format!("process {this} has no socket {nobody} for service \"web\"")), "{text}");
    for seen in [&one, &two] {
        assert!(text.contains(&format!("{}: not one of those given with --listen", endpoint(seen))), "{text}");
    }
    // One of several that is absent: nothing changes, and what is there is told.
    let error = instance.register_process("web", this, &[endpoint(&one), nobody]).unwrap_err();
    let Error::Socket(SocketError::NoSocket { absent, found, .. }) = &error else { panic!("{error:?}") };
    assert_eq!((&absent[..], &found[..]), (&[nobody][..], &[endpoint(&one)][..]));
    let text = error.to_string();
    assert!(text.contains(&format!("seen: {}; ", endpoint(&one))), "{text}");
    assert!(text.contains(&format!("{}: not one of those given with --listen", endpoint(&two))), "{text}");
    drop(instance);
    assert_eq!(asked(Tcp, TARGET), "two");
    assert_eq!(state(&world, "web").sockets.len(), 1);
}

#[test]
fn several_ports_are_a_choice_to_make() {
    let Some((world, mut instance)) = bound() else { return };
    let at = |addr: &str| TcpListener::bind(addr).unwrap();
    let [_plain, _tls, _same] = ["[::1]:8080", "127.0.0.1:8443", "127.0.0.1:8080"].map(at);
    let this = std::process::id();
    let error = instance.register_process("web", this, &[]).unwrap_err();
    assert!(matches!(error, Error::Socket(SocketError::SeveralPorts { .. })), "{error:?}");
    let [one, two, three] = ["tcp:127.0.0.1:8080", "'tcp:[::1]:8080'", "tcp:127.0.0.1:8443"];
    let text = format!(
        "process {this} has sockets at several ports of a protocol\nfix: say which are for \"web\" with some of: --listen {one} --listen {two} --listen {three}"
    );
    assert_eq!(told(&error), text);
    drop(instance);
    assert!(state(&world, "web").sockets.is_empty());
    let mut instance = open(&world);
    let listen = [one, two].map(|text| text.trim_matches('\'').parse().unwrap());
    assert_eq!(instance.register_process("web", this, &listen).unwrap().adopted.len(), 2);
}

/// A busy server has more connections than a process may hold; looking at them takes one descriptor.
#[test]
fn of_a_process_with_very_many_sockets() {
    const MANY: usize = 1500;
    // Room for the other tests of this process, which is not room for a copy of each socket.
    const SPARE: u64 = 400;
    let Some((world, mut instance)) = bound() else { return };
    let allowed = getrlimit(Resource::Nofile);
    let soft = |current| setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..allowed }).unwrap();
    soft(allowed.maximum.unwrap_or(1 << 16).min(1 << 16));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connections: Vec<UdpSocket> = std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0").unwrap())
        .inspect(|socket| socket.connect("127.0.0.1:9").unwrap())
        .take(MANY)
        .collect();
    soft(MANY as u64 + SPARE);
    let this = std::process::id();
    let adoption = instance.register_process("web", this, &[]);
    let unregistered = instance.unregister("web", Some(this));
    soft(allowed.current.unwrap_or(1 << 16));
    let adoption = adoption.unwrap();
    assert_eq!(adoption.adopted.len(), 1);
    assert_eq!(adoption.adopted[0].endpoint, Endpoint::new(Tcp, listener.local_addr().unwrap()));
    assert!(adoption.refused.iter().filter(|refused| refused.reason == Refusal::Connected).count() >= MANY);
    assert_eq!(unregistered.unwrap(), 1);
    drop((instance, connections));
    assert!(state(&world, "web").sockets.is_empty());
}

/// The kernel stores a socket in one place that knows it by its user data.
#[test]
fn what_the_kernel_does_not_take_is_named_and_the_rest_stays() {
    let Some((world, mut instance)) = bound() else { return };
    let elsewhere = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_reuseport(&elsewhere, true).unwrap();
    rustix::net::bind(&elsewhere, &"127.0.0.1:8080".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&elsewhere, 8).unwrap();
    let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    let array = MapHandle::create(MapType::ReuseportSockarray, Some("group"), 4, 8, 1, &options).unwrap();
    let fd = elsewhere.as_raw_fd() as u64;
    array.update(&[0; 4], &fd.to_ne_bytes(), MapFlags::ANY).unwrap();
    let error = instance.register("web", &elsewhere).unwrap_err();
    assert_eq!(error.to_string(), "cannot adopt tcp:127.0.0.1:8080: Device or resource busy (os error 16)");
    let _taken = TcpListener::bind("127.0.0.2:8080").unwrap();
    let adoption = instance.register_process("web", std::process::id(), &[]).unwrap();
    let adopted: Vec<String> = adoption.adopted.iter().map(|socket| socket.endpoint.to_string()).collect();
    assert_eq!(adopted, ["tcp:127.0.0.2:8080"]);
    let refused = adoption.refused.iter().find(|refused| refused.what == "tcp:127.0.0.1:8080").unwrap();
    assert_eq!(refused.reason, Refusal::NotTaken(rustix::io::Errno::BUSY));
    drop(instance);
    assert_eq!(state(&world, "web").sockets.len(), 1);
}

#[test]
fn of_another_process_until_it_ends() {
    let Some((world, mut instance)) = bound() else { return };
    let server = TcpServer::spawn("web", anywhere()).unwrap();
    let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = theirs.local_addr().unwrap();
    let holder = holder(theirs, |_| {});
    let pid = holder.id();
    instance.register("web", &server).unwrap();
    let adoption = instance.register_process("web", pid, &[]).unwrap();
    assert_eq!(adoption.adopted[0].endpoint, Endpoint::new(Tcp, addr));
    drop(instance);
    let sockets = state(&world, "web").sockets;
    let socket = sockets.iter().find(|socket| socket.local == Some(Endpoint::new(Tcp, addr))).unwrap();
    assert!(socket.owners.iter().any(|owner| (owner.pid, owner.command.as_str()) == (pid, "sleep")), "{socket:?}");
    assert_eq!(sockets.len(), 2);

    // Only those of the process go, and come back.
    assert_eq!(open(&world).unregister("web", Some(pid)).unwrap(), 1);
    assert_eq!(asked(Tcp, TARGET), "web");
    open(&world).register_process("web", pid, &[]).unwrap();
    assert_eq!(state(&world, "web").sockets.len(), 2);
    drop(holder);
    wait_for_sockets(&world, "web", 1);
    assert_eq!(asked(Tcp, TARGET), "web");
}

#[test]
fn a_process_that_is_gone_or_has_nothing() {
    let Some((_world, mut instance)) = bound() else { return };
    let mut ended = Program::start(&mut Command::new("true")).unwrap();
    ended.wait_exit(PATIENCE).unwrap().unwrap();
    let gone = ended.id();
    let error = instance.register_process("web", gone, &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("process {gone} does not exist"));
    assert!(matches!(instance.unregister("web", Some(gone)), Err(Error::Socket(SocketError::NoProcess(_)))));
    assert!(matches!(instance.register_process("web", 0, &[]), Err(Error::Socket(SocketError::NoProcess(0)))));
    assert!(matches!(instance.register_process("none", std::process::id(), &[]), Err(Error::UnknownService(_))));
    let idle = holder(std::fs::File::open("/dev/null").unwrap(), |_| {});
    let error = instance.register_process("web", idle.id(), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("process {} has no socket for service \"web\"; it has no sockets at all", idle.id())
    );
}

#[test]
fn the_right_over_the_process_is_needed() {
    let Some((_world, mut instance)) = bound() else { return };
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = holder(copy(&socket), |command| _ = as_user(command, 65534, 65534, &[]));
    let error = without_caps(Caps::SYS_PTRACE, || instance.register_process("web", theirs.id(), &[]).unwrap_err());
    assert!(matches!(error, Error::Socket(SocketError::ProcessDenied { .. })), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("CAP_SYS_PTRACE") && text.contains(&theirs.id().to_string()), "{text}");
    instance.register_process("web", theirs.id(), &[]).unwrap();
}

#[test]
fn without_systemd_there_are_no_sockets_of_it() {
    let Some((_world, mut instance)) = bound() else { return };
    let error = instance.register_systemd("web", &[]).unwrap_err();
    assert!(matches!(error, Error::Socket(SocketError::NoListenFds(_))), "{error:?}");
    assert!(error.to_string().contains("LISTEN_FDS is not set"), "{error}");
}
