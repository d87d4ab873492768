//! TPROXY setups that work are saved by the real programs, imported, removed and applied as rules: the same clients get
//! the same servers. Needs iptables, ipset and nft with the modules that TPROXY takes.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use inlet_testkit::Proto::{Tcp, Udp};
use inlet_testkit::{
    Dial, End, Listen, Namespace, Netns, Proto, TcpServer, UdpServer, dial_tcp, dial_udp, require_program, veth,
};

use crate::{Host, at};

/// A host with two transparent servers, an ordinary one, and a client beside it.
struct Setup {
    host: Host,
    own: Namespace,
    client: Namespace,
    _tcp: Vec<TcpServer>,
    _udp: UdpServer,
}

/// Whom a client asks, from which address.
type Question = (Proto, &'static str, [u8; 4]);

const NEAR: [u8; 4] = [10, 9, 0, 2];
const BARRED: [u8; 4] = [10, 9, 0, 66];

/// Questions, and who answers. Nobody else listens where the first rules are about.
const EXPECTED: [(Question, &str); 12] = [
    ((Tcp, "198.51.100.7:8080", NEAR), "web"),
    ((Tcp, "203.0.113.9:8080", NEAR), "web"),
    ((Udp, "198.51.100.7:8080", NEAR), "web"),
    ((Tcp, "203.0.113.10:8080", NEAR), "nobody"),
    ((Tcp, "198.51.100.7:8081", NEAR), "nobody"),
    ((Tcp, "192.0.2.1:80", NEAR), "proxy"),
    ((Tcp, "192.0.2.1:65535", NEAR), "proxy"),
    ((Tcp, "192.0.2.200:22", NEAR), "sshd"),
    ((Tcp, "192.0.2.1:80", BARRED), "nobody"),
    ((Tcp, "192.0.2.77:8443", NEAR), "web"),
    ((Tcp, "192.0.2.78:8443", NEAR), "proxy"),
    ((Tcp, "192.0.2.77:22", NEAR), "sshd"),
];

impl Setup {
    fn new() -> Option<Self> {
        let host = Host::new()?;
        let (own, client) = (Namespace::current().unwrap(), Netns::unentered().unwrap());
        let end = |namespace, addresses| End { namespace, name: "veth0", addresses };
        let theirs = ["10.9.0.2/24", "10.9.0.66/24"];
        veth(end(&own, &["10.9.0.1/24"]), end(&client, &theirs)).unwrap();
        for prefix in ["198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"] {
            own.local(prefix).unwrap();
            client.ip(&["route", "add", prefix, "via", "10.9.0.1"]).unwrap();
        }
        let transparent =
            |name, address| TcpServer::spawn_with(name, at(address), Listen::new().transparent()).unwrap();
        let web = transparent("web", "127.0.0.1:9000");
        let proxy = transparent("proxy", "127.0.0.1:9001");
        let sshd = TcpServer::spawn("sshd", at("0.0.0.0:22")).unwrap();
        let udp = UdpServer::spawn_with("web", at("127.0.0.1:9000"), Listen::new().transparent()).unwrap();
        Some(Self { host, own, client, _tcp: vec![web, proxy, sshd], _udp: udp })
    }

    fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        let output = self.own.run(command.args(words)).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Marked packets are for this host.
    fn route_marked(&self) {
        self.run("ip rule add fwmark 1 lookup 100");
        self.run("ip route add local default dev lo table 100");
    }

    fn answers(&self) -> Vec<String> {
        let ask = |((protocol, to, from), _): &(Question, &str)| {
            let how = Dial::new().source(Ipv4Addr::from(*from));
            let answer = self.client.enter(|| match protocol {
                Tcp => dial_tcp(at(to), &how),
                Udp => dial_udp(at(to), &how),
            });
            assert!(answer.local().is_none_or(|local| local == at(to)), "{to}: {answer:?}");
            answer.name().unwrap_or("nobody").to_owned()
        };
        EXPECTED.iter().map(ask).collect()
    }

    fn expect(&self, when: &str) {
        let expected: Vec<&str> = EXPECTED.iter().map(|(_, name)| *name).collect();
        assert_eq!(self.answers(), expected, "{when}");
    }

    /// Imports what was saved, after which `remove` takes the rules of the firewall away, and asks again.
    fn takes_over(&self, saved: &str, remove: &[&str]) {
        self.expect("by TPROXY");
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("saved"), saved).unwrap();
        std::fs::write(path("inlet.toml"), self.host.ok(&["import", "tproxy", &path("saved")])).unwrap();
        remove.iter().for_each(|line| drop(self.run(line)));
        assert!(self.answers().iter().all(|name| name == "nobody" || name == "sshd"), "the firewall has let go");
        self.host.ok(&["up"]);
        self.host.ok(&["apply", &path("inlet.toml")]);
        let pid = std::process::id().to_string();
        let all = ["tcp:127.0.0.1:9000", "udp:127.0.0.1:9000", "tcp:127.0.0.1:9001"];
        for (service, listen) in ["tproxy-9000", "tproxy-9000", "tproxy-9001"].iter().zip(all) {
            self.host.ok(&["register", service, "--pid", &pid, "--listen", listen]);
        }
        self.expect("by Inlet");
        self.host.ok(&["down"]);
    }
}

