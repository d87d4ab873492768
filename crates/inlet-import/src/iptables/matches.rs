//! The conditions of iptables rules.

use inlet_core::Protocol;

use super::rule::Reader;
use crate::firewall::{Addresses, Range, SocketTest, Test, joined};

/// Modules whose conditions are their options; any other is itself a condition.
const MODULES: [&str; 13] = [
    "tcp",
    "udp",
    "set",
    "multiport",
    "comment",
    "mark",
    "connmark",
    "conntrack",
    "state",
    "addrtype",
    "iprange",
    "socket",
    "pkttype",
];

/// The flags that iptables compares, in the order of their bits.
const FLAGS: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];

impl Reader<'_> {
    pub(super) fn condition(&mut self, option: &str, not: bool) {
        match option {
            "-p" | "--protocol" | "--proto" => self.protocol(not),
            "-m" | "--match" => self.module(not),
            "-d" | "--destination" | "--dst" => self.addresses(not, false),
            "-s" | "--source" | "--src" => self.addresses(not, true),
            "-i" | "--in-interface" => self.iface(not),
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                let text = self.next();
                match ports(text) {
                    Some(test) => self.matches(test, not),
                    None => self.cannot(format!("{text} are no ports")),
                }
            }
            "--ports" => {
                let text = self.next();
                match ports(text) {
                    Some(test) => self.either = Some((test, not)),
                    None => self.cannot(format!("{text} are no ports")),
                }
            }
            "--match-set" => self.set(not),
            "--update-counters" | "--update-subcounters" if not => {}
            "--src-range" | "--dst-range" => self.range(option == "--src-range", not),
            "--mark" => self.mark(not),
            "--ctstate" | "--state" => {
                let has = |states: &str, wanted: &str| states.split(',').any(|state| state == wanted);
                let states = self.next();
                self.matches(Test::State { tracked: has(states, "NEW"), untracked: has(states, "UNTRACKED") }, not);
            }
            "--ctdir" => {
                let original = self.next() == "ORIGINAL";
                self.matches(Test::Always(original), not);
            }
            // Inlet sees packets that open connections only.
            "--syn" => self.matches(Test::Always(true), not),
            "--tcp-flags" => {
                let flags = |text: &str| -> Vec<bool> {
                    FLAGS.iter().map(|flag| text == "ALL" || text.split(',').any(|other| other == *flag)).collect()
                };
                let (mask, wanted) = (flags(self.next()), flags(self.next()));
                let syn: Vec<bool> = FLAGS.iter().zip(&mask).map(|(flag, asked)| *asked && *flag == "SYN").collect();
                self.matches(Test::Always(syn == wanted), not);
            }
            "--dst-type" => self.dst_type(not),
            "--pkt-type" => {
                let host = self.next() == "unicast";
                self.matches(Test::Always(host), not);
            }
            "--transparent" | "--nowildcard" | "--restore-skmark" if self.socket.is_some() => {
                self.socket_option(option)
            }
            other => self.other(other, not),
        }
    }

    fn module(&mut self, not: bool) {
        let module = self.next();
        module.clone_into(&mut self.module);
        if module == "socket" {
            if let Some((socket, not)) = self.socket.take() {
                self.matches(Test::Socket(socket), not);
            }
            let test = SocketTest { transparent: None, wildcard: Some(false), found: None };
            self.socket = Some((test, not));
        } else if !MODULES.contains(&module) {
            self.cannot(format!("a ruleset has no condition -m {module}"));
        }
    }

    fn socket_option(&mut self, option: &str) {
        if let Some((test, _)) = &mut self.socket {
            match option {
                "--transparent" => test.transparent = Some(true),
                "--nowildcard" => test.wildcard = None,
                _ => {}
            }
        }
    }

    /// An option that is not known: its values are those words that follow and are no options.
    fn other(&mut self, option: &str, not: bool) {
        let mut values = Vec::new();
        while let Some(value) = self.words.next_if(|word| !word.starts_with('-') && word.as_str() != "!") {
            values.push(value.as_str());
        }
        // The module is told already.
        if self.module.is_empty() || MODULES.contains(&self.module.as_str()) {
            let not = if not { "! " } else { "" };
            self.cannot(format!("a ruleset has no condition {not}{option} {}", values.join(" ")).trim_end().to_owned());
        }
    }

    fn protocol(&mut self, not: bool) {
        let protocols = match self.next() {
            "tcp" | "6" => vec![Protocol::Tcp],
            "udp" | "17" => vec![Protocol::Udp],
            "all" | "0" => Protocol::ALL.to_vec(),
            // Other protocols have no ports.
            _ => Vec::new(),
        };
        self.matches(Test::Protocols(protocols), not);
    }

    fn addresses(&mut self, not: bool, source: bool) {
        let text = self.next();
        let ranges: Option<Vec<Range>> = text.split(',').map(Range::read).collect();
        match ranges {
            Some(ranges) => self.side(Addresses::new(ranges), source, not),
            None => self.cannot(format!("{text} is not a prefix")),
        }
    }

    fn side(&mut self, addresses: Addresses, source: bool, not: bool) {
        self.matches(if source { Test::Source(addresses) } else { Test::Local(addresses) }, not);
    }

    fn range(&mut self, source: bool, not: bool) {
        let text = self.next();
        match Range::read(text) {
            Some(range) => self.side(Addresses::new([range]), source, not),
            None => self.cannot(format!("{text} is no range of addresses")),
        }
    }

    fn iface(&mut self, not: bool) {
        let text = self.next();
        match text.strip_suffix('+') {
            Some("") => self.matches(Test::Always(true), not),
            Some(start) => self.matches(Test::Ifaces(vec![format!("{start}*")]), not),
            None if text.parse::<inlet_core::InterfaceName>().is_ok() => {
                self.matches(Test::Ifaces(vec![text.to_owned()]), not);
            }
            None => self.cannot(format!("{text} is not the name of an interface")),
        }
    }

    fn set(&mut self, not: bool) {
        let (name, sides) = (self.next(), self.next());
        self.used.insert(name.to_owned());
        match self.sets.test(name, sides) {
            Ok(test) => self.matches(test, not),
            Err(why) => self.cannot(why),
        }
    }

    fn mark(&mut self, not: bool) {
        let text = self.next();
        let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
        let conn = self.module == "connmark";
        match (number(value), number(mask)) {
            (Some(value), Some(mask)) => self.matches(Test::Mark { conn, mask, values: vec![(value, value)] }, not),
            _ => self.cannot(format!("{text} is no mark")),
        }
    }

    /// What kind of address it is, of packets to the host: local, and nothing else.
    fn dst_type(&mut self, not: bool) {
        let has = |types: &str, wanted: &str| types.split(',').any(|kind| kind == wanted);
        let types = self.next();
        match (has(types, "LOCAL"), has(types, "UNICAST")) {
            (local, unicast) if local != unicast => self.matches(Test::LocalType(local), not),
            (both, _) => self.matches(Test::Always(both), not),
        }
    }
}

/// A number as iptables writes it.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `80`, `80,443`, `8000:8999`, where an end may be left out.
fn ports(text: &str) -> Option<Test> {
    let range = |text: &str| {
        let (first, last) = text.split_once([':', '-']).unwrap_or((text, text));
        let number =
            |text: &str, left_out: u16| if text.is_empty() { Some(left_out) } else { text.parse::<u16>().ok() };
        let (first, last) = (number(first, 0)?, number(last, u16::MAX)?);
        (!text.is_empty() && first <= last).then_some((first.into(), last.into()))
    };
    text.split(',').map(range).collect::<Option<Vec<_>>>().map(|spans| Test::Ports(joined(spans)))
}
