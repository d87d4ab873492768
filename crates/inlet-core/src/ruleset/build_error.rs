//! Why rules and services do not form a ruleset.

use std::borrow::Cow;

use super::builder::MAX_RULES;
use super::conflict::Conflict;
use super::entry::MAX_SHAPES;
use crate::rule::{GrantError, Listen, Prefix, Remedy, ServiceError, ServiceName};

/// Why rules and services do not form a ruleset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Rules that match a packet with equal rank.
    #[error("rules {}{}", .0[0], others(.0))]
    Conflict(Vec<Conflict>),
    /// The source and the local prefix of a rule have different families.
    #[error("rule for {local} from {source_prefix} can match nothing: one is IPv4 and the other IPv6")]
    Families {
        /// The local prefix.
        local: Prefix,
        /// The source prefix.
        source_prefix: Prefix,
    },
    /// There are more combinations of ports, sources, interfaces, marks and verdicts than a ruleset can number.
    #[error("more than {MAX_SHAPES} different combinations of ports, source, interface, mark and verdict")]
    TooManyShapes,
    /// There are more rules than a ruleset may have, all lists expanded.
    #[error("more than {MAX_RULES} rules")]
    TooManyRules,
    /// There are more interfaces than a ruleset can number.
    #[error("more than 65535 interfaces in one ruleset")]
    TooManyInterfaces,
    /// A service cannot be removed because rules name it.
    #[error("service {name} has {rules} rule{}", if *rules == 1 { "" } else { "s" })]
    InUse {
        /// The service.
        name: ServiceName,
        /// How many rules name it.
        rules: u64,
    },
    /// Two services whose descriptions could claim the same socket.
    #[error("services {first} and {second} could both claim a socket at {listen}")]
    Overlap {
        /// One of the services.
        first: ServiceName,
        /// The other service.
        second: ServiceName,
        /// An address that both claim.
        listen: Listen,
    },
    /// A service claims every listener of the host.
    #[error("service {0}: tcp:*:* means every listener of the host")]
    Boundless(ServiceName),
    /// A service would keep every program of the host from multipath TCP.
    #[error("service {0}: no-mptcp needs a unit, a cgroup or a user, whose programs get plain TCP")]
    PlainForAll(ServiceName),
    /// The SO_REUSEPORT group of a service chooses, and Inlet would have to.
    #[error("service {0}: flows cannot stay (sticky) where the SO_REUSEPORT group chooses (spread = \"group\")")]
    StickyGroup(ServiceName),
    /// Flows of a service would stay, and it has none over UDP.
    #[error("service {0}: sticky is for flows over UDP, and this service has TCP only")]
    StickyTcp(ServiceName),
    /// A service would move what every program of the host binds.
    #[error("service {0}: own binds need a unit or a cgroup, whose programs have them")]
    OwnForAll(ServiceName),
    /// A service means all UDP sockets, without own binds.
    #[error("service {0}: udp:*:* means the sockets of clients too")]
    Vague(ServiceName),
    /// Grants that cannot be, or not together.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// A change to the services is not possible.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Remedy for BuildError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Conflict(_) => "make one narrower or remove one".into(),
            Self::Families { .. } => return None,
            Self::TooManyRules => "use wider prefixes and port ranges".into(),
            Self::TooManyShapes | Self::TooManyInterfaces => "use fewer".into(),
            Self::InUse { .. } => "unbind them first (list them with: inlet rules)".into(),
            Self::Overlap { .. } => "let them differ in address, user, unit or cgroup".into(),
            Self::Boundless(_) => "say whose with a unit or a cgroup, or give ports".into(),
            Self::PlainForAll(_) => "say whose with a unit, a cgroup or a user".into(),
            Self::StickyGroup(_) => "leave the choice to Inlet (spread = \"inlet\"), or leave sticky out".into(),
            Self::StickyTcp(_) => "leave sticky out: a connection over TCP stays on its socket by itself".into(),
            Self::OwnForAll(_) => "say whose with a unit or a cgroup".into(),
            Self::Vague(_) => "give ports, or own binds".into(),
            Self::Grant(error) => return error.remedy(),
            Self::Service(error) => return error.remedy(),
        })
    }
}

fn others(conflicts: &[Conflict]) -> String {
    match conflicts.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} pairs more)", n - 1),
    }
}
