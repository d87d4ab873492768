//! Which of two rules decides, for every pair of the four criteria, seen by real packets that come in on real
//! interfaces from real sources; and that each answer is the one of the specification.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

mod common;

use std::net::{IpAddr, SocketAddr};

use common::{Receiver, at, bind, dial_with, here, patient, selector, snapshot, to, up, who};
use inlet::rules::{BuildError, Match, Packet, Protocol, Rule, Ruleset, Selector, Target, Verdict, lookup};
use inlet::{CommitOptions, Error, Instance, ServiceRequest};
use inlet_testkit::{Dial, End, Namespace, Netns, TcpServer, UdpServer, World, veth};

/// The addresses of one family that the table is about.
#[derive(Clone, Copy)]
struct Family {
    /// A prefix of the host, and one inside it.
    wide: &'static str,
    narrow: &'static str,
    /// In the narrow prefix, in the wide one only, and in neither.
    locals: [&'static str; 3],
    /// The sources of the first and the second client on `east`, and of the one on `west`.
    clients: [&'static str; 3],
    /// A prefix of all clients, and one of the first one.
    everyone: &'static str,
    first: &'static str,
}

const V4: Family = Family {
    wide: "192.0.2.0/24",
    narrow: "192.0.2.16/28",
    locals: ["192.0.2.17", "192.0.2.200", "198.51.100.9"],
    clients: ["10.0.1.2", "10.0.1.3", "10.0.2.2"],
    everyone: "10.0.0.0/16",
    first: "10.0.1.2/32",
};

const V6: Family = Family {
    wide: "2001:db8:a::/48",
    narrow: "2001:db8:a:1::/64",
    locals: ["2001:db8:a:1::7", "2001:db8:a:2::7", "2001:db8:b::9"],
    clients: ["fd00:0:0:1::2", "fd00:0:0:1::3", "fd00:0:0:2::2"],
    everyone: "fd00::/32",
    first: "fd00:0:0:1::2/128",
};

/// The three ports that are asked: in the narrow range, in the wide one only, in neither.
const PORTS: [u16; 3] = [80, 85, 99];

/// The criteria, the one that decides first at the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Criterion {
    Local,
    Ports,
    Source,
    Iface,
}

const CRITERIA: [Criterion; 4] = [Criterion::Local, Criterion::Ports, Criterion::Source, Criterion::Iface];

/// A rule that is specific in these criteria and wide in the others.
fn rule(family: Family, protocol: Protocol, specific: &[Criterion]) -> Selector {
    let has = |criterion| specific.contains(&criterion);
    let local = if has(Criterion::Local) { family.narrow } else { family.wide };
    let source = if has(Criterion::Source) { family.first } else { family.everyone };
    Selector {
        source: Some(source.parse().unwrap()),
        iface: has(Criterion::Iface).then(|| "east".parse().unwrap()),
        ..selector(protocol, local, if has(Criterion::Ports) { "80" } else { "80-90" })
    }
}

/// Another namespace whose clients reach this one over two interfaces, `east` and `west`.
fn clients(world: &World) -> Namespace {
    let clients = Netns::unentered().unwrap();
    for (name, ours, theirs) in [
        ("east", ["10.0.1.1/24", "fd00:0:0:1::1/64"], ["10.0.1.2/24", "fd00:0:0:1::2/64"]),
        ("west", ["10.0.2.1/24", "fd00:0:0:2::1/64"], ["10.0.2.2/24", "fd00:0:0:2::2/64"]),
    ] {
        let one = End { namespace: world, name, addresses: &ours };
        veth(one, End { namespace: &clients, name, addresses: &theirs }).unwrap();
    }
    clients.ip(&["addr", "add", "10.0.1.3/24", "dev", "east"]).unwrap();
    clients.ip(&["addr", "add", "fd00:0:0:1::3/64", "dev", "east", "nodad"]).unwrap();
    for (local, east, west) in [
        ("192.0.2.0/24", "10.0.1.1", "10.0.2.1"),
        ("198.51.100.0/24", "10.0.1.1", "10.0.2.1"),
        ("2001:db8::/32", "fd00:0:0:1::1", "fd00:0:0:2::1"),
    ] {
        clients.ip(&["route", "add", local, "via", east, "dev", "east", "metric", "10"]).unwrap();
        clients.ip(&["route", "add", local, "via", west, "dev", "west", "metric", "20"]).unwrap();
        world.local(local).unwrap();
    }
    clients
}

/// The host's own servers, which have what no rule matches and what passes.
fn own_servers() -> Vec<(TcpServer, UdpServer)> {
    let serve = |port: &u16| {
        let addr = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, *port));
        (TcpServer::spawn("host", addr).unwrap(), UdpServer::spawn("host", addr).unwrap())
    };
    PORTS.iter().map(serve).collect()
}

