//! Flows over UDP that stay on their sockets: the maps that a commit makes before its commit point and removes after it.

use inlet_core::Ruleset;

use super::Instance;
use super::commit::Direction;
use crate::error::{Error, Result};
use crate::kernel::btf;
use crate::state::{Access, Readers, StickyMaps, is_there, map_id, max_flows, open_map, remove_all};

/// Whether flows of a ruleset stay.
pub(super) fn is_sticky(ruleset: &Ruleset) -> bool {
    ruleset.udp_services().into_iter().any(|(id, _)| ruleset.services().get(id).is_some_and(|it| it.sticky.is_on()))
}

impl Instance {
    /// Makes what flows of a ruleset stay by. `None`: none does.
    pub(super) fn ready_sticky(
        &self,
        new: &Ruleset,
        direction: Direction,
        without: &mut Vec<Error>,
    ) -> Result<Option<StickyMaps>> {
        if !is_sticky(new) {
            return Ok(None);
        }
        let ready = || {
            btf::socket_cookie()?;
            StickyMaps::ensure(&self.files.sticky(), max_flows(&self.files)?, Readers::of(&self.files.0)?).map(Some)
        };
        ready().or_else(|error| direction.without(error, without))
    }

    /// Removes it when no flow of the ruleset in force stays and no socket is being drained: after a commit, and after one that was interrupted.
    pub(super) fn finish_sticky(&self) -> Result<()> {
        match is_sticky(self.ruleset()?) || !self.leaving_sockets()?.is_empty() {
            true => {
                let used = self.files.generation(self.generation).sticky();
                let used = if is_there(&used)? { Some(map_id(&open_map(&used, Access::Read)?)?) } else { None };
                StickyMaps::finish_resize(&self.files.sticky(), used)
            }
            false => remove_all(&self.files.sticky().0),
        }
    }
}
