//! Programs that are refused multipath TCP, and nobody else.

use std::process::Command;

use inlet_testkit::{Cgroup, Namespace, output, require_feature, require_program};

use crate::Host;
use crate::languages::has_multipath_tcp;

const LISTEN: &str = "tcp:127.0.0.1:8083";

/// Whether a program of a control group, or of none in particular, can make a socket of multipath TCP. Plain TCP it can
/// always make.
#[track_caller]
fn has_mptcp(cgroup: Option<&Cgroup>) -> bool {
    let makes = |protocol: &str| {
        let mut python = Command::new("python3");
        let make = "import socket, sys; socket.socket(socket.AF_INET6, socket.SOCK_STREAM, int(sys.argv[1]))";
        python.args(["-c", make, protocol]);
        if let Some(cgroup) = cgroup {
            cgroup.contain(&mut python).unwrap();
        }
        let output = output(&mut python).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains("PermissionError"), "{said}");
        output.status.success()
    };
    assert!(makes("6"), "plain TCP");
    makes("262")
}

#[test]
fn of_one_control_group() {
    let Some(host) = Host::up() else { return };
    if !require_program("python3") || !require_feature(has_multipath_tcp(), "CONFIG_MPTCP", (5, 6)) {
        return;
    }
    let cgroup = Cgroup::new().unwrap();
    let path = format!("/{}", cgroup.path().file_name().unwrap().to_str().unwrap());
    let both = || (has_mptcp(Some(&cgroup)), has_mptcp(None));
    let set = |more: &[&str]| host.ok(&[&["service", "set", "app"], more].concat());
    host.fails(&["service", "set", "app", "--no-mptcp"], "has no description, whose programs would get plain TCP");
    assert_eq!(both(), (true, true));
    set(&["--listen", LISTEN, "--cgroup", &path]);
    assert_eq!(both(), (true, true));
    // It is a part of the description that is there.
    let said = set(&["--no-mptcp"]);
    assert!(said.contains(&format!("listen {LISTEN} cgroup {path} no-mptcp")), "{said}");
    assert_eq!(host.json(&["services"])[0]["described"]["no_mptcp"], true);
    assert_eq!(both(), (false, true));
    let other = Namespace::new().unwrap();
    assert!(other.enter(|| has_mptcp(Some(&cgroup))), "another network namespace");
    // A user and a group: who is both.
    set(&["--listen", LISTEN, "--cgroup", &path, "--user", "nobody", "--no-mptcp"]);
    assert_eq!(both(), (true, true));
    set(&["--listen", LISTEN, "--user", "root", "--no-mptcp"]);
    assert_eq!(both(), (false, false));
    let file = host.ok(&["export", "--toml"]);
    assert!(file.contains("no_mptcp = true"), "{file}");
    set(&["--no-mptcp=false"]);
    assert_eq!(both(), (true, true));
    assert_eq!(host.apply(&file).code, Some(0));
    assert_eq!(both(), (false, false));
    host.ok(&["rollback"]);
    assert_eq!(both(), (true, true));
    host.ok(&["rollback"]);
    assert_eq!(both(), (false, false));
    let ran = host.apply("services.app = { listen = \"tcp:*:8083\", no_mptcp = true }\nrules = []\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("\"no_mptcp\" needs \"unit\", \"cgroup\" or \"user\""), "{}", ran.stderr);
    host.ok(&["down"]);
    assert_eq!(both(), (true, true));
}