struct Table {
    clients: Namespace,
    indexes: [u32; 2],
    _host: Vec<(TcpServer, UdpServer)>,
    _receivers: [Receiver; 2],
    world: World,
}

impl Table {
    fn new() -> Option<Self> {
        let world = World::new()?;
        let clients = clients(&world);
        let mut instance = up(&world);
        let receivers = ["a", "b"].map(|name| {
            instance.set_service(&name.parse().unwrap(), ServiceRequest::default()).unwrap();
            Receiver::of(&mut instance, name)
        });
        let index = |name: &str| here(&world).netns().interface_index(&name.parse().unwrap()).unwrap().unwrap();
        let indexes = ["east", "west"].map(index);
        Some(Self { clients, indexes, _host: own_servers(), _receivers: receivers, world })
    }

    /// Makes these rules the only ones.
    fn commit(&self, rules: &[(Target, Selector)]) -> Ruleset {
        let mut instance = Instance::open(at(self.world.bpffs.path())).unwrap();
        let before: Vec<Match> = instance.ruleset().unwrap().rules().map(|rule| rule.matching).collect();
        let committed = instance.edit(&CommitOptions::default(), |builder| {
            for matching in &before {
                builder.remove(matching);
            }
            for (target, selector) in rules {
                let verdict = target.verdict(builder)?;
                for matching in selector.matches(builder)? {
                    builder.push(&Rule { matching, verdict })?;
                }
            }
            Ok(())
        });
        committed.unwrap();
        instance.ruleset().unwrap().clone()
    }

    /// Dials every local address and port as every client, and compares each answer with the specification.
    fn compare(&self, ruleset: &Ruleset, family: Family, protocol: Protocol, about: &str) {
        for local in family.locals {
            for port in PORTS {
                let target = SocketAddr::new(local.parse().unwrap(), port);
                for client in 0..3 {
                    let packet = self.packet(family, protocol, target, client);
                    let told = who(&self.dial(family, protocol, target, client));
                    assert_eq!(told, expected(ruleset, &packet), "{about}: {packet:?}");
                }
            }
        }
    }

    fn packet(&self, family: Family, protocol: Protocol, local: SocketAddr, client: usize) -> Packet {
        let source: IpAddr = family.clients[client].parse().unwrap();
        Packet { ifindex: self.indexes[client / 2], ..Packet::new(protocol, local, SocketAddr::new(source, 40000)) }
    }

    fn dial(&self, family: Family, protocol: Protocol, to: SocketAddr, client: usize) -> inlet_testkit::Answer {
        let source: IpAddr = family.clients[client].parse().unwrap();
        let how: Dial = patient().source(source).interface(["east", "east", "west"][client]);
        self.clients.enter(|| dial_with(protocol, to, &how))
    }
}

fn expected(ruleset: &Ruleset, packet: &Packet) -> String {
    let verdict = lookup(ruleset, packet).map(|rule| rule.verdict);
    match verdict {
        None | Some(Verdict::Pass) => "host".to_owned(),
        Some(Verdict::Refuse) => "Refused".to_owned(),
        Some(verdict) => ruleset.service_name(verdict).unwrap().to_owned(),
    }
}

