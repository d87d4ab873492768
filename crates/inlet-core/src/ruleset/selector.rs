//! A match and a verdict as an operator writes them: with names, and several port ranges at once.

use std::fmt;

use super::{BuildError, Builder};
use crate::rule::{InterfaceName, Match, PortRange, Ports, Prefix, Protocol, ServiceName, Verdict};

/// Which packets, with names in place of numbers. With several port ranges it stands for as many rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The protocol.
    pub protocol: Protocol,
    /// Where the packets go to.
    pub local: Prefix,
    /// The ports that they go to.
    pub ports: Ports,
    /// Where they come from; `None` for everywhere.
    pub source: Option<Prefix>,
    /// The interface on which they come in; `None` for every one.
    pub iface: Option<InterfaceName>,
}

/// What happens to packets, with a name in place of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A socket of this service receives them.
    Service(ServiceName),
    /// The kernel's ordinary lookup decides.
    Pass,
    /// TCP reset, ICMP port unreachable.
    Refuse,
}

impl Selector {
    /// The single-range matches that this stands for, in the numbers of a builder.
    ///
    /// # Errors
    /// [`BuildError::TooManyInterfaces`].
    pub fn matches(&self, builder: &mut Builder) -> Result<Vec<Match>, BuildError> {
        let iface = self.iface.as_ref().map(|name| builder.interface_named(name)).transpose()?;
        let one = |ports: &PortRange| Match {
            protocol: self.protocol,
            local: self.local,
            ports: *ports,
            source: self.source,
            iface,
        };
        Ok(self.ports.ranges().iter().map(one).collect())
    }
}

impl Target {
    /// The verdict in the numbers of a builder, where a service of this name is made when there is none.
    ///
    /// # Errors
    /// [`BuildError::Service`] when no number is left.
    pub fn verdict(&self, builder: &mut Builder) -> Result<Verdict, BuildError> {
        Ok(match self {
            Self::Service(name) => Verdict::Service(builder.service(name)?),
            Self::Pass => Verdict::Pass,
            Self::Refuse => Verdict::Refuse,
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.protocol, self.local, self.ports)?;
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        match &self.iface {
            Some(iface) => write!(f, " iface {iface}"),
            None => Ok(()),
        }
    }
}
