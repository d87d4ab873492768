//! Whether the ports for own binds are free to be taken.

use inlet_core::{Endpoint, PortRange};

use super::Sockets;
use super::list::Listed;
use crate::error::{DescribeError, Error, Result};
use crate::kernel::Netns;

impl Sockets {
    /// Fails when something is in the way of the ports for own binds, before a ruleset that needs them is in force.
    pub(crate) fn require_own_range(&self, netns: &Netns) -> Result<()> {
        let Some(range) = self.own_range else { return Ok(()) };
        if let Some(port) = automatic_in(range, netns)? {
            return Err(DescribeError::OwnPortsAutomatic { range, port }.into());
        }
        match self.in_the_way(range) {
            Some(endpoint) => Err(DescribeError::OwnPortTaken { range, endpoint }.into()),
            None => Ok(()),
        }
    }

    /// The first one, connected or not, that is bound to a port of a range and has no own port.
    fn in_the_way(&self, range: PortRange) -> Option<Endpoint> {
        let is_there = |listed: &&Listed| listed.own_port.is_none() && range.contains(listed.bound.addr.port());
        self.listed.values().filter(is_there).map(|listed| self.endpoint(&listed.bound)).min()
    }

    /// Whether one has this port of its own.
    pub(crate) fn is_at_own(&self, port: u16) -> bool {
        self.listed.values().any(|listed| listed.own_port == Some(port))
    }
}

/// A port of the range that the kernel may give to clients by itself.
fn automatic_in(range: PortRange, netns: &Netns) -> Result<Option<u16>> {
    let read = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        netns.run(|| std::fs::read_to_string(&path))?.map_err(Error::os("read", path.clone()))
    };
    let (local, reserved) = (read("ip_local_port_range")?, read("ip_local_reserved_ports")?);
    let mut bounds = local.split_whitespace().filter_map(|text| text.parse::<u16>().ok());
    let (Some(first), Some(last)) = (bounds.next(), bounds.next()) else { return Ok(None) };
    let reserved: Vec<PortRange> = reserved.trim().split(',').filter_map(|text| text.parse().ok()).collect();
    let is_reserved = |port| reserved.iter().any(|range| range.contains(port));
    Ok((range.first().max(first)..=range.last().min(last)).find(|port| !is_reserved(*port)))
}
