//! Coming from elsewhere: what another tool was told, as a ruleset file.
//!
//! [`tubular()`] reads the bindings of tubular, [`tproxy()`] the TPROXY rules of iptables or nftables. Firewall rules are tried
//! in order and the first that matches decides; in a ruleset the most specific one does. `order` makes one out of the
//! other, so that every packet gets the same. What cannot be said in a ruleset is listed, with the reason.

#![forbid(unsafe_code)]

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

use inlet_core::{PortRange, Prefix, Protocol};

pub use tubular::tubular;

/// A ruleset file in the making.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    services: Vec<ServiceText>,
    sets: Vec<(String, Vec<Prefix>)>,
    rules: Vec<RuleText>,
    /// What could not be translated.
    pub left: Vec<Left>,
}

/// Something that could not be translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it stands, such as `line 7` or `ip filter prerouting handle 3`.
    pub place: String,
    /// What stands there.
    pub text: String,
    /// Why, and what to do instead.
    pub why: String,
}

/// Why a text is not imported at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The bindings are not in tubular's form.
    #[error("not bindings as tubular has them: {0}")]
    Bindings(serde_json::Error),
    /// The text is JSON, but not what nft writes.
    #[error("not a ruleset of nft: {0}; write it with: nft -j list ruleset")]
    Nft(serde_json::Error),
    /// The text is neither of iptables nor of nft.
    #[error("neither iptables-save nor nft -j list ruleset wrote this; write it with one of them")]
    Unknown,
    /// There is nothing to be translated.
    #[error("no TPROXY rule in it; give the mangle table of iptables-save, or nft -j list ruleset")]
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ServiceText {
    name: String,
    listen: Vec<String>,
}

/// A rule as the file has it.
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
    /// Where it comes from.
    note: String,
}

/// Translates the TPROXY rules of what `iptables-save` and `ip6tables-save` or `nft -j list ruleset` wrote. `sets` is what
/// `ipset save` wrote, which may also be part of the first text.
///
/// # Errors
/// [`ImportError`] when there is nothing to be translated.
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
