//! Described sockets: when a commit changes descriptions, new programs are made for them before its commit point and
//! take the place of the former ones after it; sockets that exist already are then looked through.

use std::collections::BTreeSet;

use inlet_core::{Description, Endpoint, Plan, Protocol, Ruleset, ServiceChange, ServiceId, Services};

use super::Instance;
use super::commit::Direction;
use crate::described::{Claims, FoundSocket, Placed, Prepared, Programs, claims_of, find, remove_programs};
use crate::error::{Error, Result, SocketError};
use crate::socket::{Fill, Lane, Lanes, Places, Room, Sockets, empty, sockets_in};
use crate::state::Readers;

impl Instance {
    /// Makes what the descriptions of a ruleset need, so that nothing but putting it in force can fail later.
    ///
    /// Without what cannot be had of them, services find no sockets until `inlet adopt`; they keep those that they have.
    pub(super) fn prepare_descriptions(
        &self,
        plan: &Plan,
        new: &Ruleset,
        direction: Direction,
        without: &mut Vec<Error>,
    ) -> Result<Prepared> {
        let old = self.ruleset()?.services();
        let was_described =
            |name: &str| old.id(name).and_then(|id| old.get(id)).is_some_and(|it| it.description.is_some());
        let changes = plan.services.iter().any(|change| match change {
            ServiceChange::Described { .. } => true,
            ServiceChange::Removed(name) => was_described(name.as_str()),
            ServiceChange::Added(..)
            | ServiceChange::OnMissing { .. }
            | ServiceChange::Spread { .. }
            | ServiceChange::Answers { .. }
            | ServiceChange::Sticky { .. } => false,
        });
        // An interface that was made anew has another index.
        let devices = new.services().devices().next().is_some() && self.ruleset()?.interfaces() != new.interfaces();
        if !changes && !devices {
            return Ok(Prepared::Same);
        }
        let describes = |change: &ServiceChange| matches!(change, ServiceChange::Described { new: Some(_), .. });
        let checked = direction == Direction::Forward && plan.services.iter().any(describes);
        if direction == Direction::Forward {
            self.require_own_ports(new)?;
        }
        let prepared = claims_of(new).and_then(|claims| match claims {
            Some(claims) if checked => claims.check().and_then(|()| self.prepare(claims)),
            Some(claims) => self.prepare(claims),
            None => Ok(Prepared::None),
        });
        // What takes descriptions away must work whatever became of those that stay.
        let direction = if checked { Direction::Forward } else { Direction::Back };
        prepared.or_else(|error| direction.without(error, without))
    }

    fn prepare(&self, wants: Claims) -> Result<Prepared> {
        let programs = Programs::load(&wants, &self.maps, &self.files.described(), self.location.netns().cookie())?;
        Ok(Prepared::Some(Box::new(programs), wants))
    }

    /// Does before the commit point what descriptions need: lanes get room, what is not attached is, and sockets that
    /// are meant from the commit point on get their places. Packets do not go there yet.
    pub(super) fn stage(&self, plan: &Plan, new: &Ruleset, prepared: &Prepared) -> Result<Placed> {
        let Prepared::Some(programs, wants) = prepared else { return Ok(Placed::default()) };
        self.make_room(wants)?;
        programs.attach_missing(&self.files.described(), wants, Readers::of(&self.files.0)?)?;
        let lanes = Lanes::map(&self.maps.lanes)?;
        let keeps = |id, endpoint: &Endpoint| Ok(goes_on_having(plan, new, id, endpoint));
        let places = Places::survey(&self.maps, &lanes, Fill::Behind)?;
        programs.finder()?.place(places, self.location.netns(), &self.leaving_sockets()?, &keeps)
    }

    /// Gives lanes the slots that the kernel needs for described listeners.
    fn make_room(&self, wants: &Claims) -> Result<()> {
        let lanes = Lanes::map(&self.maps.lanes)?;
        let mut room = Room::of(&self.maps, &lanes)?;
        let full = |_| Error::Socket(SocketError::TooManySockets(self.maps.max_sockets()));
        wants.listening.iter().try_for_each(|lane| room.reserve(*lane)?.map_err(full))
    }

    /// Puts in force what was prepared. Doing it once more does no harm.
    pub(crate) fn describe(&self, prepared: &Prepared) -> Result<()> {
        let files = self.files.described();
        match prepared {
            Prepared::Same => Ok(()),
            Prepared::None => remove_programs(&files),
            Prepared::Some(programs, wants) => programs.put_in_force(&files, wants),
        }
    }

