//! Rulesets of nftables.

use crate::random::Random;

const LOCAL: [&[&str]; 2] = [
    &[
        "203.0.113.0/24",
        "203.0.113.0/25",
        "203.0.113.128/25",
        "203.0.113.5",
        "198.51.100.0/24",
        "198.51.100.7",
        "203.0.113.60-203.0.113.140",
    ],
    &["2001:db8:7::/48", "2001:db8:7::/64", "2001:db8:7:1::/64", "2001:db8:7::5", "2001:db8:7:2::9"],
];
const FROM: [&[&str]; 2] = [
    &["192.0.2.0/24", "192.0.2.64/26", "192.0.2.2", "198.18.0.0/15"],
    &["2001:db8:1::/64", "2001:db8:1::42", "2001:db8:2::/64"],
];
const PORTS: [&str; 8] = ["22", "53", "80", "443", "5000-5999", "1-1023", "8080", "5050"];
const HOSTS: [&[&str]; 2] = [
    &["203.0.113.1", "203.0.113.5", "203.0.113.77", "198.51.100.7"],
    &["2001:db8:7::1", "2001:db8:7::5", "2001:db8:7:1::1"],
];
const SINGLE: [&str; 6] = ["22", "53", "80", "443", "8080", "5050"];
const IP: [&str; 2] = ["ip", "ip6"];

struct Maker<'a> {
    random: &'a mut Random,
    /// Whether rules tell packets of a connection apart. Then none are dropped but those of UDP.
    stateful: bool,
}

/// One table of both families, with sets, chains and chains where packets come in.
pub(crate) fn ruleset(random: &mut Random) -> Vec<(&'static str, String)> {
    let stateful = random.percent(50);
    let mut maker = Maker { random, stateful };
    let mut text = "table inet t {\n".to_owned();
    for v6 in 0..2 {
        text += &maker.sets(v6);
    }
    let chains = ["one", "two"];
    // A chain is declared before the rules that jump to it.
    text += "chain two {\n";
    for _ in 0..maker.random.below(4) {
        text += &maker.rule(&[]);
    }
    text += "}\nchain one {\n";
    for _ in 0..maker.random.below(4) {
        text += &maker.rule(&chains[1..]);
    }
    text += "}\n";
    let priorities = ["mangle", "-200", "-100"];
    for number in 0..1 + usize::from(maker.random.percent(40)) {
        let priority = maker.random.of(&priorities);
        let policy = if !stateful && maker.random.percent(5) { "drop" } else { "accept" };
        text += &format!("chain in{number} {{\ntype filter hook prerouting priority {priority}; policy {policy};\n");
        if policy == "drop" {
            text += "meta l4proto != { tcp, udp } accept\nct state established accept\n";
        }
        for _ in 0..2 + maker.random.below(7) {
            text += &maker.rule(&chains);
        }
        text += "}\n";
    }
    vec![("nft -f -", text + "}\n")]
}

