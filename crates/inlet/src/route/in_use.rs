//! The hosts that this one talks to: a local route for one of them would cut it off.

use std::net::IpAddr;

use super::table::RouteTable;
use crate::error::Result;
use crate::kernel::Netns;
use crate::socket::peers;

/// What SSH tells its sessions: addresses and ports of client and server.
const SSH_CONNECTION: &str = "SSH_CONNECTION";
/// Where the resolvers of the host stand.
const RESOLVERS: &str = "/etc/resolv.conf";

/// A host that this one talks to.
pub(super) struct InUse {
    pub(super) addr: IpAddr,
    /// What it is to this host.
    pub(super) what: String,
}

/// All of them, what matters most first. Routers are known by the routes.
pub(super) fn hosts(netns: &Netns, table: &RouteTable) -> Result<Vec<InUse>> {
    let host = |what: &str| {
        let what = what.to_owned();
        move |addr: IpAddr| InUse { addr, what: format!("{addr}, {what}") }
    };
    let mut hosts: Vec<InUse> = ssh_client().map(host("from which this session comes")).into_iter().collect();
    let peer = |(local, remote): (std::net::SocketAddr, std::net::SocketAddr)| InUse {
        addr: remote.ip(),
        what: format!("{}, which has a connection to {local}", remote.ip()),
    };
    hosts.extend(peers(netns)?.into_iter().map(peer));
    hosts.extend(table.neighbours()?.into_iter().map(host("a neighbour on its network")));
    hosts.extend(resolvers().into_iter().map(host("a resolver of this host")));
    Ok(hosts)
}

fn ssh_client() -> Option<IpAddr> {
    let told = std::env::var(SSH_CONNECTION).ok()?;
    let addr: IpAddr = told.split_whitespace().next()?.parse().ok()?;
    Some(addr.to_canonical())
}

fn resolvers() -> Vec<IpAddr> {
    // Without the file there are none.
    let text = std::fs::read_to_string(RESOLVERS).unwrap_or_default();
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    named.filter_map(|addr| addr.trim().split('%').next()?.parse().ok()).collect()
}
