//! The answers to tests: yes, no, or what they depend on.

use inlet_core::Protocol;

use super::marks::Marks;
use super::state::State;
use super::walk::Point;
use crate::firewall::{Addresses, Firewall, Member, Test, TestId, holds};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// It is not the same for all packets of the area.
    Depends,
    /// A ruleset cannot ask that; why.
    Unknown(String),
}

impl Answer {
    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) fn may_hold(&self) -> bool {
        *self != Self::No
    }

    pub(super) fn may_fail(&self) -> bool {
        *self != Self::Yes
    }
}

/// What is needed to answer.
#[derive(Clone, Copy)]
pub(super) struct Answers<'a> {
    pub(super) firewall: &'a Firewall,
    pub(super) point: Point<'a>,
    /// The names of interfaces by number; the first stands for all others.
    pub(super) ifaces: &'a [String],
    /// The marks that rules give to packets.
    pub(super) marks: &'a [u32],
    /// Those that a ruleset may ask for.
    pub(super) asked_marks: &'a Marks,
    /// Whether the area has one port only.
    pub(super) one_port: bool,
    /// Whether packets are taken to go to addresses of the host.
    pub(super) to_host: bool,
}

impl Answers<'_> {
    pub(super) fn of(&self, id: TestId, state: &State) -> Answer {
        let point = &self.point;
        let among = |set: &Addresses, number: Option<u128>| match (number, set.of(point.family)) {
            (_, spans) if spans.is_empty() => Answer::No,
            (None, _) => Answer::Depends,
            (Some(number), spans) => Answer::of(holds(spans, number)),
        };
        match &self.firewall.tests[id] {
            Test::Always(holds) => Answer::of(*holds),
            Test::Family(family) => Answer::of(*family == point.family),
            Test::Protocols(protocols) => Answer::of(protocols.contains(&point.protocol)),
            Test::Local(set) => among(set, point.local),
            Test::Source(set) => among(set, point.source),
            Test::Ports(spans) => match point.port {
                Some(port) => Answer::of(holds(spans, port.into())),
                None => Answer::Depends,
            },
            Test::Ifaces(names) => self.iface(names),
            Test::Tuple(members) => self.tuple(id, members),
            Test::Mark { conn, mask, values } => {
                let mark = if *conn { state.conn } else { state.mark };
                if let (false, Some(number)) = (*conn, point.mark) {
                    let value = (mark.bits | self.asked_marks.bits(number) & mark.fresh) & mask;
                    return Answer::of(values.iter().any(|(first, last)| (first..=last).contains(&&value)));
                }
                let (known, value) = (mask & mark.fresh == 0, mark.bits & mask);
                let holds = values.iter().any(|(first, last)| (first..=last).contains(&&value));
                // A mark that no rule gives comes from elsewhere, if at all.
                let foreign = |value: &u32| *value != 0 && !self.marks.iter().any(|mark| mark & mask == *value);
                match known || !values.iter().any(|(first, last)| first != last || foreign(first)) {
                    true => Answer::of(holds),
                    false => Answer::Unknown(format!("no rule gives packets this mark, and a ruleset cannot ask for {}", mark_text(values))),
                }
            }
            Test::State { tracked, untracked } => Answer::of(if state.untracked { *untracked } else { *tracked }),
            Test::Socket(test) => match (state.steered, test.found) {
                // TPROXY gives packets to transparent sockets only.
                (Some(_), _) => Answer::of(test.transparent != Some(false) && test.wildcard != Some(true)),
                (None, Some(found)) => self.of(found, state),
                (None, None) if test.transparent == Some(true) => Answer::No,
                (None, None) => Answer::Unknown(
                    "which sockets the host has is not known here; run import there, or give what ss -lntup writes with --sockets FILE"
                        .to_owned(),
                ),
            },
            Test::LocalType(local) => Answer::of(self.to_host == *local),
            Test::Unknown(why) => Answer::Unknown(why.clone()),
        }
    }

    fn iface(&self, names: &[String]) -> Answer {
        let Some(number) = self.point.iface else { return Answer::Depends };
        let wild = |name: &String| name.strip_suffix('*').map(str::to_owned);
        match number {
            // One that is not there, or that no rule names.
            0 => match names.iter().find(|name| name.ends_with('*') && !self.knows(name)) {
                Some(name) => Answer::Unknown(format!("{name} stands for several interfaces; write a rule for each")),
                None => Answer::No,
            },
            number => {
                let own = &self.ifaces[number];
                Answer::of(
                    names.iter().any(|name| name == own || wild(name).is_some_and(|start| own.starts_with(&start))),
                )
            }
        }
    }

    /// Whether all interfaces that a name with `*` stands for are known.
    fn knows(&self, name: &str) -> bool {
        name != "*" && self.firewall.interfaces.is_some()
    }

    /// The member of the highest rank decides, once all is known that members ask for.
    fn tuple(&self, id: TestId, members: &[Member]) -> Answer {
        let point = &self.point;
        let within = match (point.local, point.members.get(&id)) {
            (Some(_), Some(within)) => Some(within),
            (Some(_), None) => return Answer::No,
            (None, _) => None,
        };
        let mut all = members.iter();
        let mut some = within.into_iter().flatten().map(|number| &members[*number as usize]);
        let mut best: Option<(u16, Option<bool>)> = None;
        let mut depends = false;
        let next: &mut dyn Iterator<Item = &Member> = if within.is_some() { &mut some } else { &mut all };
        for member in next {
            match self.member(member) {
                Answer::No => {}
                Answer::Yes if best.is_none_or(|(rank, _)| rank < member.rank) => {
                    best = Some((member.rank, member.counts))
                }
                Answer::Yes => {}
                _ => depends = true,
            }
            if depends && within.is_none() {
                return Answer::Depends;
            }
        }
        match best {
            _ if depends => Answer::Depends,
            None => Answer::No,
            Some((_, Some(counts))) => Answer::of(counts),
            Some((_, None)) => Answer::Unknown(
                "it is not known whether the socket there is transparent; run import on the host".to_owned(),
            ),
        }
    }

    fn member(&self, member: &Member) -> Answer {
        let point = &self.point;
        let is = |protocol: Protocol| protocol == point.protocol;
        if member.family.is_some_and(|family| family != point.family) || !member.protocol.is_none_or(is) {
            return Answer::No;
        }
        let in_range = |range: Option<(u128, u128)>, number: Option<u128>| match (range, number) {
            (None, _) => Answer::Yes,
            (Some(_), None) => Answer::Depends,
            (Some((first, last)), Some(number)) => Answer::of(first <= number && number <= last),
        };
        let ports = member.ports.map(|(first, last)| (first.into(), last.into()));
        let iface = match &member.iface {
            None => Answer::Yes,
            Some(name) => self.iface(std::slice::from_ref(name)),
        };
        let parts = [
            in_range(member.local, point.local),
            in_range(ports, point.port.map(u128::from)),
            in_range(member.source, point.source),
            iface,
        ];
        if parts.contains(&Answer::No) {
            return Answer::No;
        }
        parts.into_iter().find(|part| *part != Answer::Yes).unwrap_or(Answer::Yes)
    }
}

fn mark_text(values: &[(u32, u32)]) -> String {
    let one = |(first, last): &(u32, u32)| {
        if first == last { format!("{first:#x}") } else { format!("{first:#x}-{last:#x}") }
    };
    values.iter().map(one).collect::<Vec<_>>().join(", ")
}
