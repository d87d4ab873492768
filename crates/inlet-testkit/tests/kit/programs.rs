//! Child programs, capabilities and cgroups.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use inlet_testkit::{
    Caps, Cgroup, Program, Proto, TcpServer, World, as_user, kernel_at_least, limit_caps, require_program,
    require_root, with_caps, without_caps,
};

use crate::{PATIENCE, at, stdout, thread_netns};

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

#[test]
fn children_start_in_the_threads_namespaces() {
    let Some(world) = World::new() else { return };
    let inside = stdout(Command::new("readlink").arg("/proc/self/ns/net"));
    assert_eq!(inside, thread_netns());
    let mounts = stdout(Command::new("cat").arg("/proc/self/mounts"));
    assert!(mounts.contains(world.bpffs.path().to_str().unwrap()));
    // The other way of std: with a step before exec it forks instead of calling posix_spawn.
    let mut command = Command::new("readlink");
    command.arg("/proc/self/ns/net").stdout(Stdio::piped());
    let mut program = Program::start(&mut command).unwrap();
    let text = std::io::read_to_string(program.child().stdout.take().unwrap()).unwrap();
    assert_eq!(text.trim(), inside);
    assert!(program.wait_exit(PATIENCE).unwrap().unwrap().success());
}

#[test]
fn programs_end_with_their_guard() {
    if !require_root() {
        return;
    }
    // Ignores SIGTERM, so it takes SIGKILL.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' TERM; echo ready; read -r never"]);
    let mut program = Program::start(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
    let mut line = [0u8; 6];
    let pipe = program.child().stdout.as_mut().unwrap();
    std::io::Read::read_exact(pipe, &mut line).unwrap();
    let id = program.id();
    assert!(program.wait_exit(Duration::ZERO).unwrap().is_none());
    drop(program);
    assert!(!fs::exists(format!("/proc/{id}")).unwrap());
}

#[test]
fn waits_for_a_real_program_to_listen() {
    let Some(_world) = World::new() else { return };
    if !require_program("socat") {
        return;
    }
    let to = at("127.0.0.1:8080");
    let mut command = Command::new("socat");
    command.args(["TCP-LISTEN:8080,bind=127.0.0.1", "STDOUT"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut program = Program::start(&mut command).unwrap();
    program.wait_listening(Proto::Tcp, to, PATIENCE).unwrap();
    let mut failing = Program::start(&mut Command::new("false")).unwrap();
    let other = at("127.0.0.1:8081");
    let error = failing.wait_listening(Proto::Tcp, other, PATIENCE).unwrap_err();
    assert!(error.to_string().contains("ended"), "{error}");
}

#[test]
fn capabilities_are_lowered_for_a_while() {
    let Some(world) = World::new() else { return };
    let mine = || effective(&fs::read_to_string("/proc/thread-self/status").unwrap());
    let full = mine();
    let wanted = Caps::BPF | Caps::NET_ADMIN;
    assert_eq!(with_caps(wanted, mine), wanted.bits());
    assert_eq!(without_caps(Caps::PERFMON, mine), full & !Caps::PERFMON.bits());
    let low = at("127.0.0.1:80");
    let bind = || TcpServer::spawn("low", low).map(drop).map_err(|e| e.kind());
    world.sysctl("net/ipv4/ip_unprivileged_port_start", "1024").unwrap();
    let refused = Err(std::io::ErrorKind::PermissionDenied);
    assert_eq!(without_caps(Caps::NET_BIND_SERVICE, bind), refused);
    assert_eq!(bind(), Ok(()));
    assert_eq!(mine(), full);
}

#[test]
fn commands_run_with_less() {
    if !require_root() {
        return;
    }
    let mut command = Command::new("cat");
    limit_caps(command.arg("/proc/self/status"), Caps::NET_ADMIN);
    let status = stdout(&mut command);
    assert_eq!(effective(&status), Caps::NET_ADMIN.bits());
    let mut command = Command::new("cat");
    as_user(command.arg("/proc/self/status"), 65534, 65533, &[4242]);
    let status = stdout(&mut command);
    assert_eq!(effective(&status), 0);
    assert!(status.contains("Uid:\t65534\t65534\t65534"), "{status}");
    assert!(status.contains("Gid:\t65533\t65533\t65533"), "{status}");
    assert!(status.contains("Groups:\t4242"), "{status}");
}

#[test]
fn a_cgroup_goes_away_with_its_members() {
    if !require_root() {
        return;
    }
    let cgroup = Cgroup::new().unwrap();
    let path = cgroup.path().to_owned();
    let mut command = Command::new("sleep");
    cgroup.contain(command.arg("60")).unwrap();
    let mut program = Program::start(&mut command).unwrap();
    assert_eq!(cgroup.members().unwrap(), [program.id()]);
    drop(cgroup);
    assert!(!path.exists());
    assert!(program.wait_exit(PATIENCE).unwrap().is_some());
}

#[test]
fn an_empty_cgroup_goes_away() {
    if !require_root() {
        return;
    }
    let (one, two) = (Cgroup::new().unwrap(), Cgroup::new().unwrap());
    assert_ne!(one.path(), two.path());
    let path = one.path().to_owned();
    drop(one);
    assert!(!path.exists() && two.path().exists());
}

#[test]
fn kernel_versions_compare() {
    assert!(kernel_at_least(2, 6));
    assert!(!kernel_at_least(99, 0));
}
