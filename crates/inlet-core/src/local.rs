//! The prefixes that must be local to the host for the rules to see packets.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Prefix, Rule, Ruleset, Verdict};

/// The local prefixes of all rules that steer or refuse, as few as possible: none inside another, halves joined. Those of
/// all addresses are left out, as such a rule is about the addresses that are local anyway, and so is multicast, which
/// rules never see.
pub fn steered_prefixes(ruleset: &Ruleset) -> Vec<Prefix> {
    let steers = |rule: &Rule| rule.verdict != Verdict::Pass;
    let is_wanted = |local: &Prefix| local.len() > 0 && !local.is_multicast();
    let locals = ruleset.rules().filter(steers).map(|rule| rule.matching.local).filter(is_wanted);
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    // In address order a prefix comes right before those inside it.
    let mut last: Option<Prefix> = None;
    for local in locals {
        if last.is_some_and(|last| last.covers(&local)) {
            continue;
        }
        last = Some(local);
        match local.net() {
            IpNet::V4(net) => v4.push(net),
            IpNet::V6(net) => v6.push(net),
        }
    }
    let v4 = Ipv4Net::aggregate(&v4).into_iter().map(IpNet::V4);
    let v6 = Ipv6Net::aggregate(&v6).into_iter().map(IpNet::V6);
    v4.chain(v6).filter_map(|net| Prefix::new(net).ok()).collect()
}

impl Prefix {
    /// Whether all of its addresses are multicast, or the one broadcast address of IPv4: rules never see such packets.
    pub fn is_multicast(&self) -> bool {
        match self.net() {
            IpNet::V4(net) => net.addr().is_multicast() && net.prefix_len() >= 4 || net.addr().is_broadcast(),
            IpNet::V6(net) => net.addr().is_multicast() && net.prefix_len() >= 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, PortRange, Protocol};

    fn prefixes(rules: &[(&str, Verdict)]) -> Vec<String> {
        let mut builder = Builder::new();
        for (port, (local, verdict)) in (1..).zip(rules) {
            let ports = PortRange::new(port, port).unwrap();
            builder.push(&Rule::new(Protocol::Tcp, local.parse().unwrap(), ports, *verdict)).unwrap();
        }
        steered_prefixes(&builder.finish().unwrap()).iter().map(Prefix::to_string).collect()
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