impl Maker<'_> {
    fn sets(&mut self, v6: usize) -> String {
        let kind = ["ipv4_addr", "ipv6_addr"][v6];
        let mut text = String::new();
        let mut set = |name: String, kind: String, elements: Vec<String>| {
            let list =
                if elements.is_empty() { String::new() } else { format!("elements = {{ {} }};", elements.join(", ")) };
            text += &format!("{name} {{ type {kind}; flags interval; auto-merge; {list} }}\n");
        };
        let owned = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let local = if self.random.percent(90) { owned(self.random.some(LOCAL[v6], 3)) } else { Vec::new() };
        set(format!("set local{v6}"), kind.to_owned(), local);
        let from = owned(self.random.some(FROM[v6], 2));
        set(format!("set from{v6}"), kind.to_owned(), from);
        let (a, b) = (self.random.of(HOSTS[v6]), self.random.of(&SINGLE));
        let (c, d) = (self.random.of(&LOCAL[v6][..1]), self.random.of(&PORTS[4..6]));
        text += &format!(
            "set pairs{v6} {{ type {kind} . inet_service; flags interval; elements = {{ {a} . {b}, {c} . {d} }} }}\n"
        );
        text += &format!(
            "set triple{v6} {{ type {kind} . inet_proto . inet_service; elements = {{ {a} . tcp . {b}, {a} . udp . 80 }} }}\n"
        );
        let verdict = self.random.of(&["return", "accept", "continue", if self.stateful { "return" } else { "drop" }]);
        text + &format!("map m{v6} {{ type {kind} : verdict; flags interval; elements = {{ {a} : {verdict} }} }}\n")
    }

    fn rule(&mut self, below: &[&str]) -> String {
        let v6 = usize::from(self.random.percent(35));
        let mut parts = Vec::new();
        for _ in 0..self.random.below(3) {
            parts.push(self.condition(v6));
        }
        let action = match self.random.below(100) {
            0..50 => self.tproxy(v6),
            50..62 => "return".to_owned(),
            62..69 => "accept".to_owned(),
            // Not the neighbours of IPv6.
            69..72 if self.stateful => "meta l4proto udp drop".to_owned(),
            69..72 => format!("meta l4proto {{ tcp, udp }} {}", self.random.of(&["drop", "reject"])),
            72..79 => {
                format!("meta mark set {}", self.random.of(&["1", "meta mark or 0x2", "meta mark and 0xfffffffe"]))
            }
            79..83 => format!("{} daddr vmap @m{v6}", IP[v6]),
            _ if below.is_empty() => "return".to_owned(),
            83..88 => self.dispatch(below),
            88..96 => format!("jump {}", self.random.of(below)),
            _ => format!("goto {}", self.random.of(below)),
        };
        format!("{} {action}\n", parts.join(" "))
    }

    fn dispatch(&mut self, below: &[&str]) -> String {
        let chain = self.random.of(below);
        let (a, b) = (self.random.of(&SINGLE), self.random.of(&["22", "53", "9999"]));
        match self.random.below(3) {
            0 if a != b => format!("tcp dport vmap {{ {a} : jump {chain}, {b} : return }}"),
            1 => format!("meta l4proto . th dport vmap {{ tcp . {a} : goto {chain}, udp . {a} : accept }}"),
            _ => format!("meta l4proto vmap {{ tcp : jump {chain}, udp : return }}"),
        }
    }

    fn tproxy(&mut self, v6: usize) -> String {
        let port = self.random.of(&crate::world::PROXIES);
        let addr = ["127.0.0.1", "[::1]"][v6];
        let protocol = self.random.of(&["meta l4proto tcp", "meta l4proto udp", "meta l4proto { tcp, udp }"]);
        let then = self.random.of(&["", "", "accept", "meta mark set 1 accept", "meta mark set 1"]);
        let target = match self.random.below(6) {
            0 => {
                format!("tcp dport {{ 80, 443 }} tproxy {} to {addr}:tcp dport map {{ 80 : 9000, 443 : 9001 }}", IP[v6])
            }
            1 => return format!("{} daddr . tcp dport @pairs{v6} tproxy {} to {addr}:{port} {then}", IP[v6], IP[v6]),
            _ => format!("{protocol} tproxy {} to {addr}:{port}", IP[v6]),
        };
        format!("{target} {then}")
    }

    fn condition(&mut self, v6: usize) -> String {
        let (ip, not) = (IP[v6], if self.random.percent(25) { "!= " } else { "" });
        match self.random.below(20) {
            0..3 => format!("{ip} daddr {not}{}", self.random.of(LOCAL[v6])),
            3 => format!("{ip} saddr {not}{}", self.random.of(FROM[v6])),
            4 => format!("{ip} daddr {not}@local{v6}"),
            5 => format!("{ip} saddr {not}@from{v6}"),
            6 => format!("tcp dport {not}{}", self.random.of(&PORTS)),
            7 => format!("udp dport {not}{}", self.random.of(&PORTS)),
            8 => format!(
                "meta l4proto {{ tcp, udp }} th dport {not}{{ 22, 53, {} }}",
                self.random.of(&["80", "5000-5999", "8080"])
            ),
            9 => format!("iifname {not}{}", self.random.of(&["v1", "w1", "{ v1, w1 }", "\"w*\"", "{ \"v*\", lo }"])),
            10 => format!("meta nfproto {}", self.random.of(&["ipv4", "ipv6", "{ ipv4, ipv6 }"])),
            11 => format!("meta mark {not}{}", self.random.of(&["1", "2", "{ 1, 2 }", "0"])),
            12 => format!("meta mark and 0x1 == {}", self.random.of(&["0x1", "0x0"])),
            13 => format!("{ip} daddr . tcp dport {not}@pairs{v6}"),
            14 => format!("{ip} daddr . meta l4proto . th dport {not}@triple{v6}"),
            15 => self.random.of(&["fib daddr type local", "fib daddr type != local"]).to_owned(),
            16 if self.stateful => self
                .random
                .of(&[
                    "socket transparent 1",
                    "socket transparent 0",
                    "socket wildcard 0",
                    "socket transparent 1 socket wildcard 0",
                ])
                .to_owned(),
            17 => self
                .random
                .of(&[
                    "ip protocol tcp",
                    "ip6 nexthdr udp",
                    "tcp flags syn",
                    "tcp flags & (syn | ack) == syn",
                    "meta protocol ip",
                ])
                .to_owned(),
            _ => self.random.of(&["tcp sport 1024-65535", "ip ttl > 70"]).to_owned(),
        }
    }
}
