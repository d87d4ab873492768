//! Rulesets of iptables and ipset.

use crate::random::Random;

const NETS: [&[&str]; 2] = [
    &[
        "203.0.113.0/24",
        "203.0.113.0/25",
        "203.0.113.128/25",
        "203.0.113.5/32",
        "198.51.100.0/24",
        "198.51.100.7/32",
        "203.0.112.0/23",
        "203.0.113.64/26",
    ],
    &["2001:db8:7::/48", "2001:db8:7::/64", "2001:db8:7:1::/64", "2001:db8:7::5/128", "2001:db8:7:2::9/128"],
];
const FROM: [&[&str]; 2] = [
    &["192.0.2.0/24", "192.0.2.64/26", "192.0.2.2/32", "198.18.0.0/15"],
    &["2001:db8:1::/64", "2001:db8:1::42/128", "2001:db8:2::/64"],
];
const PORTS: [&str; 9] = ["22", "53", "80", "443", "5000:5999", "1:1023", "8080", "5050", "1024:65535"];
/// Members of sets: each port of a range is one.
const MEMBERS: [&str; 6] = ["22", "53", "80-81", "443", "5049-5051", "8080"];
const CHAINS: [&str; 3] = ["ONE", "TWO", "THREE"];

/// A set by its kind, and the ways in which rules name it.
const KINDS: [(&str, &[&str]); 6] = [
    ("hash:net", &["dst", "src"]),
    ("hash:ip", &["dst", "src"]),
    ("hash:ip,port", &["dst,dst", "src,dst"]),
    ("hash:net,port", &["dst,dst", "src,dst"]),
    ("hash:ip,port,net", &["dst,dst,src", "src,dst,dst"]),
    ("hash:net,iface", &["dst,src", "src,src"]),
];

struct Maker<'a> {
    random: &'a mut Random,
    v6: usize,
    /// Whether rules tell packets of a connection apart. Then none are dropped but those of UDP: who gets a connection
    /// is no
    /// question when half of its packets are.
    stateful: bool,
}

/// The commands and what they are given: sets, then the rules of both families.
pub(crate) fn ruleset(random: &mut Random) -> Vec<(&'static str, String)> {
    let sets = (0..2).map(|v6| Maker { random, v6, stateful: false }.sets()).collect::<String>();
    let stateful = random.percent(50);
    let v4 = Maker { random, v6: 0, stateful }.rules();
    let v6 = Maker { random, v6: 1, stateful }.rules();
    vec![("ipset restore", sets), ("iptables-restore", v4), ("ip6tables-restore", v6)]
}

