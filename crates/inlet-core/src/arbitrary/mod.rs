//! Random rulesets and packets for property tests. They use few addresses and ports, so that rules nest, overlap and
//! meet.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

mod aim;
mod crowded;

use self::aim::{Aim, aim};
pub use self::crowded::{at_borders, crowded};

use crate::rule::{
    Answers, Confine, Description, Family, Grant, InterfaceName, Mark, Match, OnMissing, Packet, PortRange, Ports,
    Prefix, Protocol, Rule, ServiceName, Spread, Sticky, Verdict,
};
use crate::ruleset::{Builder, Change, Plan, Ruleset, Shape};

/// How many services a random ruleset has.
pub const SERVICES: usize = 4;
/// How many interfaces rules may name. Their indexes go from 0 (no such interface) to this minus one.
pub const INTERFACES: u32 = 4;
/// Marks are below this, and one bit far above it.
pub const MARKS: u32 = 16;

/// A ruleset without conflicts, of up to `rules` rules.
pub fn ruleset(rules: usize) -> impl Strategy<Value = Ruleset> {
    vec(rule(), 0..=rules)
        .prop_flat_map(|rules| (Just(rules), vec(any::<bool>(), SERVICES)))
        .prop_map(|(rules, pass)| build(&rules, &pass, &Surroundings::default()))
}

/// A ruleset and a changed one: rules are added, removed and get other verdicts, services have other numbers,
/// interfaces other indexes.
pub fn pair(rules: usize) -> impl Strategy<Value = (Ruleset, Ruleset)> {
    let edit = prop_oneof![6 => Just(None), 1 => (0..SERVICES + 2).prop_map(Some), 2 => Just(Some(usize::MAX))];
    let pass = vec(any::<bool>(), SERVICES);
    let surroundings = (0..SERVICES, prop_oneof![4 => Just(0), 1 => 0..INTERFACES]);
    (vec((rule(), edit), 0..=rules), vec(rule(), 0..=rules / 4), pass, surroundings).prop_map(
        |(drafts, more, pass, (first_service, interface_shift))| {
            let previous: Vec<Draft> = drafts.iter().map(|(draft, _)| draft.clone()).collect();
            let kept = drafts.into_iter().filter_map(|(draft, edit)| match edit {
                Some(usize::MAX) => None,
                edit => Some(Draft { verdict: edit.unwrap_or(draft.verdict), ..draft }),
            });
            let new: Vec<Draft> = kept.chain(more).collect();
            let surroundings = Surroundings { first_service, interface_shift };
            (build(&previous, &pass, &Surroundings::default()), build(&new, &pass, &surroundings))
        },
    )
}

/// Packets of which most match a rule of one of two rulesets.
pub fn pair_with_packets(rules: usize, packets: usize) -> impl Strategy<Value = (Ruleset, Ruleset, Vec<Packet>)> {
    (pair(rules), vec(aim(), packets)).prop_map(|((previous, new), aims)| {
        let rules: Vec<Rule> = previous.rules().chain(new.rules()).collect();
        let packets = aims.iter().map(|aim| aim.packet(&rules)).collect();
        (previous, new, packets)
    })
}

/// A ruleset and its successors, each with a few changes, and packets of which most match a rule of one of them.
///
/// The rules are spread over many addresses, those of IPv6 over many networks or over one /64. Rarely services get
/// other numbers or policies, or interfaces other indexes.
pub fn history(rules: usize, changes: usize, packets: usize) -> impl Strategy<Value = (Vec<Ruleset>, Vec<Packet>)> {
    any::<bool>().prop_flat_map(move |one_network| {
        let draft = move || prop_oneof![30 => spread(one_network), 1 => rule()];
        let rarely = |most: usize| prop_oneof![20 => Just(0), 1 => 1..most];
        let meaning = (rarely(SERVICES), rarely(INTERFACES as usize), prop::bool::weighted(0.05));
        let change = (vec(any::<Index>(), 0..3), vec(draft(), 0..3), meaning);
        let first = (vec(spread(one_network), rules / 2..=rules), vec(any::<bool>(), SERVICES));
        (first, vec(change, changes), vec(aim(), packets)).prop_map(successors)
    })
}

/// A change: rules to remove, rules to add, and how to shift the numbers of services and interfaces and flip a policy.
type Step = (Vec<Index>, Vec<Draft>, (usize, usize, bool));

/// The start: rules, and the policies of the services.
type First = (Vec<Draft>, Vec<bool>);

fn successors(((mut drafts, mut pass), changes, aims): (First, Vec<Step>, Vec<Aim>)) -> (Vec<Ruleset>, Vec<Packet>) {
    let mut surroundings = Surroundings::default();
    let mut rulesets = vec![build(&drafts, &pass, &surroundings)];
    for (gone, more, (services, interfaces, other_policy)) in changes {
        for at in gone {
            drafts.swap_remove(at.index(drafts.len()));
        }
        drafts.extend(more);
        surroundings.first_service = (surroundings.first_service + services) % SERVICES;
        surroundings.interface_shift += interfaces as u32;
        pass[0] ^= other_policy;
        rulesets.push(build(&drafts, &pass, &surroundings));
    }
    // Every second packet is aimed at a rule that changed.
    let changed: Vec<Rule> = rulesets.windows(2).flat_map(|pair| changed(&pair[0], &pair[1])).collect();
    let rules: Vec<Rule> = rulesets[0].rules().collect();
    let rules = [&rules[..], &changed[..]].into_iter().cycle();
    let packets = aims.iter().zip(rules).map(|(aim, rules)| aim.packet(rules)).collect();
    (rulesets, packets)
}

