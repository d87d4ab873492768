//! What may be asked of the services of a builder beside their sockets.

use super::{BuildError, Builder, Ruleset};
use crate::rule::{Answers, Grant, OnMissing, Protocol, ServiceId, Spread, Sticky, Verdict};

impl Builder {
    /// Sets what happens to packets of a service without a live socket.
    pub fn set_on_missing(&mut self, id: ServiceId, on_missing: OnMissing) {
        self.services.set_on_missing(id, on_missing);
    }

    /// Sets who chooses among the live sockets of a service.
    pub fn set_spread(&mut self, id: ServiceId, spread: Spread) {
        self.services.set_spread(id, spread);
    }

    /// Sets where answers of a service over UDP leave from. With `None` the host decides.
    pub fn set_answers(&mut self, id: ServiceId, answers: Option<Answers>) {
        self.services.set_answers(id, answers);
    }

    /// Sets for how long flows of a service over UDP stay on their sockets.
    pub fn set_sticky(&mut self, id: ServiceId, sticky: Sticky) {
        self.services.set_sticky(id, sticky);
    }

    /// The ruleset in canonical form.
    ///
    /// # Errors
    /// [`BuildError::Conflict`] with all neighbouring pairs of rules that tie, [`BuildError::Overlap`],
    /// [`BuildError::StickyGroup`], [`BuildError::StickyTcp`].
    pub fn finish(self) -> Result<Ruleset, BuildError> {
        let ruleset = self.finish_part()?;
        check_sticky(&ruleset)?;
        Ok(ruleset)
    }

    /// Sets who may use services without the rights to change all.
    pub fn set_grants(&mut self, grants: Vec<Grant>) {
        self.services.set_grants(grants);
    }
}

/// Fails when flows of a service are to stay that Inlet does not choose sockets for, or that are none.
fn check_sticky(ruleset: &Ruleset) -> Result<(), BuildError> {
    for (id, service) in ruleset.services.iter().filter(|(_, service)| service.sticky.is_on()) {
        if service.spread == Spread::Group {
            return Err(BuildError::StickyGroup(service.name.clone()));
        }
        let described = service.description.as_ref().map(|it| it.listen().iter().map(|listen| listen.protocol()));
        let ruled = ruleset.shapes.iter().filter(|shape| shape.verdict == Verdict::Service(id));
        let mut protocols = ruled.map(|shape| shape.protocol).chain(described.into_iter().flatten()).peekable();
        if protocols.peek().is_some() && protocols.all(|protocol| protocol == Protocol::Tcp) {
            return Err(BuildError::StickyTcp(service.name.clone()));
        }
    }
    Ok(())
}
