//! The routes that Inlet keeps are those of the ruleset in force, also when that is one that came back.

use inlet_testkit::{TcpServer, output};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::asked::{asked, ok, until, waiting};
use crate::{Host, at};

const NEAR: &str = r#"{"services": {"web": {}}, "rules": [
    {"to": "web", "protocol": "tcp", "local": "192.0.2.0/24", "ports": 80}]}"#;
const FAR: &str = r#"{"services": {"web": {}}, "rules": [
    {"to": "web", "protocol": "tcp", "local": ["198.51.100.0/24", "203.0.113.0/25"], "ports": 80}]}"#;
/// A route of somebody else, which makes a prefix of FAR local.
const FOREIGN: &str = "203.0.113.0/24";

/// The prefixes that are local by a route with this protocol number.
fn local(host: &Host, protocol: &str) -> Vec<String> {
    let said =
        host.world.ip(&["-4", "route", "show", "table", "local", "type", "local", "protocol", protocol]).unwrap();
    said.lines().map(|line| line.split(' ').find(|word| *word != "local").unwrap().to_owned()).collect()
}

/// The routes are these, as status says it, and packets for an address of each ruleset get to the server as they must.
#[track_caller]
fn expect(host: &Host, ours: &[&str], kept: bool, reached: [bool; 2]) {
    assert_eq!(local(host, "73"), ours);
    assert_eq!(local(host, "3"), [FOREIGN], "those of others stay");
    assert_eq!(host.json(&["status"])["keeps_routes"], kept);
    let text = if kept { "local routes kept by inlet" } else { "not kept by inlet" };
    assert!(host.ok(&["status"]).contains(text));
    assert_eq!(["192.0.2.9:80", "198.51.100.9:80"].map(|to| asked(to) == "web"), reached);
}

/// NEAR in force, whose routes nobody keeps, and a server for it.
fn host() -> Option<(Host, TcpServer)> {
    let host = Host::up()?;
    host.world.local(FOREIGN).unwrap();
    ok(host.apply(NEAR));
    let server = TcpServer::spawn("web", at("127.0.0.1:8080")).unwrap();
    let pid = std::process::id().to_string();
    host.ok(&["register", "web", "--pid", &pid, "--listen", "tcp:127.0.0.1:8080"]);
    expect(&host, &[], false, [false, false]);
    Some((host, server))
}

#[test]
fn routes_go_back_and_forth_with_rollback() {
    let Some((host, _server)) = host() else { return };
    ok(host.feed(&["apply", "--routes", "-"], FAR));
    expect(&host, &["198.51.100.0/24"], true, [false, true]);
    let said: Value = host.json(&["rollback"]);
    assert_eq!((&said["routes"]["kept"], &said["routes"]["removed"][0]), (&false.into(), &"198.51.100.0/24".into()));
    expect(&host, &[], false, [false, false]);
    host.ok(&["rollback"]);
    expect(&host, &["198.51.100.0/24"], true, [false, true]);
    // Kept before and after.
    ok(host.feed(&["apply", "--routes", "-"], NEAR));
    expect(&host, &["192.0.2.0/24"], true, [true, false]);
    host.ok(&["rollback"]);
    expect(&host, &["198.51.100.0/24"], true, [false, true]);
    host.ok(&["down"]);
    assert_eq!((local(&host, "73"), local(&host, "3")), (Vec::new(), vec![FOREIGN.to_owned()]));
}

#[test]
fn routes_of_what_is_not_confirmed_go() {
    let Some((host, _server)) = host() else { return };
    let far = FAR.replacen('{', r#"{"routes": "manage", "#, 1);
    ok(host.feed(&["apply", "--confirm", "2", "-"], &far));
    until("it goes back", || host.json(&["status"])["generation"] == 4);
    until("who waited ends", || waiting(&host).is_empty());
    expect(&host, &[], false, [false, false]);
    // Nobody waits: the next command that changes something goes back.
    ok(host.feed(&["apply", "--confirm", "2", "-"], &far));
    for pid in waiting(&host) {
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    until("the time is over", || host.json(&["status"])["confirm"]["seconds_left"].as_u64().unwrap_or(0) == 0);
    assert_eq!(host.run(&["service", "set", "new"]).code, Some(0));
    expect(&host, &[], false, [false, false]);
}

#[test]
fn routes_of_what_is_confirmed_stay() {
    let Some((host, _server)) = host() else { return };
    ok(host.feed(&["apply", "--routes", "--confirm", "600", "-"], FAR));
    expect(&host, &["198.51.100.0/24"], true, [false, true]);
    host.ok(&["confirm"]);
    until("who waited ends", || waiting(&host).is_empty());
    expect(&host, &["198.51.100.0/24"], true, [false, true]);
    // Taken back before it is confirmed: the same as too late.
    ok(host.feed(&["apply", "--routes", "--confirm", "600", "-"], NEAR));
    expect(&host, &["192.0.2.0/24"], true, [true, false]);
    host.ok(&["rollback"]);
    expect(&host, &["198.51.100.0/24"], true, [false, true]);
}

#[test]
fn a_session_is_not_cut_off_by_a_route() {
    let Some(host) = Host::up() else { return };
    for line in
        ["link add d0 type veth peer name d1", "addr add 192.168.1.1/24 dev d0", "link set d0 up", "link set d1 up"]
    {
        host.world.ip(&line.split(' ').collect::<Vec<_>>()).unwrap();
    }
    ok(host.feed(&["apply", "--routes", "-"], r#"{"rules": []}"#));
    let mut command = host.command(&["bind", "--refuse", "tcp", "192.168.1.128/25", "80"]);
    let said = output(command.env("SSH_CONNECTION", "192.168.1.200 50000 192.168.1.1 22")).unwrap();
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with(
            "error: a local route for 192.168.1.128/25 would cut the host off from 192.168.1.200, from which this session \
             comes\nfix: give the rules narrower prefixes"
        ),
        "{stderr}"
    );
    assert_eq!(local(&host, "73"), [""; 0], "nothing is changed");
    // A file that would do the same is told before it is in force.
    let file = r#"{"routes": "manage", "rules": [{"verdict": "refuse", "protocol": "tcp", "local": "192.168.1.0/24", "ports": 80}]}"#;
    let check = host.feed(&["check", "-", "--json"], file);
    assert!(check.stdout.contains("\"routes-refused\""), "{}", check.stdout);
}
