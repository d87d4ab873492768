//! Rulesets to measure with: a realistic mix, and what is hard. The same in every run.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use inlet::rules::{Builder, Packet, PortRange, Prefix, Protocol, Rule, ServiceName, Verdict};
use ipnet::IpNet;

use crate::Result;
use crate::rng::Rng;

/// How many services there are.
pub(crate) const SERVICES: u16 = 100;

/// A rule with the index of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Steer {
    pub(crate) protocol: Protocol,
    pub(crate) local: Prefix,
    pub(crate) ports: PortRange,
    pub(crate) source: Option<Prefix>,
    pub(crate) service: u16,
}

/// A ruleset and what is asked of it.
#[derive(Debug)]
pub(crate) struct RuleSet {
    pub(crate) name: String,
    pub(crate) rules: Vec<Steer>,
    ask: Ask,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    /// An address and a port of a random rule.
    Rule,
    /// An address of a random host rule, and this port.
    HostWithPort(u16),
}

/// Makes rules of which no two are about the same packets.
struct Collector {
    rng: Rng,
    seen: HashSet<u64>,
    rules: Vec<Steer>,
    wanted: usize,
}

impl Collector {
    fn new(wanted: usize) -> Self {
        Self { rng: Rng::new(42), seen: HashSet::with_capacity(wanted), rules: Vec::with_capacity(wanted), wanted }
    }

    fn full(&self) -> bool {
        self.rules.len() >= self.wanted
    }

    fn push(&mut self, protocol: Protocol, local: IpNet, ports: PortRange, source: Option<Prefix>) {
        let local = prefix(local);
        let mut hasher = DefaultHasher::new();
        (protocol, local, ports, source).hash(&mut hasher);
        if !self.full() && self.seen.insert(hasher.finish()) {
            let service = self.rng.below(SERVICES.into()) as u16;
            self.rules.push(Steer { protocol, local, ports, source, service });
        }
    }

    fn done(self, name: impl Into<String>, ask: Ask) -> RuleSet {
        RuleSet { name: name.into(), rules: self.rules, ask }
    }
}

pub(crate) fn prefix(net: IpNet) -> Prefix {
    Prefix::new(net.trunc()).expect("a prefix without host bits")
}

pub(crate) fn v4(addr: u32, len: u8) -> IpNet {
    IpNet::new(Ipv4Addr::from(addr).into(), len).expect("at most 32 bits")
}

pub(crate) fn v6(addr: u128, len: u8) -> IpNet {
    IpNet::new(Ipv6Addr::from(addr).into(), len).expect("at most 128 bits")
}

pub(crate) fn ports(first: u16, last: u16) -> PortRange {
    PortRange::new(first, last).expect("a range of ports")
}

pub(crate) fn one(port: u16) -> PortRange {
    ports(port, port)
}

/// Which families a mix has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// 70 % IPv4, 30 % IPv6.
    Both,
    V4,
    V6,
}

/// A realistic mix: prefixes inside allocations of which some have many, few ports, few ranges and sources.
pub(crate) fn mix(wanted: usize, families: Families) -> RuleSet {
    let name = match families {
        Families::Both => format!("mix {wanted}"),
        Families::V4 => format!("v4 only {wanted}"),
        Families::V6 => format!("v6 only {wanted}"),
    };
    let mut rules = Collector::new(wanted);
    let rng = &mut rules.rng;
    let allocated4: Vec<u32> = (0..wanted / 1000 + 4).map(|_| unicast4(rng) & 0xffff_0000).collect();
    let allocated6: Vec<u128> = (0..wanted / 5000 + 2).map(|_| unicast6(rng) >> 96 << 96).collect();
    let sources4: Vec<Prefix> = (0..16).map(|_| prefix(v4(unicast4(rng), 16))).collect();
    let sources6: Vec<Prefix> = (0..16).map(|_| prefix(v6(unicast6(rng), 32))).collect();
    while !rules.full() {
        let rng = &mut rules.rng;
        let is_v4 = families == Families::V4 || families == Families::Both && rng.percent(70);
        let local = if is_v4 { prefix4(rng, &allocated4) } else { prefix6(rng, &allocated6) };
        let (protocol, ports) = service_ports(rng);
        let source = rng.percent(2).then(|| *rng.pick(if is_v4 { &sources4 } else { &sources6 }));
        rules.push(protocol, local, ports, source);
    }
    rules.done(name, Ask::Rule)
}

