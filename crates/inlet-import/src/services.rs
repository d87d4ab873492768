//! Services for the sockets that TPROXY rules name by address and port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use inlet_core::Protocol;

use crate::evaluate::Target;
use crate::{Listener, ServiceText};

/// The services of targets, by name.
#[derive(Debug, Default)]
pub(crate) struct Services {
    names: BTreeMap<Target, String>,
    pub(crate) texts: Vec<ServiceText>,
}

impl Services {
    /// One service for each port, or for each address of a port when rules name several of one family. IPv4 and IPv6
    /// sockets of a
    /// port are one service: packets never go to a socket of the other family.
    pub(crate) fn new(targets: &BTreeMap<Target, BTreeSet<Protocol>>, listeners: Option<&[Listener]>) -> Self {
        let mut services = Self::default();
        let mut ports: BTreeMap<u16, Vec<Target>> = BTreeMap::new();
        targets.keys().for_each(|target| ports.entry(target.port).or_default().push(*target));
        for (port, all) in ports {
            let named: Vec<IpAddr> = all.iter().filter_map(|target| address(target.addr)).collect();
            let count = |v6: bool| named.iter().filter(|addr| addr.is_ipv6() == v6).count();
            if named.len() < all.len() || count(false) <= 1 && count(true) <= 1 {
                services.add(format!("tproxy-{port}"), &all, targets, listeners, true);
                continue;
            }
            for target in all {
                let name = match services.names.values().any(|name| *name == format!("tproxy-{port}")) {
                    true => format!(
                        "tproxy-{}-{port}",
                        address(target.addr).map(|addr| addr.to_string()).unwrap_or_default()
                    ),
                    false => format!("tproxy-{port}"),
                };
                services.add(name, &[target], targets, listeners, false);
            }
        }
        services
    }

    pub(crate) fn name(&self, target: &Target) -> &str {
        self.names.get(target).map_or("", String::as_str)
    }

    /// `alone`: nobody else has sockets of this port, so those of all addresses are meant too, as the kernel finds
    /// them.
    fn add(
        &mut self,
        name: String,
        all: &[Target],
        targets: &BTreeMap<Target, BTreeSet<Protocol>>,
        listeners: Option<&[Listener]>,
        alone: bool,
    ) {
        let protocols: BTreeSet<Protocol> =
            all.iter().filter_map(|target| targets.get(target)).flatten().copied().collect();
        let Some(port) = all.first().map(|target| target.port) else { return };
        let any = all.iter().any(|target| address(target.addr).is_none());
        let mut listen = Vec::new();
        for protocol in protocols {
            let mut addrs: Vec<IpAddr> = all.iter().filter_map(|target| address(target.addr)).collect();
            if any {
                // The address of the interface on which a packet comes in, or all addresses.
                let Some(listeners) = listeners else {
                    listen.push(format!("{protocol}:*:{port}"));
                    continue;
                };
                let is_there = |it: &&Listener| (it.protocol, it.port) == (protocol, port) && is_outside(it.addr);
                addrs.extend(listeners.iter().filter(is_there).map(|it| it.addr));
                listen.push(format!("{protocol}:0.0.0.0:{port}"));
                listen.push(format!("{protocol}:[::]:{port}"));
            }
            addrs.sort_unstable();
            addrs.dedup();
            listen.extend(addrs.iter().map(|addr| match addr {
                IpAddr::V4(addr) => format!("{protocol}:{addr}:{port}"),
                IpAddr::V6(addr) => format!("{protocol}:[{addr}]:{port}"),
            }));
            if alone && !any && addrs.iter().any(IpAddr::is_ipv4) {
                listen.push(format!("{protocol}:0.0.0.0:{port}"));
            }
            if alone && !any {
                listen.push(format!("{protocol}:[::]:{port}"));
            }
        }
        all.iter().for_each(|target| _ = self.names.insert(*target, name.clone()));
        let note = any.then(|| NO_ADDRESS.to_owned());
        self.texts.push(ServiceText { name, listen, note });
    }
}

const NO_ADDRESS: &str = "the rules name no address: TPROXY finds sockets of all addresses, and those at the address of the interface on \
                          which a packet comes in";

/// Whether an interface to others has the address, as far as that is seen in it.
fn is_outside(addr: IpAddr) -> bool {
    !addr.is_unspecified() && !addr.is_loopback()
}

/// The address that a target names, if it names one.
fn address(addr: Option<IpAddr>) -> Option<IpAddr> {
    addr.filter(|addr| !addr.is_unspecified())
}