/// The rule `a` is specific where it counts more, `b` where it counts less; a packet that both match is for `a`.
#[test]
fn the_first_difference_decides() {
    let Some(table) = Table::new() else { return };
    for (family, protocol) in [(V4, Protocol::Tcp), (V4, Protocol::Udp), (V6, Protocol::Tcp), (V6, Protocol::Udp)] {
        for stronger in CRITERIA {
            for weaker in CRITERIA.into_iter().filter(|weaker| *weaker > stronger) {
                let about = format!("{stronger:?} before {weaker:?}");
                let a = (to("a"), rule(family, protocol, &[stronger]));
                let b = (to("b"), rule(family, protocol, &[weaker]));
                let ruleset = table.commit(&[a, b]);
                let both = SocketAddr::new(family.locals[0].parse().unwrap(), PORTS[0]);
                assert_eq!(who(&table.dial(family, protocol, both, 0)), "a", "{about}");
                table.compare(&ruleset, family, protocol, &about);
            }
        }
    }
}

/// Each criterion alone: the specific rule has what it matches, the other one the rest; the verdicts are exceptions
/// inside a service.
#[test]
fn an_exception_needs_no_order() {
    let Some(table) = Table::new() else { return };
    for (family, protocol) in [(V4, Protocol::Tcp), (V4, Protocol::Udp), (V6, Protocol::Tcp), (V6, Protocol::Udp)] {
        for criterion in CRITERIA {
            for verdict in [to("a"), Target::Pass] {
                let about = format!("{criterion:?} {verdict:?}");
                let exception = (verdict, rule(family, protocol, &[criterion]));
                let wide = (to("b"), Selector { source: None, ..rule(family, protocol, &[]) });
                // The order in which they are given means nothing.
                let ruleset = table.commit(&[wide, exception]);
                table.compare(&ruleset, family, protocol, &about);
            }
        }
    }
}

/// A source or an interface that a rule names beats none at all, and the longer source wins.
#[test]
fn refusal_of_one_source_inside_a_service() {
    let Some(table) = Table::new() else { return };
    for family in [V4, V6] {
        let all = Selector { source: None, ..selector(Protocol::Tcp, family.wide, "any") };
        let one = Selector { source: Some(family.first.parse().unwrap()), ..all.clone() };
        let most = Selector { source: Some(family.everyone.parse().unwrap()), ..all.clone() };
        let ruleset = table.commit(&[(to("a"), all), (Target::Refuse, one), (to("b"), most)]);
        let target = SocketAddr::new(family.locals[1].parse().unwrap(), 4711);
        let told = |client| who(&table.dial(family, Protocol::Tcp, target, client));
        assert_eq!([told(0), told(1), told(2)], ["Refused", "b", "b"]);
        table.compare(&ruleset, family, Protocol::Tcp, "sources");
    }
}

#[test]
fn rules_that_tie_are_refused_and_nothing_changes() {
    let Some(world) = World::new() else { return };
    let mut instance = up(&world);
    bind(&mut instance, "a", Protocol::Tcp, "192.0.2.0/24", "80-90");
    bind(&mut instance, "a", Protocol::Tcp, "2001:db8::/32", "80-90");
    let (generation, before) = (instance.generation(), instance.ruleset().unwrap().clone());
    for local in ["192.0.2.0/24", "2001:db8::/32"] {
        let error = instance.bind(&to("b"), &selector(Protocol::Tcp, local, "85-95")).unwrap_err();
        assert!(matches!(error, Error::Build(BuildError::Conflict(_))), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("`tcp {local} 80-90 -> a`")), "{text}");
        assert!(text.contains(&format!("`tcp {local} 85-95 -> b`")), "{text}");
        assert_eq!((instance.generation(), instance.ruleset().unwrap()), (generation, &before));
    }
    drop(instance);
    let snapshot = snapshot(&world);
    assert_eq!((snapshot.generation(), snapshot.ruleset()), (generation, &before));
    assert!(snapshot.ruleset().services().id("b").is_none());
}
