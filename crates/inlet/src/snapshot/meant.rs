//! Which sockets a description means, by what the kernel lists of them: their address, who made them, and in which
//! control group. The programs that find sockets ask the same of each.

use std::collections::BTreeSet;

use inlet_core::Description;

use crate::described::uid_of;
use crate::kernel::Cgroups;
use crate::socket::{Listed, Sockets};

/// A description with what it names looked up.
pub(super) struct Meaning<'a> {
    description: &'a Description,
    /// `Some(None)`: there is no such user.
    uid: Option<Option<u32>>,
    /// The control groups whose sockets are meant, when it names one.
    cgroups: Option<BTreeSet<u64>>,
}

impl<'a> Meaning<'a> {
    /// Looks up the user and the control group. One that is not there means no socket. Where control groups cannot be
    /// looked up, the address alone counts.
    pub(super) fn of(description: &'a Description) -> Self {
        let uid = description.user.as_ref().map(|user| uid_of(user).ok().flatten());
        let numbers = |confine| Cgroups::find().and_then(|cgroups| cgroups.numbers_below(confine)).ok();
        Self { description, uid, cgroups: description.confine.as_ref().and_then(numbers) }
    }

    /// The sockets that it means, as far as a service can have them.
    pub(super) fn sockets(&self, sockets: &Sockets) -> Vec<Listed> {
        let at = |listen: &inlet_core::Listen| {
            let (first, last) = listen.port().map_or((1, u16::MAX), |port| (port, port));
            sockets.asking_for(listen.protocol(), first, last)
        };
        let mut found: Vec<Listed> = self.description.listen().iter().flat_map(at).copied().collect();
        found.retain(|listed| self.means(sockets, listed) && !listed.mptcp);
        found.sort_by_key(|listed| listed.cookie);
        found.dedup_by_key(|listed| listed.cookie);
        found
    }

    /// Whether it means a socket.
    pub(super) fn means(&self, sockets: &Sockets, listed: &Listed) -> bool {
        self.description.is_at(&sockets.endpoint(&listed.bound))
            && self.uid.is_none_or(|uid| uid == Some(listed.uid))
            && self.cgroups.as_ref().is_none_or(|cgroups| cgroups.contains(&listed.cgroup))
    }
}
