//! The ports of the host's own clients: where rules would take the answers to what they ask.

use super::{Ruleset, Shape};
use crate::rule::{PortRange, Protocol, Verdict};

impl Ruleset {
    /// The ports at which rules of UDP take the answers to clients that ask from there: those of rules for several
    /// ports, less those that have a rule of their own, which is meant for servers. In order, and none twice.
    pub fn ports_of_clients(&self) -> Vec<PortRange> {
        let takes = |shape: &&Shape| shape.protocol == Protocol::Udp && shape.verdict != Verdict::Pass;
        let taking = || self.shapes.iter().filter(takes).map(|shape| shape.ports);
        if !taking().any(|ports| ports.width() > 1) {
            return Vec::new();
        }
        // How many ranges more cover a port than the one before it; and the ports that have a rule of their own.
        let (mut change, mut alone) = (vec![0_i64; 1 + (1 << 16)], vec![false; 1 << 16]);
        for ports in taking() {
            let [first, last] = [ports.first(), ports.last()].map(usize::from);
            if first == last {
                alone[first] = true;
            } else {
                change[first] += 1;
                change[last + 1] -= 1;
            }
        }
        let (mut covered, mut ranges) = (0, Vec::<PortRange>::new());
        for port in 0..=u16::MAX {
            covered += change[usize::from(port)];
            if covered == 0 || alone[usize::from(port)] {
                continue;
            }
            match ranges.last_mut().filter(|range| u32::from(range.last()) + 1 == u32::from(port)) {
                Some(range) => *range = PortRange::new(range.first(), port).unwrap_or(*range),
                None => ranges.extend(PortRange::new(port, port)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

    use crate::rule::{Protocol, Rule, Verdict};
    use crate::ruleset::Builder;

    fn ports(rules: &[(Protocol, &str, Verdict)]) -> Vec<String> {
        let mut builder = Builder::new();
        for (at, (protocol, ports, verdict)) in rules.iter().enumerate() {
            let local = format!("192.0.2.{at}").parse().unwrap();
            builder.push(&Rule::new(*protocol, local, ports.parse().unwrap(), *verdict)).unwrap();
        }
        builder.finish().unwrap().ports_of_clients().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_cover_the_ports_of_clients() {
        use Protocol::{Tcp, Udp};
        use Verdict::{Pass, Refuse};
        assert_eq!(ports(&[(Udp, "53", Refuse)]), [""; 0]);
        assert_eq!(ports(&[(Tcp, "1-65535", Refuse), (Udp, "1-65535", Pass)]), [""; 0]);
        assert_eq!(ports(&[(Udp, "1-65535", Refuse)]), ["any"]);
        assert_eq!(ports(&[(Udp, "1-65535", Refuse), (Udp, "53", Pass), (Tcp, "53", Refuse)]), ["any"]);
        let several = [(Udp, "1000-1999", Refuse), (Udp, "1500-2500", Refuse), (Udp, "3000-3001", Refuse)];
        assert_eq!(ports(&several), ["1000-2500", "3000-3001"]);
        let alone = [(Udp, "1-65535", Refuse), (Udp, "1", Refuse), (Udp, "53", Refuse), (Udp, "65535", Refuse)];
        assert_eq!(ports(&alone), ["2-52", "54-65534"]);
    }
}