fn changed(previous: &Ruleset, new: &Ruleset) -> Vec<Rule> {
    let rule = |change: &Change| Rule { matching: *change.matching(), verdict: Verdict::Pass };
    Plan::between(previous, new).rules.iter().map(rule).collect()
}

/// A rule for one of 256 networks or, rarely, for many of them; each like those of [`rule`]. The networks of IPv6 are
/// real networks or parts of one /64.
fn spread(one_network: bool) -> impl Strategy<Value = Draft> {
    let shift = if one_network { 48 } else { 80 };
    (rule(), any::<u8>(), prop_oneof![9 => Just(8), 1 => Just(2)]).prop_map(move |(draft, site, more)| {
        let local = match draft.local.net() {
            ipnet::IpNet::V4(net) => {
                let addr = (net.addr().to_bits() % (1 << 24)) ^ (u32::from(site) << 16);
                Prefix::v4(0xc000_0000 | addr, net.prefix_len().max(8 + more))
            }
            ipnet::IpNet::V6(net) => {
                let addr = (net.addr().to_bits() % (1 << (shift + 8))) ^ (u128::from(site) << shift);
                Prefix::v6(0x2001_0db8 << 96 | addr, net.prefix_len().max(120 - shift as u8 + more))
            }
        };
        Draft { local, ..draft }
    })
}

/// The numbers that a ruleset is built with.
#[derive(Clone, Copy, Debug, Default)]
struct Surroundings {
    /// The service that gets the first number.
    first_service: usize,
    /// What is added to the indexes of existing interfaces.
    interface_shift: u32,
}

/// A ruleset with up to `packets` packets of which most match something.
pub fn with_packets(rules: usize, packets: usize) -> impl Strategy<Value = (Ruleset, Vec<Packet>)> {
    (ruleset(rules), vec(aim(), packets)).prop_map(|(ruleset, aims)| {
        let rules: Vec<Rule> = ruleset.rules().collect();
        let packets = aims.iter().map(|aim| aim.packet(&rules)).collect();
        (ruleset, packets)
    })
}

/// A rule whose service and interface have the numbers of the builder in [`ruleset`].
#[derive(Clone, Debug)]
struct Draft {
    protocol: Protocol,
    local: Prefix,
    ports: PortRange,
    source: Option<Prefix>,
    iface: Option<u32>,
    mark: Option<Mark>,
    verdict: usize,
}

fn rule() -> impl Strategy<Value = Draft> {
    let protocol = select(&Protocol::ALL[..]);
    (select(&Family::ALL[..]), protocol, ports(), option::weighted(0.25, 0..INTERFACES), 0..SERVICES + 2).prop_flat_map(
        |(family, protocol, ports, iface, verdict)| {
            let conditions = (option::weighted(0.3, prefix(family)), option::weighted(0.25, mark()));
            (prefix(family), conditions).prop_map(move |(local, (source, mark))| Draft {
                protocol,
                local,
                ports,
                source,
                iface,
                mark,
                verdict,
            })
        },
    )
}

/// A mark for every set into which the marks of rules cut all marks of packets, and an unknown one. The rules are
/// those of random rulesets, where few bits count or all.
pub fn marks_of(rules: impl Iterator<Item = Match>) -> Vec<Option<u32>> {
    let counting = rules.filter_map(|matching| matching.mark).fold(0, |bits, mark| bits | mark.mask());
    // One bit stands for all those that only a mark of all bits counts.
    let bits = [1, 2, 4, 8, 1 << 20, 1 << 31].into_iter().filter(|bit| counting & bit != 0);
    let mut marks = vec![0];
    for bit in bits {
        marks.extend(marks.clone().iter().map(|mark| mark | bit));
    }
    marks.into_iter().map(Some).chain([None]).collect()
}

/// Marks of few bits, so that many meet; some have all bits or one that is far from the others.
fn mark() -> impl Strategy<Value = Mark> {
    let mask = prop_oneof![6 => 1..MARKS, 2 => Just(u32::MAX), 1 => (0..MARKS).prop_map(|low| 1 << 31 | low)];
    (mask, 0..MARKS).prop_filter_map("no bit counts", |(mask, value)| Mark::new(value & mask, mask).ok())
}

/// Prefixes around a few addresses, so that many of them nest.
fn prefix(family: Family) -> impl Strategy<Value = Prefix> {
    let spread = prop_oneof![Just(0_u128), any::<u8>().prop_map(u128::from), any::<u128>().prop_map(|n| n >> 100)];
    let near = prop_oneof![Just(0_u128), (0_u32..128).prop_map(|bit| 1 << bit), any::<u128>()];
    (0_u8..=128, spread, near).prop_map(move |(len, spread, near)| match family {
        Family::V6 => Prefix::v6(0x2001_0db8 << 96 ^ spread ^ near >> (near as u32 % 127), len),
        Family::V4 => Prefix::v4((0xc000_0200 ^ spread ^ near >> 96) as u32, len % 33),
    })
}