/// The way from TPROXY to Inlet and back again with clients that never stop asking: none is refused and none gets another server.
fn cut_over(setup: &Setup, load: &[&str], save: &str, unload: &[&str]) {
    let run = |lines: &[&str]| lines.iter().for_each(|line| drop(setup.run(line)));
    setup.route_marked();
    run(load);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let stop = AtomicBool::new(false);
    let (tell, told) = mpsc::channel();
    let client = &setup.client;
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| {
            let how = Dial::new().source(Ipv4Addr::from(NEAR));
            while !stop.load(Ordering::Relaxed) {
                let tcp = client.enter(|| dial_tcp(at("198.51.100.7:8080"), &how));
                let udp = client.enter(|| dial_udp(at("198.51.100.7:8080"), &how));
                let _ = tell.send([tcp, udp].map(|answer| answer.name().unwrap_or("nobody").to_owned()));
            }
        });
        // Some that began before, and many after.
        let asked = |when: &str| (0..30).for_each(|_| assert_eq!(told.recv().unwrap(), ["web", "web"], "{when}"));
        asked("by TPROXY");
        std::fs::write(path("saved"), setup.run(save)).unwrap();
        std::fs::write(path("inlet.toml"), setup.host.ok(&["import", "tproxy", &path("saved")])).unwrap();
        setup.host.ok(&["up"]);
        setup.host.ok(&["apply", &path("inlet.toml")]);
        setup.host.ok(&["adopt"]);
        asked("by TPROXY, with Inlet behind it");
        run(unload);
        asked("by Inlet");
        run(load);
        asked("by TPROXY again");
        setup.host.ok(&["down"]);
        asked("by TPROXY alone");
    });
}

/// Lets the clients end also when an assertion fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn iptables_is_left_with_traffic_running() {
    if !["iptables", "iptables-save"].iter().all(|program| require_program(program)) {
        return;
    }
    let Some(setup) = Setup::new() else { return };
    const TO: &str = "-d 198.51.100.0/24 --dport 8080 -j TPROXY --on-ip 127.0.0.1 --on-port 9000 --tproxy-mark 1";
    let rules = ["tcp", "udp"].map(|protocol| format!("iptables -t mangle -A PREROUTING -p {protocol} {TO}"));
    let divert = [
        "iptables -t mangle -N DIVERT",
        "iptables -t mangle -A DIVERT -j MARK --set-mark 1",
        "iptables -t mangle -A DIVERT -j ACCEPT",
        "iptables -t mangle -A PREROUTING -p tcp -m socket --transparent -j DIVERT",
    ];
    let load: Vec<&str> = divert.into_iter().chain(rules.iter().map(String::as_str)).collect();
    let unload = ["iptables -t mangle -F PREROUTING", "iptables -t mangle -F DIVERT", "iptables -t mangle -X DIVERT"];
    cut_over(&setup, &load, "iptables-save", &unload);
}

#[test]
fn nftables_is_left_with_traffic_running() {
    if !require_program("nft") {
        return;
    }
    let Some(setup) = Setup::new() else { return };
    let rules = "add table ip proxy;
        add chain ip proxy in { type filter hook prerouting priority mangle; policy accept; };
        add rule ip proxy in meta l4proto tcp socket transparent 1 meta mark set 1 accept;
        add rule ip proxy in ip daddr 198.51.100.0/24 meta l4proto { tcp, udp } th dport 8080 tproxy to 127.0.0.1:9000 meta mark set 1 accept";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.nft");
    std::fs::write(&file, rules).unwrap();
    let load = format!("nft -f {}", file.display());
    cut_over(&setup, &[&load], "nft -j list ruleset", &["nft delete table ip proxy"]);
}

