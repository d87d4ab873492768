//! Servers of names.

use std::fs;
use std::path::Path;
use std::process::Command;

use inlet_testkit::require_program;

use super::{EXCHANGES, Kind, Server, Surroundings, Targets, V4, V6};
use crate::conf;
use crate::dns::{TEXT, assert_answers, question};

const DNS: Kind =
    Kind { question: |_| question(), check: |_, answer, about| assert_answers(answer, about), exchanges: EXCHANGES };

/// What a server is bound to, and the target that reaches it; servers of names set IPV6_V6ONLY.
const BOUND: [(&str, Targets); 4] = [("127.0.0.1", &[V4]), ("0.0.0.0", &[V4]), ("::1", &[V6]), ("::", &[V6])];

/// Asks a server in all these ways, which differ by the last of each.
fn serves<A: Copy>(program: &str, ways: &[(&str, Targets, A)], start: impl Fn(&Path, A) -> Command) {
    let Some(surroundings) = Surroundings::new() else { return };
    if !require_program(program) {
        return;
    }
    for &(bound, targets, way) in ways {
        let server = Server { bound, targets, sockets: 1 };
        surroundings.answers(DNS, &server, |dir| start(dir.path(), way));
    }
}

#[test]
fn dnsmasq() {
    let one: &[&str] = &["--bind-interfaces", "--listen-address=127.0.0.1"];
    let ways: [(&str, Targets, &[&str]); 3] = [("127.0.0.1", &[V4], one), ("0.0.0.0", &[V4], &[]), ("::", &[V6], &[])];
    serves("dnsmasq", &ways, |_, args| conf::dnsmasq(5300, TEXT, args));
}

#[test]
fn unbound() {
    let automatic = "port: 5300\n            interface-automatic: yes";
    let ways: [(&str, Targets, &str); 6] = [
        ("127.0.0.1", &[V4], "interface: 127.0.0.1@5300"),
        ("0.0.0.0", &[V4], "interface: 0.0.0.0@5300"),
        ("::1", &[V6], "interface: ::1@5300"),
        ("::", &[V6], "interface: ::0@5300"),
        ("0.0.0.0", &[V4], automatic),
        ("::", &[V6], automatic),
    ];
    serves("unbound", &ways, |dir, sockets| conf::unbound(dir, TEXT, sockets));
}

/// The zone of the one name.
fn zone(dir: &Path) {
    let zone = format!(
        "example. 60 IN SOA ns.example. admin.example. 1 3600 600 86400 60\n\
         example. 60 IN NS ns.example.\n\
         ns.example. 60 IN A 192.0.2.53\n\
         who.example. 0 IN TXT {TEXT}\n"
    );
    fs::write(dir.join("example.zone"), zone).unwrap();
}

#[test]
fn knot() {
    serves("knotd", &BOUND.map(|(bound, targets)| (bound, targets, bound)), |dir, bound| {
        zone(dir);
        let path = dir.display();
        let conf = format!(
            "server:\n  rundir: {path}\n  listen: {bound}@5300\n  udp-workers: 1\n  tcp-workers: 1\n\
             database:\n  storage: {path}\n\
             zone:\n- domain: example\n  storage: {path}\n  file: example.zone\n"
        );
        conf::command("knotd", &["-c"], dir, "knot.conf", &conf)
    });
}

#[test]
fn nsd() {
    serves("nsd", &BOUND.map(|(bound, targets)| (bound, targets, bound)), |dir, bound| {
        zone(dir);
        let path = dir.display();
        let conf = format!(
            "server:
                server-count: 1
                rrl-ratelimit: 0
                ip-address: {bound}@5300
                username: \"\"
                chroot: \"\"
                zonesdir: \"{path}\"
                database: \"\"
                pidfile: \"\"
                xfrdfile: \"{path}/xfrd\"
                xfrdir: \"{path}\"
                zonelistfile: \"{path}/zones\"
            remote-control:
                control-enable: no
            zone:
                name: example
                zonefile: example.zone\n"
        );
        conf::command("nsd", &["-d", "-c"], dir, "nsd.conf", &conf)
    });
}
