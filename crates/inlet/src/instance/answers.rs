//! Where answers over UDP leave from: what a commit attaches before its commit point, and detaches after it.

use std::path::Path;

use inlet_core::{Endpoint, Protocol, Ruleset, ServiceId};

use super::commit::Direction;
use super::{CommitOptions, Instance, UpOptions};
use crate::answers::{self, Needs};
use crate::error::{AnswersError, Error, Result};
use crate::fault;
use crate::program::SharedMaps;
use crate::socket::{Lane, Lanes, Sockets, sockets_in};
use crate::state::{Access, AnswerMaps, Readers, StickyMaps, is_there, map_id, max_flows, open_map, set_max_flows};

impl Instance {
    /// What the program of a generation has of it.
    pub(super) fn shared_answers(ready: Option<&(Needs, AnswerMaps)>) -> SharedMaps<'_> {
        ready.map_or_else(SharedMaps::default, |(needs, maps)| SharedMaps {
            answers: Some(maps),
            notes_flows: needs.asked,
            passes_clients: !needs.clients.is_empty(),
            ..SharedMaps::default()
        })
    }

    /// Attaches what a ruleset needs so that answers leave from where they were asked, and those to clients of the host pass,
    /// before its commit point. `None`: none does, or this host cannot do it and no service insists.
    pub(super) fn ready_answers(
        &self,
        new: &Ruleset,
        direction: Direction,
        without: &mut Vec<Error>,
    ) -> Result<Option<(Needs, AnswerMaps)>> {
        let Some(needs) = self.needs_of(new) else { return Ok(None) };
        match self.attach_answers(&needs) {
            Ok(maps) => Ok(Some((needs, maps))),
            Err(cause) => match needs.insists.and_then(|id| new.services().get(id)) {
                Some(service) => {
                    let (service, cause) = (service.name.to_string(), Box::new(cause));
                    direction.without(AnswersError::NotHere { service, cause }.into(), without)
                }
                // Tables of another size could not be made, and the rules in force have the old ones.
                None if self.files.answers_before().are_there()? => direction.without(cause, without),
                None => Ok(None),
            },
        }
    }

    /// What answers need by a ruleset, and by the sockets that its services have already. Sockets that cannot be looked at may
    /// be at any port.
    fn needs_of(&self, ruleset: &Ruleset) -> Option<Needs> {
        let mut needs = answers::needs(ruleset)?;
        needs.ports = needs.ports || self.has_another_port(&needs.at_one_port).unwrap_or(true);
        Some(needs)
    }

    /// Whether one of the services has a UDP socket at another port.
    fn has_another_port(&self, services: &[(ServiceId, u16)]) -> Result<bool> {
        let lanes = Lanes::map(&self.maps.lanes)?;
        let mut kept = Vec::new();
        for (id, port) in services {
            for v6 in [false, true] {
                let slots = lanes.slots(Lane::of(*id, Protocol::Udp, v6));
                kept.extend(sockets_in(&self.maps.sockets, slots)?.into_iter().map(|(_, cookie)| (cookie, *port)));
            }
        }
        if kept.is_empty() {
            return Ok(false);
        }
        let sockets = Sockets::of_instance(self.location.netns(), &self.maps)?;
        Ok(kept.iter().any(|(cookie, port)| sockets.get(*cookie).is_some_and(|it| it.bound.addr.port() != *port)))
    }

    /// Before a service gets sockets by hand that are at other ports than its description has: their answers leave from the
    /// port that is asked, too.
    pub(super) fn ready_for(&self, service: ServiceId, sockets: impl Iterator<Item = Endpoint>) -> Result<()> {
        let Some(mut needs) = answers::needs(self.ruleset()?).filter(|needs| !needs.ports) else { return Ok(()) };
        let ports: Vec<u16> =
            needs.at_one_port.iter().filter(|(id, _)| *id == service).map(|(_, port)| *port).collect();
        let mut udp = sockets.filter(|it| it.protocol() == Protocol::Udp);
        needs.ports = udp.any(|it| ports.iter().any(|port| *port != it.addr().port()));
        if needs.ports && self.files.generation(self.generation).notes_flows()? {
            self.attach_again(&needs)?;
        }
        Ok(())
    }

    /// Attaches it. Where the tables have another size than they should, new ones take their place, and the old ones stay
    /// attached until the commit is through: an answer leaves by either.
    fn attach_answers(&self, needs: &Needs) -> Result<AnswerMaps> {
        let (files, before) = (self.files.answers(), self.files.answers_before());
        let max_flows = max_flows(&self.files)?;
        if !before.are_there()? && AnswerMaps::differ(&files, max_flows)? {
            std::fs::rename(&files.0, &before.0).map_err(Error::at("rename", &files.0))?;
            fault::point("answers:before");
        }
        // Until the commit point the rules in force decide about answers to clients, and after it the new ones: both find the
        // questions noted that they need. What the rules in force do not need goes afterwards.
        let mut needs = needs.clone();
        needs.clients.extend(self.ruleset()?.ports_of_clients());
        self.attach_again(&needs)
    }

    /// Attaches what is missing beside the tables that are there.
    fn attach_again(&self, needs: &Needs) -> Result<AnswerMaps> {
        let (files, before) = (self.files.answers(), self.files.answers_before());
        let readers = Readers::of(&self.files.0)?;
        answers::attach(&files, &before, max_flows(&self.files)?, needs, self.location.netns(), readers)
    }

    /// Removes what tables of another size took the place of; or these, when the generation in force does not have them.
    fn finish_resize(&self) -> Result<()> {
        let (files, before) = (self.files.answers(), self.files.answers_before());
        if !before.are_there()? {
            return Ok(());
        }
        let used = self.files.generation(self.generation).answers();
        let id = |path: &Path| match is_there(path)? {
            true => map_id(&open_map(path, Access::Read)?).map(Some),
            false => Ok(None),
        };
        if id(&before.flows())?.is_some_and(|before| id(&used).is_ok_and(|used| used == Some(before))) {
            answers::remove(&files, self.location.netns())?;
            return std::fs::rename(&before.0, &files.0).map_err(Error::at("rename", &before.0));
        }
        if files.are_there()? {
            AnswerMaps::ensure(&files, &before, max_flows(&self.files)?, Readers::of(&self.files.0)?)?;
        }
        fault::point("answers:resized");
        answers::remove(&before, self.location.netns())
    }

    /// Whether tables of flows have another size than they should.
    pub(super) fn lacks_size(&self) -> Result<bool> {
        let max_flows = max_flows(&self.files)?;
        Ok(AnswerMaps::differ(&self.files.answers(), max_flows)?
            || StickyMaps::differ(&self.files.sticky(), max_flows)?)
    }

    /// Changes how many flows are kept. Those that are known stay known as far as they fit.
    ///
    /// # Errors
    /// [`crate::StateError::MaxFlows`], and those of [`Instance::commit`].
    pub fn set_max_flows(&mut self, count: u32) -> Result<()> {
        UpOptions::check_flows(count)?;
        let (readers, before) = (Readers::of(&self.files.0)?, max_flows(&self.files)?);
        if count == before {
            return Ok(());
        }
        set_max_flows(&self.files, count, readers)?;
        fault::point("flows:set");
        let committed = self.commit(self.ruleset()?.clone(), &CommitOptions::default());
        if let Err(error) = committed {
            set_max_flows(&self.files, before, readers)?;
            return Err(error);
        }
        Ok(())
    }

    /// How many flows are kept in each table.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn max_flows(&self) -> Result<u32> {
        max_flows(&self.files)
    }

    /// Attaches what answers need to interfaces that came. What cannot be attached is told by [`crate::Snapshot::answers`].
    pub(super) fn cover_new_interfaces(&self) {
        let _ = answers::cover_again(&self.files.answers(), self.location.netns());
    }

    /// Detaches what the generation in force does not need, and attaches what it lacks: after a commit, and after one that was
    /// interrupted. What cannot be attached keeps nobody from changing the rules.
    pub(super) fn finish_answers(&self) -> Result<()> {
        self.finish_resize()?;
        let files = self.files.answers();
        if !files.are_there()? {
            return Ok(());
        }
        let notes_flows = self.files.generation(self.generation).notes_flows()?;
        match self.needs_of(self.ruleset()?).filter(|_| notes_flows) {
            Some(needs) => {
                let _ = self.attach_again(&needs);
                answers::detach_needless(&files, &needs, self.location.netns())
            }
            None => answers::remove(&files, self.location.netns()),
        }
    }
}
