//! Why the local routes that rules need cannot be made.

use std::borrow::Cow;

use inlet_core::Prefix;

/// Why the local routes that rules need cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A local route would take the addresses of others.
    #[error("a local route for {prefix} would cut the host off from {route}")]
    CutsOff {
        /// The prefix that the rules are for.
        prefix: Prefix,
        /// The route that would be of no use any more.
        route: String,
    },
    /// The rules need more local routes than Inlet makes.
    #[error("the rules are for {count} prefixes that are not local, and inlet makes {max} routes at most")]
    TooMany {
        /// How many they need.
        count: usize,
        /// How many are made.
        max: usize,
    },
    /// Local routes lead through the loopback interface, and that is down.
    #[error("lo is down in {netns}, and local routes lead through it")]
    LoopbackDown {
        /// The namespace.
        netns: String,
    },
}

impl RouteError {
    pub(super) fn remedy(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::CutsOff { prefix, .. } => format!(
                "give the rules narrower prefixes; if it is meant, make it local yourself: ip route add local {prefix} dev lo"
            )
            .into(),
            Self::TooMany { .. } => {
                "make wider prefixes local yourself (ip route add local PREFIX dev lo), or leave the routes alone".into()
            }
            Self::LoopbackDown { .. } => "ip link set lo up".into(),
        })
    }
}
