//! Sockets taken from a running process, which knows nothing of it. In a program of their own, as a process that is
//! asked for its sockets lends all of them for a moment.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Receiver, anywhere, asked, bind, open, state, up, wait_for_sockets};
use inlet::core::Protocol::Tcp;
use inlet::{Endpoint, Error, Instance, Refusal};
use inlet_testkit::{Caps, Program, TcpServer, World, as_user, without_caps};

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
    assert!(again.adopted.iter().all(|socket| socket.known) && again.adopted.len() == 2);
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
    assert!(text.starts_with(&format!("process {} has no socket for service \"web\"", std::process::id())), "{text}");
    for seen in [&one, &two] {
        assert!(text.contains(&format!("{}: not one of those given with --listen", endpoint(seen))), "{text}");
    }
    drop(instance);
    assert_eq!(asked(Tcp, TARGET), "two");
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
    ended.wait_exit(Duration::from_secs(20)).unwrap().unwrap();
    let gone = ended.id();
    let error = instance.register_process("web", gone, &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("process {gone} does not exist"));
    assert!(matches!(instance.unregister("web", Some(gone)), Err(Error::NoProcess(_))));
    assert!(matches!(instance.register_process("web", 0, &[]), Err(Error::NoProcess(0))));
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
    assert!(matches!(error, Error::ProcessDenied { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("CAP_SYS_PTRACE") && text.contains(&theirs.id().to_string()), "{text}");
    instance.register_process("web", theirs.id(), &[]).unwrap();
}

#[test]
fn without_systemd_there_are_no_sockets_of_it() {
    let Some((_world, mut instance)) = bound() else { return };
    let error = instance.register_systemd("web", &[]).unwrap_err();
    assert!(matches!(error, Error::NoListenFds(_)), "{error:?}");
    assert!(error.to_string().contains("LISTEN_FDS is not set"), "{error}");
}
