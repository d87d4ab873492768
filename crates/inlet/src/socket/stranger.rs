//! Sockets of another user than the others of their service: who owns one gets a part of its packets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use inlet_core::ServiceId;

use super::{Lane, Lanes, Sockets, shown, sockets_in};
use crate::error::{Result, quoted};
use crate::kernel::Netns;
use crate::state::Maps;

/// One of several users whose sockets a service has. It is shown by its name, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger(pub u32);

impl Stranger {
    /// The next step.
    pub fn remedy(service: &str) -> String {
        let name = quoted(service);
        format!(
            "take out those that should not be there: inlet unregister {name} --pid PID; then name the user of the others"
        )
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::unistd::User::from_uid(self.0.into()) {
            Ok(Some(user)) => f.pad(&shown(user.name.as_bytes())),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// Those of the sockets whose service has sockets, but none of the same user: with that user, by cookie.
pub(crate) fn strangers(
    maps: &Maps,
    netns: &Netns,
    new: &BTreeSet<(ServiceId, u64)>,
) -> Result<BTreeMap<u64, Stranger>> {
    let mut found = BTreeMap::new();
    if new.is_empty() {
        return Ok(found);
    }
    let (sockets, lanes) = (Sockets::of_instance(netns, maps)?, Lanes::map(&maps.lanes)?);
    let services: BTreeSet<ServiceId> = new.iter().map(|(service, _)| *service).collect();
    for service in services {
        let mut cookies = BTreeSet::new();
        for lane in Lane::all(service) {
            cookies.extend(sockets_in(&maps.sockets, lanes.slots(lane))?.into_iter().map(|(_, cookie)| cookie));
        }
        let user = |cookie: u64| sockets.get(cookie).map(|listed| listed.uid);
        for (_, cookie) in new.iter().filter(|(of, _)| *of == service) {
            let Some(own) = user(*cookie) else { continue };
            let mut others =
                cookies.iter().filter(|other| *other != cookie).filter_map(|other| user(*other)).peekable();
            if others.peek().is_some() && others.all(|other| other != own) {
                found.insert(*cookie, Stranger(own));
            }
        }
    }
    Ok(found)
}