fn ports() -> impl Strategy<Value = PortRange> {
    let port = prop_oneof![1_u16..20, select(vec![53, 80, 443, 8080, 65535]), 1_u16..];
    prop_oneof![
        3 => port.clone().prop_map(|port| (port, port)),
        2 => (port.clone(), port).prop_map(|(a, b)| (a.min(b), a.max(b))),
        1 => Just((1, u16::MAX)),
        // Ranges of one width, shifted: they overlap, and only source, interface and mark keep them from tying.
        2 => (1_u16..30, select(vec![2, 5])).prop_map(|(first, more)| (first, first + more)),
    ]
    .prop_map(|(first, last)| PortRange::new(first, last).unwrap_or(PortRange::ANY))
}

fn build(drafts: &[Draft], pass: &[bool], surroundings: &Surroundings) -> Ruleset {
    let mut builder = Builder::new();
    let mut services = Vec::new();
    let mut order: Vec<usize> = (0..pass.len()).collect();
    order.rotate_left(surroundings.first_service);
    for number in order {
        let pass = &pass[number];
        let name: ServiceName = format!("service{number}").parse().unwrap_or_else(|error| panic!("{error}"));
        let id = builder.service(&name).unwrap_or_else(|error| panic!("{error}"));
        builder.set_on_missing(id, if *pass { OnMissing::Pass } else { OnMissing::Refuse });
        // Some services leave the choice to the group, with either policy.
        builder.set_spread(id, if number % 3 == 1 { Spread::Group } else { Spread::Inlet });
        builder.set_answers(id, [None, Some(Answers::Asked), Some(Answers::Bound)][(number + usize::from(*pass)) % 3]);
        // Of one that has sockets over UDP, whatever rules it has, and that leaves the choice to no group.
        let sticky = if number == 3 { Sticky::new(if *pass { 1 } else { Sticky::MAX }) } else { None };
        builder.set_sticky(id, sticky.unwrap_or_default());
        builder.set_description(id, description(number, *pass));
        services.push((number, id));
    }
    services.sort_unstable();
    let mut kept: HashMap<Prefix, Vec<Rule>> = HashMap::new();
    for draft in drafts {
        let iface = draft.iface.map(|index| {
            let name: InterfaceName = format!("if{index}").parse().unwrap_or_else(|error| panic!("{error}"));
            builder.interface_named(&name).unwrap_or_else(|error| panic!("{error}"))
        });
        let Draft { protocol, local, ports, source, mark, .. } = *draft;
        let verdict = match draft.verdict {
            0 => Verdict::Pass,
            1 => Verdict::Refuse,
            number => Verdict::Service(services[number - 2].1),
        };
        let rule = Rule { matching: Match { protocol, local, ports, source, iface, mark }, verdict };
        let kept = kept.entry(local).or_default();
        if !kept.iter().any(|other| Shape::of(other).ties_with(&Shape::of(&rule))) {
            builder.push(&rule).unwrap_or_else(|error| panic!("{error}"));
            kept.push(rule);
        }
    }
    if let Some((number, _)) = services.first() {
        // Rules may be outside of it: only who has no other rights is bound by it.
        let service = format!("service{number}").parse().unwrap_or_else(|error| panic!("{error}"));
        let local = ["192.0.2.0/28", "2001:db8::/64"].iter().filter_map(|text| text.parse().ok()).collect();
        let user = "www-data".parse().ok();
        let grant = Grant { user, unit: None, service, local, ports: Ports::from(PortRange::ANY) };
        builder.set_grants(vec![grant; usize::from(pass.len().is_multiple_of(2))]);
    }
    builder.resolve_interfaces(|name| match name.as_str().trim_start_matches("if").parse().unwrap_or(0) {
        0 => 0,
        index => (index - 1 + surroundings.interface_shift) % (INTERFACES - 1) + 1,
    });
    builder.finish().unwrap_or_else(|error| panic!("{error}"))
}

/// Every second service has a description, in one of two forms. One names an interface, which rules may name too.
fn description(number: usize, confined: bool) -> Option<Description> {
    let device = if confined { "" } else { "%if3" };
    let listen = [format!("tcp:127.0.0.{}{device}:80", number + 1), format!("udp:*:{}", number + 53)];
    let listen = listen.iter().filter_map(|text| text.parse().ok());
    let confine = match number {
        1 => Confine::Unit("web.service".parse().ok()?),
        3 => Confine::Cgroup("/a/b".parse().ok()?),
        _ => return None,
    };
    let mut description = Description::new(listen).ok()?;
    description.confine = confined.then_some(confine);
    description.user = "www-data".parse().ok().filter(|_| confined);
    description.anyone = !confined;
    description.no_mptcp = confined && number == 3;
    description.own_binds = confined && number == 1;
    Some(description)
}
