//! Translates the rules of other tools into ruleset files of Inlet.
//!
//! [`tubular()`] reads the bindings of tubular, [`tproxy()`] the TPROXY rules of iptables or nftables.
//!
//! Firewall rules are tried in order, and the first match decides. In a ruleset the most specific rule decides. The
//! module `order` turns one into the other, so that every packet gets the same answer. What a ruleset cannot express is
//! listed with the reason.

#![forbid(unsafe_code)]
#![deny(clippy::self_named_module_files)]

mod entries;
mod flatten;
mod ipset;
mod iptables;
mod members;
mod nft;
mod order;
mod selection;
mod services;
mod steps;
mod texts;
mod tubular;
mod write;

use std::borrow::Cow;

use inlet_core::{PortRange, Prefix, Protocol, Remedy};

pub use tubular::tubular;

/// A ruleset file, translated.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    services: Vec<ServiceText>,
    sets: Vec<(String, Vec<Prefix>)>,
    rules: Vec<RuleText>,
    /// What could not be translated.
    pub left: Vec<Left>,
}

/// A rule that could not be translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it stands: `line 7` or `ip filter prerouting handle 3`.
    pub place: String,
    /// What stands there.
    pub text: String,
    /// Why, and what to do instead.
    pub why: String,
}

/// Why a whole text cannot be translated.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The text is not bindings in tubular's form.
    #[error("not bindings as tubular has them: {0}")]
    Bindings(serde_json::Error),
    /// The text is JSON, but nft did not write it.
    #[error("not a ruleset of nft: {0}")]
    Nft(serde_json::Error),
    /// The text is neither of iptables nor of nft.
    #[error("neither iptables-save nor nft -j list ruleset wrote this")]
    Unknown,
    /// The text has no TPROXY rule.
    #[error("no TPROXY rule in it")]
    Nothing,
}

impl Remedy for ImportError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Bindings(_) => None,
            Self::Nft(_) => Some("write it with: nft -j list ruleset".into()),
            Self::Unknown => Some("write it with one of them".into()),
            Self::Nothing => Some("give the mangle table of iptables-save, or nft -j list ruleset".into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ServiceText {
    name: String,
    listen: Vec<String>,
}

/// A rule in the form of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RuleText {
    /// The service, or `None`: pass.
    to: Option<String>,
    protocols: Vec<Protocol>,
    local: Vec<String>,
    ports: Vec<PortRange>,
    except: Vec<PortRange>,
    from: Vec<String>,
    iface: Option<String>,
    /// The rule of the other tool that it comes from.
    note: String,
}

/// Translates the TPROXY rules in the output of `iptables-save` and `ip6tables-save`, or of `nft -j list ruleset`.
/// `sets` is the output of `ipset save`, which may also be part of the first text.
///
/// # Errors
/// [`ImportError`] when there is nothing to translate.
pub fn tproxy(text: &str, sets: &str) -> Result<Imported, ImportError> {
    let chains = match text.trim_start().starts_with('{') {
        true => nft::read(text)?,
        false => iptables::read(text, sets)?,
    };
    let flat = flatten::flatten(chains);
    if flat.items.iter().all(|item| !matches!(item.action, flatten::Action::To(_))) && flat.left.is_empty() {
        return Err(ImportError::Nothing);
    }
    Ok(order::settle(flat))
}
