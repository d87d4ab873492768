//! Own binds with servers that everybody knows: two of a kind on one port of all addresses.

use std::io::{Read, Write};
use std::net::TcpStream;

use inlet_testkit::{Cgroup, require_program};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::dns::{ask_tcp, ask_udp};
use crate::own::{RANGE, assert_closed, bound_ports, serve, up, wait_for, watch};
use crate::{PATIENCE, at, conf, wait_until};

/// nginx and haproxy, both on :443 of all addresses.
#[test]
fn nginx_and_haproxy() {
    let Some(host) = up() else { return };
    if !require_program("nginx") || !require_program("haproxy") {
        return;
    }
    let (web, proxy) = (Cgroup::new().unwrap(), Cgroup::new().unwrap());
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    serve(&host, "web", &web, &["tcp:*:443"], 1, "443");
    serve(&host, "proxy", &proxy, &["tcp:*:443"], 2, "443");
    let server = "listen 443 reuseport; listen [::]:443 reuseport; location / { return 200 \"nginx $server_port\"; }";
    let nginx = Daemon::start_in(web, dir.path(), &mut conf::nginx(dir.path(), server));
    let frontend = "bind :::443 v4v6
            http-request return status 200 content-type text/plain lf-string \"haproxy %[dst_port]\"";
    let haproxy = Daemon::start_in(proxy, other.path(), &mut conf::haproxy(other.path(), frontend));
    wait_for(&host, "web", 4);
    wait_until("haproxy", || host.json(&["services"]).to_string().matches("\"haproxy\"").count() > 0);
    for _ in 0..20 {
        for (number, expected) in [(1, "nginx 443"), (2, "haproxy 443")] {
            for target in [format!("192.0.2.{number}:443"), format!("[2001:db8::{number}]:443")] {
                let said = http(&target);
                assert!(said.ends_with(expected), "{target}: {said:?}; {}; {}", nginx.log(), haproxy.log());
            }
        }
    }
    assert_closed(&bound_ports());
}

fn http(target: &str) -> String {
    let mut client = TcpStream::connect_timeout(&at(target), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    said
}

/// dnsmasq and unbound, both on port 53 of all addresses, over UDP and TCP.
#[test]
fn dnsmasq_and_unbound() {
    let Some(host) = up() else { return };
    if !require_program("dnsmasq") || !require_program("unbound") {
        return;
    }
    let _watching = watch(&host);
    let (one, two) = (Cgroup::new().unwrap(), Cgroup::new().unwrap());
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // Port 53 alone: they bind the ports of their own questions too.
    let listen = ["tcp:*:53", "udp:*:53"];
    serve(&host, "small", &one, &listen, 1, "53");
    serve(&host, "large", &two, &listen, 2, "53");
    // Over TCP it serves addresses of interfaces alone, when it is bound to all.
    host.world.ip(&["address", "add", "192.0.2.1/32", "dev", "lo"]).unwrap();
    let dnsmasq = Daemon::start_in(one, dir.path(), &mut conf::dnsmasq(53, "small", &[]));
    let sockets = "num-threads: 2\n            interface: 0.0.0.0@53";
    let unbound = Daemon::start_in(two, other.path(), &mut conf::unbound(other.path(), "large", sockets));
    wait_for(&host, "small", 4);
    wait_for(&host, "large", 4);
    for _ in 0..20 {
        for (number, name) in [(1, "small"), (2, "large")] {
            let target = at(&format!("192.0.2.{number}:53"));
            for (protocol, answer) in [("udp", ask_udp(target)), ("tcp", ask_tcp(target))] {
                let has = answer.windows(name.len()).any(|part| part == name.as_bytes());
                assert!(has, "{protocol} {target}: {answer:?}; {}; {}", dnsmasq.log(), unbound.log());
            }
        }
    }
    let ports: Vec<u16> = bound_ports().into_iter().filter(|port| RANGE.contains(port)).collect();
    assert_eq!(ports.len(), 2, "{ports:?}");
    assert_closed(&ports);
}