impl Maker<'_> {
    fn net(&mut self) -> &'static str {
        let all = if self.random.percent(30) { FROM[self.v6] } else { NETS[self.v6] };
        self.random.of(all)
    }

    fn host(&mut self) -> &'static str {
        self.net().split('/').next().unwrap()
    }

    fn port(&mut self) -> String {
        let protocol = self.random.of(&["tcp", "udp"]);
        format!("{protocol}:{}", self.random.of(&MEMBERS))
    }

    fn set_name(&self, number: usize) -> String {
        format!("s{number}-{}", self.v6)
    }

    fn sets(&mut self) -> String {
        let family = ["inet", "inet6"][self.v6];
        let mut text = String::new();
        for (number, (kind, _)) in KINDS.iter().enumerate() {
            let name = self.set_name(number);
            text += &format!("create {name} {kind} family {family}\n");
            for _ in 0..self.random.below(5) {
                let fields = kind.trim_start_matches("hash:").split(',');
                let parts: Vec<String> = fields.map(|field| self.part(field)).collect();
                let nomatch = if kind.contains("net") && self.random.percent(20) { " nomatch" } else { "" };
                text += &format!("add -exist {name} {}{nomatch}\n", parts.join(","));
            }
        }
        let (list, ports) = (format!("list-{}", self.v6), format!("ports-{}", self.v6));
        // What a set of a list takes out another one may have.
        let other = format!("other-{}", self.v6);
        text += &format!("create {other} hash:net family {family}\nadd {other} {}\n", self.net());
        let (one, two) = (self.set_name(0), self.set_name(1));
        text += &format!("create {list} list:set\nadd {list} {one}\nadd {list} {two}\nadd {list} {other}\n");
        text += &format!("create {ports} bitmap:port range 0-65535\n");
        for port in self.random.some(&MEMBERS, 2) {
            text += &format!("add -exist {ports} {port}\n");
        }
        text
    }

    fn part(&mut self, field: &str) -> String {
        match field {
            "net" => self.net().to_owned(),
            "ip" => self.host().to_owned(),
            "port" => self.port(),
            _ => self.random.of(&["v1", "w1"]).to_owned(),
        }
    }

    fn rules(&mut self) -> String {
        let mut text = "*mangle\n:PREROUTING ACCEPT [0:0]\n".to_owned();
        CHAINS.iter().for_each(|chain| text += &format!(":{chain} - [0:0]\n"));
        for _ in 0..2 + self.random.below(7) {
            text += &self.rule("PREROUTING", &CHAINS);
        }
        for (number, chain) in CHAINS.iter().enumerate() {
            for _ in 0..self.random.below(4) {
                text += &self.rule(chain, &CHAINS[number + 1..]);
            }
        }
        if self.random.percent(70) {
            let protocol = self.random.of(&["tcp", "udp"]);
            text += &format!("-A PREROUTING -p {protocol} -j TPROXY --on-port 9000 --on-ip {}\n", self.proxy());
        }
        text + "COMMIT\n"
    }

    fn proxy(&self) -> &'static str {
        ["127.0.0.1", "::1"][self.v6]
    }

    fn rule(&mut self, chain: &str, below: &[&str]) -> String {
        let mut parts = Vec::new();
        let target = self.random.below(100);
        let protocol =
            if target < 45 || self.random.percent(60) { Some(self.random.of(&["tcp", "udp"])) } else { None };
        parts.extend(protocol.map(|protocol| format!("-p {protocol}")));
        for _ in 0..self.random.below(3) {
            let condition = self.condition(protocol);
            // iptables-save forgets one of two conditions about ports.
            let ports = |part: &String| part.contains("--dport");
            parts.extend(condition.filter(|it| !ports(it) || !parts.iter().any(ports)));
        }
        let target = match target {
            // With a socket packets are let go, as they are of connections that are there.
            _ if parts.iter().any(|part: &String| part.starts_with("-m socket")) => "-j ACCEPT".to_owned(),
            // Later packets of connections that are let go so would meet the rules behind.
            45.. if parts.iter().any(|part: &String| part.contains("ctstate")) => "-j MARK --set-mark 4".to_owned(),
            0..45 => {
                let mark = if self.random.percent(30) { " --tproxy-mark 0x1/0x1" } else { "" };
                format!("-j TPROXY --on-port {} --on-ip {}{mark}", self.random.of(&crate::world::PROXIES), self.proxy())
            }
            45..60 => "-j RETURN".to_owned(),
            60..68 => "-j ACCEPT".to_owned(),
            // Without a protocol it would be about the neighbours of IPv6 too.
            68..73 if protocol == Some("udp") || protocol.is_some() && !self.stateful => "-j DROP".to_owned(),
            68..73 => "-j ACCEPT".to_owned(),
            73..80 => format!("-j MARK --set-xmark {}", self.random.of(&["0x1/0xffffffff", "0x2/0x2", "0x0/0x1"])),
            _ if below.is_empty() => "-j RETURN".to_owned(),
            80..94 => format!("-j {}", self.random.of(below)),
            _ => format!("-g {}", self.random.of(below)),
        };
        format!("-A {chain} {} {target}\n", parts.join(" "))
    }

    fn condition(&mut self, protocol: Option<&str>) -> Option<String> {
        let not = if self.random.percent(25) { "! " } else { "" };
        Some(match self.random.below(16) {
            0..3 => format!("{not}-d {}", self.random.of(NETS[self.v6])),
            3..5 => format!("{not}-s {}", self.random.of(FROM[self.v6])),
            5..7 => format!("-m {} {not}--dport {}", protocol?, self.random.of(&PORTS)),
            7 => {
                protocol?;
                let ports = self.random.some(&PORTS, 3).join(",");
                format!("-m multiport {not}--dports {ports}")
            }
            8 => format!("{not}-i {}", self.random.of(&["v1", "w1", "v+", "x+"])),
            9..12 => {
                let number = self.random.below(KINDS.len());
                let sides = self.random.of(KINDS[number].1);
                format!("-m set {not}--match-set {} {sides}", self.set_name(number))
            }
            12 => match self.random.percent(50) {
                true => format!("-m set {not}--match-set list-{} {}", self.v6, self.random.of(&["dst", "src"])),
                false => format!("-m set {not}--match-set ports-{} dst", self.v6),
            },
            13 => format!("-m mark {not}--mark {}", self.random.of(&["0x1/0x1", "0x2", "0x0/0x3"])),
            14 if self.v6 == 0 => {
                format!(
                    "-m iprange {not}--dst-range {}",
                    self.random.of(&["203.0.113.3-203.0.113.80", "198.51.100.1-203.0.113.4"])
                )
            }
            14 => format!("-m iprange {not}--dst-range 2001:db8:7::2-2001:db8:7:1::ffff"),
            _ if !self.stateful => "-m addrtype --dst-type LOCAL".to_owned(),
            _ => self
                .random
                .of(&[
                    "-m socket",
                    "-m socket --transparent",
                    "-m addrtype --dst-type LOCAL",
                    "-m conntrack --ctstate NEW",
                    "-m length --length 0:40",
                    "-m ttl --ttl-gt 70",
                ])
                .replace("ttl", if self.v6 == 0 { "ttl" } else { "hl" }),
        })
    }
}
