//! What a rule is made of: names, prefixes, ports, services, and the packets that it is about.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

mod cgroup;
mod description;
mod description_error;
mod endpoint;
mod family;
mod grant;
mod iface;
mod listen;
mod mark;
mod name;
mod packet;
mod policy;
mod ports;
mod precedence;
mod prefix;
mod remedy;
mod service;
mod service_error;
mod zone;

pub use cgroup::{CgroupPath, UnitName, UserName};
pub use description::{Confine, Description};
pub use description_error::{DescriptionError, MAX_DEPTH, MAX_NAME};
pub use endpoint::{Endpoint, EndpointError};
pub use family::Family;
pub(crate) use grant::check as check_grants;
pub use grant::{Grant, GrantError};
pub use iface::{IfaceId, Interface, InterfaceName, InterfaceNameError};
pub use listen::{Listen, ListenAddr};
pub use mark::{Mark, MarkError};
pub use name::{NameError, ServiceName};
pub use packet::Packet;
pub use policy::{Answers, OnMissing, Spread, Sticky};
pub use ports::{PortError, PortRange, Ports};
pub use precedence::{Criterion, Precedence};
pub use prefix::{Prefix, PrefixError};
pub use remedy::Remedy;
pub use service::{Service, ServiceId, Services};
pub use service_error::{MAX_SERVICES, ServiceError};

/// The transport protocol of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP: the packet is a SYN, or the ACK that answers a syncookie.
    Tcp,
    /// UDP: any datagram without a connected socket.
    Udp,
}

/// The text is not the name of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol {0:?}")]
pub struct ProtocolError(String);

/// Which packets a rule matches. It has one prefix and one port range. A rule that an operator writes with several
/// stands for one match each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    /// The protocol.
    pub protocol: Protocol,
    /// The address that the packet goes to.
    pub local: Prefix,
    /// The ports that it goes to.
    pub ports: PortRange,
    /// The address that the packet comes from; `None` matches every source. Of the same family as `local`.
    pub source: Option<Prefix>,
    /// The interface on which the packet came in; `None` matches every interface.
    pub iface: Option<IfaceId>,
    /// The mark that the host's firewall gave the packet; `None` matches every mark, also an unknown one.
    pub mark: Option<Mark>,
}

/// What happens to a packet that a rule wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// A socket of this service receives it.
    Service(ServiceId),
    /// The kernel's ordinary lookup decides, as if Inlet were not there.
    Pass,
    /// TCP reset, ICMP port unreachable.
    Refuse,
}

/// A match and a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Which packets.
    pub matching: Match,
    /// What happens to them.
    pub verdict: Verdict,
}

impl Rule {
    /// A rule for packets of any source, interface and mark.
    pub fn new(protocol: Protocol, local: Prefix, ports: PortRange, verdict: Verdict) -> Self {
        Self { matching: Match { protocol, local, ports, source: None, iface: None, mark: None }, verdict }
    }

    /// The same rule for packets from `source` only.
    #[must_use]
    pub fn from(mut self, source: Prefix) -> Self {
        self.matching.source = Some(source);
        self
    }

    /// The rule as a ruleset stores it: a source of length 0 is no condition.
    pub(crate) fn canonical(&self) -> Self {
        // Two ways to write one match must tie.
        let source = self.matching.source.filter(|source| source.len() > 0);
        Self { matching: Match { source, ..self.matching }, ..*self }
    }

    /// The same rule for packets that came in on `iface` only.
    #[must_use]
    pub fn on(mut self, iface: IfaceId) -> Self {
        self.matching.iface = Some(iface);
        self
    }

    /// The same rule for packets with this mark only.
    #[must_use]
    pub fn marked(mut self, mark: Mark) -> Self {
        self.matching.mark = Some(mark);
        self
    }
}

impl Match {
    /// Whether the packet matches. `ifindex` is the kernel's index of [`Match::iface`]; index 0 (no such interface)
    /// matches nothing.
    pub(crate) fn holds(&self, packet: &Packet, ifindex: Option<u32>) -> bool {
        let from = |source: Prefix| source.contains(packet.remote.ip());
        let on = |index: u32| index != 0 && index == packet.ifindex;
        self.protocol == packet.protocol
            && self.local.contains(packet.local.ip())
            && self.ports.contains(packet.local.port())
            && self.source.is_none_or(from)
            && ifindex.is_none_or(on)
            && self.mark.is_none_or(|mark| packet.has(mark))
    }

    /// Whether source and local prefix have the same family. Otherwise no packet can match.
    pub fn same_family(&self) -> bool {
        self.source.is_none_or(|source| source.family() == self.local.family())
    }
}

impl Verdict {
    /// `service`, `pass` or `refuse`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service(_) => "service",
            Self::Pass => "pass",
            Self::Refuse => "refuse",
        }
    }
}

impl Protocol {
    /// Both, in the order in which they are listed.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// `tcp` or `udp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl FromStr for Protocol {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(ProtocolError(text.to_owned())),
        }
    }
}

impl Remedy for ProtocolError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some("write tcp or udp".into())
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