#[test]
fn programs_bound_to_one_address_keep_their_packets() {
    if !require_program("iptables") {
        return;
    }
    let Some(setup) = Setup::new() else { return };
    let _own = TcpServer::spawn("own", at("192.0.2.5:2222")).unwrap();
    let expected = || {
        let how = Dial::new().source(Ipv4Addr::from(NEAR));
        let name = |to: &str| setup.client.enter(|| dial_tcp(at(to), &how)).name().unwrap_or("nobody").to_owned();
        assert_eq!(["192.0.2.5:2222", "192.0.2.6:2222", "192.0.2.5:2223"].map(name), ["own", "web", "web"]);
    };
    setup.run("iptables -t mangle -A PREROUTING -m socket -j ACCEPT");
    setup.run("iptables -t mangle -A PREROUTING -p tcp -j TPROXY --on-ip 127.0.0.1 --on-port 9000");
    expected();
    let saved = setup.run("iptables-save");
    setup.run("iptables -t mangle -F");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("saved"), &saved).unwrap();
    std::fs::write(path("inlet.toml"), setup.host.ok(&["import", "tproxy", &path("saved")])).unwrap();
    setup.host.ok(&["up"]);
    setup.host.ok(&["apply", "--force", &path("inlet.toml")]);
    setup.host.ok(&["adopt"]);
    expected();
    setup.host.ok(&["down"]);

    // On another host nobody knows of such programs: nothing is steered, and the file says what to decide.
    let ran = setup.host.run(&["import", "tproxy", "--elsewhere", &path("saved")]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(
        ran.stdout.starts_with("# TODO line ") && ran.stdout.contains("\n  # { to = \"tproxy-9000\""),
        "{}",
        ran.stdout
    );
    std::fs::write(path("todo.toml"), &ran.stdout).unwrap();
    setup.host.ok(&["up"]);
    setup.host.fails(&["apply", &path("todo.toml")], "line 1 says that something has to be decided (TODO)");
    setup.host.ok(&["apply", "--ignore-todo", &path("todo.toml")]);
    let rules = setup.host.ok(&["rules"]);
    assert!(!rules.contains("tproxy-9000"), "{rules}");
    std::fs::write(path("sockets"), "tcp LISTEN 0 128 192.0.2.5:2222 0.0.0.0:*\n").unwrap();
    let file = setup.host.ok(&["import", "tproxy", "--sockets", &path("sockets"), &path("saved")]);
    assert!(file.contains("local = \"192.0.2.5/32\", ports = 2222"), "{file}");
}