fn unicast4(rng: &mut Rng) -> u32 {
    (1 + rng.below(223) as u32) << 24 | rng.word() as u32 & 0xff_ffff
}

fn unicast6(rng: &mut Rng) -> u128 {
    0x2 << 124 | rng.wide() >> 4
}

/// Earlier ones more often: some allocations are crowded.
fn skewed(rng: &mut Rng, count: usize) -> usize {
    rng.below(count as u64).min(rng.below(count as u64)) as usize
}

fn prefix4(rng: &mut Rng, allocated: &[u32]) -> IpNet {
    let len = match rng.below(100) {
        0 => 16,
        1..4 => 17 + rng.below(3) as u8,
        4..12 => 20 + rng.below(4) as u8,
        12..52 => 24,
        52..60 => 25 + rng.below(7) as u8,
        _ => 32,
    };
    v4(allocated[skewed(rng, allocated.len())] | rng.word() as u32 & 0xffff, len)
}

fn prefix6(rng: &mut Rng, allocated: &[u128]) -> IpNet {
    let len = match rng.below(100) {
        0 => 32,
        1..5 => 33 + rng.below(15) as u8,
        5..35 => 48,
        35..40 => 49 + rng.below(15) as u8,
        40..70 => 64,
        _ => 128,
    };
    let site = rng.wide() >> 32;
    // Hosts are numbered by hand as often as they draw their number.
    let host = if rng.percent(50) { (site >> 64 << 64) | (1 + u128::from(rng.below(256))) } else { site };
    v6(allocated[skewed(rng, allocated.len())] | host, len)
}

fn service_ports(rng: &mut Rng) -> (Protocol, PortRange) {
    const OTHERS: [u16; 16] = [21, 22, 25, 110, 123, 143, 465, 587, 636, 853, 993, 3306, 5432, 6379, 8080, 8443];
    let either = if rng.percent(70) { Protocol::Tcp } else { Protocol::Udp };
    match rng.below(100) {
        0..30 => (either, one(443)),
        30..52 => (Protocol::Tcp, one(80)),
        52..72 => (if rng.percent(75) { Protocol::Udp } else { Protocol::Tcp }, one(53)),
        72..82 => (either, one(*rng.pick(&OTHERS))),
        // Ranges of one width that overlap would tie; these do not.
        82..90 => (either, *rng.pick(&[ports(8000, 8999), ports(5000, 5099), ports(10000, 19999), ports(1024, 65535)])),
        _ => (either, PortRange::ANY),
    }
}

/// All rules are about single IPv4 hosts anywhere.
pub(crate) fn hosts(wanted: usize) -> RuleSet {
    let mut rules = Collector::new(wanted);
    while !rules.full() {
        let addr = unicast4(&mut rules.rng);
        rules.push(Protocol::Tcp, v4(addr, 32), one(443), None);
    }
    rules.done(format!("host routes {wanted}"), Ask::Rule)
}

/// Chains of 32 nested prefixes with a port each, asked for the port of the shortest.
pub(crate) fn nested(wanted: usize) -> RuleSet {
    let mut rules = Collector::new(wanted);
    while !rules.full() {
        let addr = rules.rng.word() as u32;
        for len in 1..=32 {
            rules.push(Protocol::Tcp, v4(addr, len), one(1000 + u16::from(len)), None);
        }
    }
    rules.done(format!("nested {wanted}"), Ask::HostWithPort(1001))
}

