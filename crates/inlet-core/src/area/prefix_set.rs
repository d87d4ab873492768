//! Sets of prefixes, and the prefixes that must be local to the host so that rules see packets.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::rule::{Prefix, Rule, Verdict};

/// The fewest prefixes that have the same addresses, in order: none lies inside another, and halves are joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet(Vec<Prefix>);

impl PrefixSet {
    /// Whether one of the prefixes covers this one.
    pub fn covers(&self, prefix: &Prefix) -> bool {
        // A prefix sorts right before the prefixes inside it, and no other prefix of the set lies between.
        let after = self.0.partition_point(|known| known <= prefix);
        self.0[..after].last().is_some_and(|known| known.covers(prefix))
    }

    /// The prefixes.
    pub fn iter(&self) -> impl Iterator<Item = &Prefix> {
        self.0.iter()
    }
}

impl FromIterator<Prefix> for PrefixSet {
    fn from_iter<T: IntoIterator<Item = Prefix>>(prefixes: T) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix.net() {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => v6.push(net),
            }
        }
        let v4 = Ipv4Net::aggregate(&v4).into_iter().map(IpNet::V4);
        let v6 = Ipv6Net::aggregate(&v6).into_iter().map(IpNet::V6);
        let mut all: Vec<Prefix> = v4.chain(v6).filter_map(|net| Prefix::new(net).ok()).collect();
        all.sort_unstable();
        Self(all)
    }
}

/// The local prefixes of those of some rules that steer or refuse.
///
/// Prefixes of all addresses are left out: such a rule is about addresses that are local already. So are multicast
/// prefixes, which rules never see.
pub fn steered_prefixes(rules: impl Iterator<Item = Rule>) -> PrefixSet {
    let steers = |rule: &Rule| rule.verdict != Verdict::Pass;
    let is_wanted = |local: &Prefix| local.len() > 0 && !local.is_multicast();
    let mut locals: Vec<Prefix> = rules.filter(steers).map(|rule| rule.matching.local).filter(is_wanted).collect();
    locals.dedup();
    locals.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{PortRange, Protocol};
    use crate::ruleset::Builder;

    fn prefixes(rules: &[(&str, Verdict)]) -> Vec<String> {
        let mut builder = Builder::new();
        for (port, (local, verdict)) in (1..).zip(rules) {
            let ports = PortRange::new(port, port).unwrap();
            builder.push(&Rule::new(Protocol::Tcp, local.parse().unwrap(), ports, *verdict)).unwrap();
        }
        steered_prefixes(builder.finish().unwrap().rules()).iter().map(Prefix::to_string).collect()
    }

    #[test]
    fn few_prefixes_stand_for_many() {
        let steer = |local: &'static str| (local, Verdict::Refuse);
        let found = prefixes(&[
            steer("192.0.2.0/24"),
            steer("192.0.2.7"),
            steer("192.0.2.7"),
            steer("198.51.100.0/25"),
            steer("198.51.100.128/25"),
            steer("2001:db8::/64"),
            steer("2001:db8::1"),
            steer("0.0.0.0/0"),
            steer("224.0.0.0/8"),
            steer("ff02::1"),
            ("203.0.113.0/24", Verdict::Pass),
        ]);
        assert_eq!(found, ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"]);
    }
}
