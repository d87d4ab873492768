//! Services for the sockets that TPROXY rules name by address and port.

use std::net::IpAddr;

use super::ServiceText;
use inlet_core::Protocol;

/// The services so far.
#[derive(Debug, Default)]
pub(super) struct Targets(Vec<Target>);

/// One service: of a port, and at most one address of each family, or any.
#[derive(Debug)]
struct Target {
    port: u16,
    addrs: Vec<IpAddr>,
    any: bool,
    protocols: Vec<Protocol>,
}

impl Targets {
    /// The number of the service for an address and port. IPv4 and IPv6 sockets of a port form one service: a packet
    /// never goes to a socket of the other family.
    pub(super) fn number(
        &mut self,
        addr: Option<IpAddr>,
        port: u16,
        protocols: impl IntoIterator<Item = Protocol>,
    ) -> usize {
        let addr = addr.filter(|addr| !addr.is_unspecified());
        let fits = |target: &Target| match addr {
            Some(addr) => {
                target.any || target.addrs.iter().all(|other| *other == addr || other.is_ipv4() != addr.is_ipv4())
            }
            None => true,
        };
        let number = match self.0.iter().position(|target| target.port == port && fits(target)) {
            Some(number) => number,
            None => {
                self.0.push(Target { port, addrs: Vec::new(), any: false, protocols: Vec::new() });
                self.0.len() - 1
            }
        };
        let target = &mut self.0[number];
        target.any |= addr.is_none();
        target.addrs.extend(addr.filter(|addr| !target.addrs.contains(addr)));
        target.protocols.extend(protocols);
        number
    }

    /// The services with their names, by number.
    pub(super) fn texts(&self) -> Vec<ServiceText> {
        let first = |number: usize| self.0[..number].iter().all(|other| other.port != self.0[number].port);
        self.0.iter().enumerate().map(|(number, target)| target.text(first(number))).collect()
    }
}

impl Target {
    fn text(&self, first: bool) -> ServiceText {
        let port = self.port;
        let name = match self.addrs.first() {
            Some(addr) if !first => format!("tproxy-{addr}-{port}"),
            _ => format!("tproxy-{port}"),
        };
        let mut listen = Vec::new();
        for protocol in Protocol::ALL.into_iter().filter(|protocol| self.protocols.contains(protocol)) {
            match self.any {
                true => listen.push(format!("{protocol}:*:{port}")),
                false => listen.extend(self.addrs.iter().map(|addr| match addr {
                    IpAddr::V4(addr) => format!("{protocol}:{addr}:{port}"),
                    IpAddr::V6(addr) => format!("{protocol}:[{addr}]:{port}"),
                })),
            }
        }
        ServiceText { name, listen }
    }
}