/// All rules are ranges of ports of one prefix.
pub(crate) fn ranges(wanted: usize) -> RuleSet {
    let mut rules = Collector::new(wanted);
    for at in 0..wanted as u16 {
        rules.push(Protocol::Tcp, v4(0xc633_6400, 24), ports(6 * at + 1, 6 * at + 4), None);
    }
    rules.done(format!("port ranges {wanted}"), Ask::Rule)
}

/// All rules are about hosts of one /16.
pub(crate) fn one_net(wanted: usize) -> RuleSet {
    let mut rules = Collector::new(wanted);
    for at in 0..wanted as u32 {
        rules.push(Protocol::Tcp, v4(0xcb00_0000 | at & 0xffff, 32), one(1000 + (at >> 16) as u16), None);
    }
    rules.done(format!("one /16 {wanted}"), Ask::Rule)
}

/// All rules are about IPv6 hosts below one /32, numbered one after the other or at random.
pub(crate) fn one_net6(wanted: usize, random: bool) -> RuleSet {
    let mut rules = Collector::new(wanted);
    for at in 0..wanted as u128 {
        let host = if random { rules.rng.wide() >> 32 } else { at };
        rules.push(Protocol::Tcp, v6(0x2001_0db8 << 96 | host, 128), one(443), None);
    }
    let order = if random { "random" } else { "sequential" };
    rules.done(format!("v6 /32 {order} {wanted}"), Ask::Rule)
}

/// The name of the service with this index.
pub(crate) fn service_name(index: u16) -> ServiceName {
    format!("service{index:02}").parse().expect("a good name")
}

impl RuleSet {
    /// Packets that the rules are about.
    pub(crate) fn packets(&self, count: usize) -> Vec<Packet> {
        let mut rng = Rng::new(7);
        (0..count).map(|_| self.packet(&mut rng)).collect()
    }

    fn packet(&self, rng: &mut Rng) -> Packet {
        match self.ask {
            Ask::Rule => {
                let rule = rng.pick(&self.rules);
                let port = rule.ports.first() + rng.below(u64::from(rule.ports.last() - rule.ports.first()) + 1) as u16;
                packet_to(rule, port, rng)
            }
            Ask::HostWithPort(port) => loop {
                let rule = rng.pick(&self.rules);
                if rule.local.len() == 32 {
                    break packet_to(rule, port, rng);
                }
            },
        }
    }

    /// Puts services and rules into a builder.
    pub(crate) fn fill(&self, builder: &mut Builder) -> Result<()> {
        let ids = (0..SERVICES).map(|index| builder.service(&service_name(index))).collect::<Result<Vec<_>, _>>()?;
        for rule in &self.rules {
            let Steer { protocol, local, ports, source, service } = *rule;
            let made = Rule::new(protocol, local, ports, Verdict::Service(ids[usize::from(service)]));
            builder.push(&source.map_or(made, |source| made.from(source)))?;
        }
        Ok(())
    }
}

fn packet_to(rule: &Steer, port: u16, rng: &mut Rng) -> Packet {
    let local = address_in(rule.local, rng);
    let anywhere = if local.is_ipv4() { v4(unicast4(rng), 32) } else { v6(unicast6(rng), 128) };
    let remote = address_in(rule.source.unwrap_or_else(|| prefix(anywhere)), rng);
    Packet::new(rule.protocol, SocketAddr::new(local, port), SocketAddr::new(remote, 40000))
}

fn address_in(prefix: Prefix, rng: &mut Rng) -> IpAddr {
    match prefix.addr() {
        IpAddr::V4(addr) => {
            let host = (u64::from(u32::MAX) >> prefix.len()) as u32;
            Ipv4Addr::from(addr.to_bits() | rng.word() as u32 & host).into()
        }
        IpAddr::V6(addr) => {
            let host = u128::MAX.checked_shr(prefix.len().into()).unwrap_or(0);
            Ipv6Addr::from(addr.to_bits() | rng.wide() & host).into()
        }
    }
}
