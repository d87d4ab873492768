//! Coming from elsewhere: what another tool was told, as a ruleset file.
//!
//! [`tubular()`] reads the bindings of tubular, [`tproxy()`] the TPROXY rules of iptables or nftables, [`receivers()`]
//! what receives
//! on a host today. Firewall rules are tried in order and the first that matches decides; in a ruleset the most
//! specific
//! one does. So the firewall is read as it is (`firewall`), asked who gets each packet (`evaluate`), and that is
//! written as
//! rules (`encode`). What cannot be said in a ruleset is listed, with the reason, and steers nothing.

#![forbid(unsafe_code)]

mod encode;
mod evaluate;
mod firewall;
mod ipset;
mod iptables;
mod listeners;
mod nft;
mod receivers;
mod services;
mod translate;
mod tubular;
mod write;

use std::borrow::Cow;

use inlet_core::{PortRange, Prefix, Protocol, Remedy};

pub use listeners::{Listener, listeners};
pub use receivers::{local_prefixes, receivers, routed_prefixes};
pub use translate::tproxy;
pub use tubular::tubular;

/// A ruleset file in the making.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    services: Vec<ServiceText>,
    sets: Vec<(String, Vec<Prefix>)>,
    rules: Vec<RuleText>,
    /// Rules that somebody has to decide about; comments of the file.
    undecided: Vec<RuleText>,
    /// What could not be translated, or means something else now.
    pub left: Vec<Left>,
}

/// What else is known of the host whose rules are imported.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// What `ipset save` wrote, when it is not part of the rules.
    pub sets: String,
    /// The listeners and unconnected UDP sockets; `None`: not known.
    pub listeners: Option<Vec<Listener>>,
    /// The names of the interfaces; `None`: not known.
    pub interfaces: Option<Vec<String>>,
}

/// Something that could not be translated, or not quite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it stands, such as `line 7` or `ip filter prerouting handle 3`.
    pub place: String,
    /// What stands there.
    pub text: String,
    /// Why, and what to do instead.
    pub why: String,
    /// Whether the file steers less than the firewall did until somebody decides: `inlet apply` refuses it.
    pub todo: bool,
}

/// Why a text is not imported at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The bindings are not in tubular's form.
    #[error("not bindings as tubular has them: {0}")]
    Bindings(serde_json::Error),
    /// The text is JSON, but not what nft writes.
    #[error("not a ruleset of nft: {0}")]
    Nft(serde_json::Error),
    /// The text is nftables' own.
    #[error("this is nftables' own text")]
    NftText,
    /// The text is neither of iptables nor of nft.
    #[error("neither iptables-save nor nft -j list ruleset wrote this")]
    Unknown,
    /// There is nothing to be translated.
    #[error("no TPROXY rule in it")]
    Nothing,
    /// The text is not what `ss` writes.
    #[error("line {0} is not a socket as ss writes it")]
    Sockets(usize),
}

impl Remedy for ImportError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Bindings(_) => None,
            Self::Nft(_) | Self::NftText => Some("write it with: nft -j list ruleset".into()),
            Self::Unknown => Some("write it with one of them".into()),
            Self::Nothing => Some("give the mangle table of iptables-save, or nft -j list ruleset".into()),
            Self::Sockets(_) => Some("write the sockets with: ss -lntup".into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ServiceText {
    name: String,
    listen: Vec<String>,
    /// What else is known of it.
    note: Option<String>,
}

/// A rule as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RuleText {
    verdict: VerdictText,
    protocols: Vec<Protocol>,
    local: Vec<String>,
    ports: Vec<PortRange>,
    except: Vec<PortRange>,
    from: Vec<String>,
    iface: Option<String>,
    mark: Option<String>,
    /// Where it comes from.
    note: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum VerdictText {
    To(String),
    Pass,
    Refuse,
}
