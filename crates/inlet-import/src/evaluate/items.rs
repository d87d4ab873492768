//! The ranges by which tests tell packets apart: of local addresses, of ports, of sources.

use super::sweep::{Item, token};
use super::table::Asker;
use super::walk::Point;
use crate::firewall::{Member, Test, TestId, last};

impl Asker<'_> {
    /// The ranges of local addresses of a test.
    pub(super) fn local_items(self, test: TestId) -> impl Iterator<Item = Item> {
        let (firewall, family) = (self.firewall, self.family);
        let mut items = Vec::new();
        let mut add = |test: TestId| match &firewall.tests[test] {
            Test::Local(set) => items.extend(set.of(family).iter().map(|(first, last)| Item {
                first: *first,
                last: *last,
                token: token(test),
                note: None,
            })),
            Test::Tuple(members) => {
                for (number, member) in members.iter().enumerate() {
                    if member.family.is_some_and(|it| it != family) {
                        continue;
                    }
                    let (first, last) = member.local.unwrap_or((0, last(family)));
                    let rest =
                        (test, member.protocol, member.ports, member.source, &member.iface, member.rank, member.counts);
                    items.push(Item { first, last, token: token(rest), note: Some((test, number as u32)) });
                }
            }
            _ => {}
        };
        add(test);
        items.into_iter()
    }

    pub(super) fn port_items(self, test: TestId, point: Point<'_>) -> impl Iterator<Item = Item> {
        let mut items = Vec::new();
        match &self.firewall.tests[test] {
            Test::Ports(spans) => items.extend(spans.iter().map(|(first, last)| Item {
                first: *first,
                last: *last,
                token: token(test),
                note: None,
            })),
            Test::Tuple(members) => items.extend(self.candidates(test, members, point).filter_map(|member| {
                let (first, last) = member.ports?;
                let token = token((test, member.source, &member.iface, member.rank, member.counts));
                Some(Item { first: first.into(), last: last.into(), token, note: None })
            })),
            _ => {}
        }
        items.into_iter()
    }

    pub(super) fn source_items(self, test: TestId, point: Point<'_>) -> impl Iterator<Item = Item> {
        let mut items = Vec::new();
        match &self.firewall.tests[test] {
            Test::Source(set) => items.extend(set.of(self.family).iter().map(|(first, last)| Item {
                first: *first,
                last: *last,
                token: token(test),
                note: None,
            })),
            Test::Tuple(members) => items.extend(self.candidates(test, members, point).filter_map(|member| {
                let port =
                    point.port.is_none_or(|port| member.ports.is_none_or(|(from, to)| from <= port && port <= to));
                let (first, last) = member.source.filter(|_| port)?;
                let token = token((test, &member.iface, member.rank, member.counts));
                Some(Item { first, last, token, note: None })
            })),
            _ => {}
        }
        items.into_iter()
    }

    /// The members of this family and protocol that have the local address.
    fn candidates<'b>(self, test: TestId, members: &'b [Member], point: Point<'b>) -> impl Iterator<Item = &'b Member> {
        let within = point.members.get(&test).into_iter().flatten();
        let (family, protocol) = (self.family, self.protocol);
        within.map(|number| &members[*number as usize]).filter(move |member| {
            member.family.is_none_or(|it| it == family) && member.protocol.is_none_or(|it| it == protocol)
        })
    }
}
