//! The keys of a ruleset file, and the values that only files have.

use std::borrow::Cow;
use std::str::FromStr;

use super::{Host, NoInterface, Routes};
use crate::rule::{
    CgroupPath, Confine, Description, DescriptionError, InterfaceName, Listen, Remedy, UnitName, UserName, Verdict,
};
use crate::ruleset::Builder;

/// The keys of a file.
pub(super) const FILE: &[&str] = &["include", "routes", "services", "sets", "grants", "rules"];
/// The keys of a service.
pub(super) const SERVICE: &[&str] =
    &["on_missing", "spread", "answers", "sticky", "listen", "unit", "cgroup", "user", "anyone", "no_mptcp", "binds"];
/// The keys of a set that is not a list.
pub(super) const SET: &[&str] = &["file", "lenient"];
/// The keys of a grant.
pub(super) const GRANT: &[&str] = &["user", "unit", "service", "local", "ports"];
/// The keys of a rule.
pub(super) const RULE: &[&str] = &["to", "verdict", "protocol", "local", "ports", "except", "from", "iface", "mark"];

/// A verdict without a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    Pass,
    Refuse,
}

/// That programs have binds of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnBinds;

/// The text is not one of the few that a key can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {text:?}")]
pub struct UnknownChoice {
    what: &'static str,
    text: String,
    choices: &'static str,
}

impl Remedy for UnknownChoice {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(format!("write {}", self.choices).into())
    }
}

impl Plain {
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::Pass => Verdict::Pass,
            Self::Refuse => Verdict::Refuse,
        }
    }
}

impl FromStr for Plain {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "pass" => Ok(Self::Pass),
            "refuse" => Ok(Self::Refuse),
            _ => Err(UnknownChoice { what: "verdict", text: text.to_owned(), choices: "pass or refuse" }),
        }
    }
}

impl FromStr for Routes {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "manage" => Ok(Self::Manage),
            "leave" => Ok(Self::Leave),
            _ => Err(UnknownChoice { what: "way with routes", text: text.to_owned(), choices: "manage or leave" }),
        }
    }
}

impl FromStr for OwnBinds {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "own" => Ok(Self),
            _ => Err(UnknownChoice { what: "kind of binds", text: text.to_owned(), choices: "own, or leave it out" }),
        }
    }
}

/// The keys of a service that describe its sockets, after reading.
#[derive(Default)]
pub(super) struct Described {
    pub(super) listen: Option<Vec<Listen>>,
    pub(super) unit: Option<UnitName>,
    pub(super) cgroup: Option<CgroupPath>,
    pub(super) user: Option<UserName>,
    pub(super) anyone: bool,
    pub(super) no_mptcp: bool,
    pub(super) own_binds: bool,
}

/// Why these keys do not describe sockets.
#[derive(Debug, thiserror::Error)]
pub(super) enum DescribedError {
    #[error("a service has \"unit\" or \"cgroup\", not both")]
    TwoPlaces,
    #[error(
        "\"unit\", \"cgroup\", \"user\", \"anyone\" and \"no_mptcp\" say more about \"listen\", which is not there"
    )]
    NoListen,
    #[error("\"anyone\" means sockets of every user, \"unit\", \"cgroup\" and \"user\" do not")]
    Anyone,
    #[error("\"no_mptcp\" needs \"unit\", \"cgroup\" or \"user\", whose programs get plain TCP")]
    PlainForAll,
    #[error("\"binds\" needs \"unit\" or \"cgroup\", whose programs have them")]
    OwnForAll,
    #[error("udp:*:* means the sockets of clients too")]
    Vague,
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

impl Remedy for DescribedError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::TwoPlaces | Self::Anyone => Some("leave one out".into()),
            Self::PlainForAll | Self::OwnForAll => Some("add one of them".into()),
            Self::Vague => Some("give ports, or binds = \"own\"".into()),
            Self::NoListen => Some("add it, or leave them out".into()),
            Self::Description(error) => error.remedy(),
        }
    }
}

impl Described {
    pub(super) fn description(self) -> Result<Option<Description>, DescribedError> {
        let confine = match (self.unit, self.cgroup) {
            (Some(_), Some(_)) => return Err(DescribedError::TwoPlaces),
            (Some(unit), None) => Some(Confine::Unit(unit)),
            (None, Some(cgroup)) => Some(Confine::Cgroup(cgroup)),
            (None, None) => None,
        };
        // What own binds move, unless addresses are named, is all that is bound.
        let all = || self.own_binds.then(|| vec![Listen::ALL_TCP, Listen::ALL_UDP]);
        match self.listen.or_else(all) {
            None if confine.is_some() || self.user.is_some() || self.anyone || self.no_mptcp => {
                Err(DescribedError::NoListen)
            }
            None => Ok(None),
            Some(_) if self.anyone && (confine.is_some() || self.user.is_some()) => Err(DescribedError::Anyone),
            Some(listen) => {
                let mut description = Description::new(listen)?;
                (description.confine, description.user, description.anyone) = (confine, self.user, self.anyone);
                description.no_mptcp = self.no_mptcp;
                description.own_binds = self.own_binds;
                match () {
                    () if description.is_own_for_all() => Err(DescribedError::OwnForAll),
                    () if description.is_vague() => Err(DescribedError::Vague),
                    () if description.is_plain_for_all() => Err(DescribedError::PlainForAll),
                    () => Ok(Some(description)),
                }
            }
        }
    }
}

/// Looks up the interfaces of a builder. Returns those that cannot be named, with the reason.
pub(super) fn resolve_interfaces(builder: &mut Builder, host: &mut dyn Host) -> Vec<(InterfaceName, NoInterface)> {
    let (mut known, mut bad) = (Vec::new(), Vec::new());
    for interface in builder.interfaces() {
        match host.interface(&interface.name) {
            Ok(index) => known.push(index),
            Err(reason) => {
                known.push(0);
                bad.push((interface.name, reason));
            }
        }
    }
    let mut known = known.into_iter();
    builder.resolve_interfaces(|_| known.next().unwrap_or(0));
    bad
}
