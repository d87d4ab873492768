//! Own binds: what a commit looks at before it closes the ports for them, and frees after it.

use inlet_core::{Confine, Endpoint, PortRange, Ruleset};

use super::Instance;
use crate::error::{DescribeError, Error, Result};
use crate::fault;
use crate::kernel::Cgroups;
use crate::socket::Sockets;

impl Instance {
    /// Fails when something is in the way of the ports for own binds, and a ruleset is the first one that needs them.
    pub(super) fn require_own_ports(&self, new: &Ruleset) -> Result<()> {
        if !new.services().has_own_binds() || self.ruleset()?.services().has_own_binds() {
            return Ok(());
        }
        Sockets::of_instance(self.location.netns(), &self.maps)?.require_own_range(self.location.netns())
    }

    /// The ports that a ruleset closes to all but rules.
    pub(super) fn own_ports_of(&self, ruleset: &Ruleset) -> Option<PortRange> {
        self.own_ports().filter(|_| ruleset.services().has_own_binds())
    }

    /// Frees the ports of services that have own binds no more.
    pub(super) fn free_own_ports(&self) -> Result<()> {
        let Some(own_ports) = &self.maps.own_ports else { return Ok(()) };
        let services = self.ruleset()?.services();
        let previous = self.previous_services()?;
        let keeps = |id| [services, &previous].iter().any(|all| all.get(id).is_some_and(|it| it.has_own_binds()));
        let sockets = Sockets::of_instance(self.location.netns(), &self.maps)?;
        own_ports.free(keeps, |port| sockets.is_at_own(port))?;
        fault::point("own:freed");
        Ok(())
    }

    /// Fails when a socket is to be given to a service with own binds that a program outside of it made.
    pub(super) fn require_inside(&self, service: &str, found: impl Iterator<Item = (Endpoint, u64)>) -> Result<()> {
        let services = self.ruleset()?.services();
        let description = services.id(service).and_then(|id| services.get(id)?.description.as_ref());
        let Some(confine) = description.filter(|it| it.own_binds).and_then(|it| it.confine.as_ref()) else {
            return Ok(());
        };
        let inside = Cgroups::find()?.numbers_below(confine)?;
        let sockets = Sockets::of_instance(self.location.netns(), &self.maps)?;
        for (endpoint, cookie) in found {
            if sockets.get(cookie).is_some_and(|listed| !inside.contains(&listed.cgroup)) {
                let (service, confine): (String, Confine) = (service.to_owned(), confine.clone());
                return Err(Error::Describe(DescribeError::Outside { service, confine, endpoint }));
            }
        }
        Ok(())
    }
}
