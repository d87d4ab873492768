//! A match and a verdict as an operator writes them: with names, and with several port ranges.

use std::fmt;

use super::{BuildError, Builder};
use crate::rule::{InterfaceName, Mark, Match, PortRange, Ports, Prefix, Protocol, ServiceName, Verdict};

/// Which packets, with names instead of numbers. A selector with several port ranges stands for several rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The protocol.
    pub protocol: Protocol,
    /// The addresses that the packets go to.
    pub local: Prefix,
    /// The ports that they go to.
    pub ports: Ports,
    /// The addresses that they come from; `None` for all.
    pub source: Option<Prefix>,
    /// The interface on which they come in; `None` for all.
    pub iface: Option<InterfaceName>,
    /// The mark that they have; `None` for all.
    pub mark: Option<Mark>,
}

/// What happens to packets, with the name of a service instead of its number.
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
    /// The matches that this stands for, one for each port range, with the numbers of a builder.
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
            mark: self.mark,
        };
        Ok(self.ports.ranges().iter().map(one).collect())
    }
}

impl Target {
    /// The verdict with the numbers of a builder. A service that does not exist is created.
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
        if let Some(iface) = &self.iface {
            write!(f, " iface {iface}")?;
        }
        match self.mark {
            Some(mark) => write!(f, " mark {mark}"),
            None => Ok(()),
        }
    }
}