    /// Makes everything anew that the descriptions in force need: after a commit that was interrupted. One that cannot
    /// be looked up any more, because its user is gone, is left out: it must not keep anybody from changing the rules.
    pub(crate) fn describe_again(&self) -> Result<()> {
        let wants = claims_of(self.ruleset()?)?;
        let prepared = wants.map_or(Ok(Prepared::None), |wants| self.prepare(wants))?;
        if let Prepared::Some(programs, wants) = &prepared {
            self.make_room(wants)?;
            programs.attach_missing(&self.files.described(), wants, Readers::of(&self.files.0)?)?;
        }
        self.describe(&prepared)
    }

    /// Finds the sockets that descriptions mean, and gives them to their services. Users, units and control groups are
    /// looked up anew; for a service whose user there is not nothing is found.
    ///
    /// # Errors
    /// Those of the kernel, and of looking up users.
    pub fn adopt(&mut self) -> Result<Vec<FoundSocket>> {
        self.require_back()?;
        self.finish_commit()?;
        self.describe_again()?;
        self.find(&Protocol::ALL)
    }

    /// Goes through the sockets that exist.
    pub(crate) fn find(&self, protocols: &[Protocol]) -> Result<Vec<FoundSocket>> {
        let files = self.files.described();
        if !files.are_there()? {
            return Ok(Vec::new());
        }
        let is_there = |id| Ok(self.ruleset()?.services().get(id).is_some());
        find(&self.maps, &files, self.location.netns(), protocols, &self.leaving_sockets()?, &is_there)
    }

    /// After a commit: listeners that came while it was made get their places, and sockets that only the previous
    /// descriptions meant go.
    pub(super) fn find_after(&self, plan: &Plan) -> Result<()> {
        let found = self.found()?;
        let searched = self.files.described().are_there()?;
        for change in &plan.services {
            if let ServiceChange::Described { name, previous: Some(previous), new, .. } = change {
                let stays = new.as_ref().filter(|_| !searched);
                self.let_go(self.service(name.as_str())?, previous, stays, &found)?;
            }
        }
        self.free_own_ports()
    }

    /// What is left to do for descriptions after an interrupted commit. `others` are the services of rulesets that it
    /// left.
    pub(super) fn find_again(&self, others: &[Services]) -> Result<()> {
        let found = self.found()?;
        let services = self.ruleset()?.services();
        for (name, description) in
            others.iter().flat_map(|it| it.iter()).filter_map(|(_, it)| Some((&it.name, it.description.as_ref()?)))
        {
            let Some(id) = services.id(name.as_str()) else { continue };
            if services.get(id).is_some_and(|service| service.description.as_ref() != Some(description)) {
                self.let_go(id, description, None, &found)?;
            }
        }
        Ok(())
    }

    fn found(&self) -> Result<BTreeSet<(ServiceId, u64)>> {
        Ok(self.find(&Protocol::ALL)?.iter().map(|finding| (finding.service, finding.cookie)).collect())
    }

    /// Takes out the sockets that a description meant, that were not found now and that `stays` does not mean either.
    fn let_go(
        &self,
        id: ServiceId,
        old: &Description,
        stays: Option<&Description>,
        found: &BTreeSet<(ServiceId, u64)>,
    ) -> Result<()> {
        let (sockets, lanes) =
            (Sockets::of_instance(self.location.netns(), &self.maps)?, Lanes::map(&self.maps.lanes)?);
        let meant = |cookie| {
            let socket = sockets.get(cookie).map(|listed| sockets.endpoint(&listed.bound));
            socket.is_some_and(|socket| old.is_at(&socket) && !stays.is_some_and(|stays| stays.is_at(&socket)))
        };
        for lane in Lane::all(id) {
            for (slot, cookie) in sockets_in(&self.maps.sockets, lanes.slots(lane))? {
                if !found.contains(&(id, cookie)) && meant(cookie) {
                    empty(&self.maps.sockets, slot);
                }
            }
        }
        Ok(())
    }
}

/// Whether a service has a socket in the new ruleset that it has now: unless only its previous description meant it.
fn goes_on_having(plan: &Plan, new: &Ruleset, id: ServiceId, endpoint: &Endpoint) -> bool {
    let Some(service) = new.services().get(id) else { return false };
    let means = |description: &Description| description.is_at(endpoint);
    !plan.services.iter().any(|change| match change {
        ServiceChange::Described { name, previous: Some(previous), new } => {
            *name == service.name && means(previous) && !new.as_ref().is_some_and(means)
        }
        _ => false,
    })
}