#[test]
fn a_first_ruleset_of_a_host_changes_nothing() {
    let Some(setup) = Setup::new() else { return };
    let _own = TcpServer::spawn("own", at("192.0.2.5:8022")).unwrap();
    let before = setup.answers();
    let file = setup.host.ok(&["import", "ss"]);
    assert!(file.contains("listen = [\"tcp:0.0.0.0:22\"]") && file.contains("\"198.51.100.0/24\""), "{file}");
    setup.host.ok(&["up"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inlet.toml");
    std::fs::write(&path, file).unwrap();
    setup.host.ok(&["apply", "--force", path.to_str().unwrap()]);
    setup.host.ok(&["adopt"]);
    assert_eq!(setup.answers(), before);
}

#[test]
fn iptables_setups_move_over() {
    let programs = ["iptables", "iptables-save", "ipset"];
    if !programs.iter().all(|program| require_program(program)) {
        return;
    }
    let Some(setup) = Setup::new() else { return };
    setup.route_marked();
    let to = |port: u16| format!("-j TPROXY --on-ip 127.0.0.1 --on-port {port} --tproxy-mark 1");
    let rules = [
        "ipset create nets hash:net".to_owned(),
        "ipset add nets 198.51.100.0/24".to_owned(),
        "ipset add nets 203.0.113.9".to_owned(),
        "iptables -t mangle -N DIVERT".to_owned(),
        "iptables -t mangle -A DIVERT -j MARK --set-mark 1".to_owned(),
        "iptables -t mangle -A DIVERT -j ACCEPT".to_owned(),
        "iptables -t mangle -A PREROUTING -p tcp -m socket --transparent -j DIVERT".to_owned(),
        format!("iptables -t mangle -A PREROUTING -p tcp -m set --match-set nets dst -m tcp --dport 8080 {}", to(9000)),
        format!("iptables -t mangle -A PREROUTING -p udp -m set --match-set nets dst -m udp --dport 8080 {}", to(9000)),
        format!(
            "iptables -t mangle -A PREROUTING -d 192.0.2.77 -p tcp -m multiport --dports 443,8000:8999 -i veth0 {}",
            to(9000)
        ),
        format!(
            "iptables -t mangle -A PREROUTING -d 192.0.2.0/24 ! -s 10.9.0.66 -p tcp -m tcp ! --dport 22 {}",
            to(9001)
        ),
    ];
    rules.iter().for_each(|line| drop(setup.run(line)));
    let saved = setup.run("iptables-save") + &setup.run("ipset save");
    setup.takes_over(&saved, &["iptables -t mangle -F", "ipset destroy nets", "ip rule del fwmark 1 lookup 100"]);
}

#[test]
fn nftables_setups_move_over() {
    if !require_program("nft") {
        return;
    }
    let Some(setup) = Setup::new() else { return };
    setup.route_marked();
    let rules = "add table ip inlet
        add set ip inlet nets { type ipv4_addr; flags interval; elements = { 198.51.100.0/24, 203.0.113.9 }; }
        add chain ip inlet in { type filter hook prerouting priority mangle; policy accept; }
        add chain ip inlet vip
        add chain ip inlet early { type filter hook prerouting priority -200; policy accept; }
        add rule ip inlet early ip daddr 192.0.2.77 accept
        add rule ip inlet early ip daddr 198.51.100.0/24 tcp dport 8080 tproxy to 127.0.0.1:9000 meta mark set 1
        add chain ip inlet late { type filter hook prerouting priority -100; policy accept; }
        add rule ip inlet late ip daddr 203.0.113.9 tcp dport 8080 tproxy to 127.0.0.1:9000 meta mark set 1
        add chain ip inlet twin { type filter hook prerouting priority -100; policy accept; }
        add rule ip inlet twin ip daddr 203.0.113.9 tcp dport 8080 tproxy to 127.0.0.1:9001 meta mark set 1
        add rule ip inlet in meta l4proto tcp socket transparent 1 meta mark set 1 accept
        add rule ip inlet in ip daddr @nets udp dport 8080 tproxy to 127.0.0.1:9000 meta mark set 1 accept
        add rule ip inlet in ip daddr @nets tcp dport 8080 tproxy to 127.0.0.1:9001 meta mark set 1 accept
        add rule ip inlet in ip daddr 192.0.2.0/24 ip saddr != 10.9.0.66 jump vip
        add rule ip inlet vip ip daddr 192.0.2.77 tcp dport { 443, 8000-8999 } tproxy to 127.0.0.1:9000 meta mark set 1 accept
        add rule ip inlet vip tcp dport != 22 tproxy to 127.0.0.1:9001 meta mark set 1 accept";
    setup.own.run(Command::new("nft").arg(rules)).unwrap();
    let saved = setup.run("nft -j list ruleset");
    // Chain `in` lets go what `early` has a socket for, by its first rule; then `twin` is asked, and `late` has the
    // last word.
    setup.takes_over(&saved, &["nft flush ruleset", "ip rule del fwmark 1 lookup 100"]);
}

#[test]
fn bindings_of_tubular_are_applied() {
    let Some(host) = Host::up() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let bindings = r#"{"bindings": [
        {"label": "foo", "prefix": "127.0.0.1/32"},
        {"label": "bar", "prefix": "::1/64", "port": 53, "protocol": "udp"}]}"#;
    std::fs::write(path("bindings.json"), bindings).unwrap();
    std::fs::write(path("inlet.toml"), host.ok(&["import", "tubular", &path("bindings.json")])).unwrap();
    let said = host.ok(&["apply", &path("inlet.toml")]);
    let lines = ["+ tcp 127.0.0.1/32 any -> foo", "+ udp 127.0.0.1/32 any -> foo", "+ udp ::/64 53 -> bar"];
    for line in lines {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    let ruleset = host.json(&["import", "tubular", &path("bindings.json")])["ruleset"].to_string();
    assert_eq!(host.apply(&ruleset).stdout, "no change\ngeneration 2\n");
}
