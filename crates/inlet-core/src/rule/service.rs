//! Services: named receivers of packets, with numbers for the kernel program.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::{Answers, OnMissing, Spread, Sticky};
use super::service_error::{MAX_SERVICES, ServiceError};
use super::{Description, Grant, GrantError, InterfaceName, Listen, Protocol, ServiceName, check_grants};

/// The number of a service in the kernel's maps: 1 to [`MAX_SERVICES`] - 1. It stays the same from commit to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(u16);

/// A named receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique in the ruleset.
    pub name: ServiceName,
    /// What happens to its packets while it has no live socket.
    pub on_missing: OnMissing,
    /// Who chooses among its live sockets.
    pub spread: Spread,
    /// Where its answers over UDP leave from. `None`: as asked where the host can do that, else as bound.
    pub answers: Option<Answers>,
    /// For how long its flows over UDP stay on their sockets.
    pub sticky: Sticky,
    /// Which sockets belong to it. `None`: they are registered by hand.
    pub description: Option<Description>,
}

/// The services of a ruleset, by number and by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    by_id: BTreeMap<ServiceId, Service>,
    by_name: BTreeMap<ServiceName, ServiceId>,
    /// Who may use them, in the order of the file.
    grants: Vec<Grant>,
}

impl Service {
    /// Whether its programs have own binds.
    pub fn has_own_binds(&self) -> bool {
        self.description.as_ref().is_some_and(|description| description.own_binds)
    }

    /// A service with the default policy and without a description.
    pub(crate) fn new(name: ServiceName) -> Self {
        Self {
            name,
            on_missing: OnMissing::default(),
            spread: Spread::default(),
            answers: None,
            sticky: Sticky::default(),
            description: None,
        }
    }
}

impl ServiceId {
    /// The service of this number; `None` when the number is 0 or too high.
    pub fn new(number: u16) -> Option<Self> {
        (1..MAX_SERVICES).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Services {
    /// The service of this name.
    pub fn id(&self, name: &str) -> Option<ServiceId> {
        self.by_name.get(name).copied()
    }

    /// The service of this number.
    pub fn get(&self, id: ServiceId) -> Option<&Service> {
        self.by_id.get(&id)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceId, &Service)> {
        self.by_name.values().filter_map(|id| self.by_id.get(id).map(|service| (*id, service)))
    }

    /// The interfaces that descriptions name, as often as they name them.
    pub fn devices(&self) -> impl Iterator<Item = InterfaceName> {
        self.by_id.values().filter_map(|service| service.description.as_ref()).flat_map(Description::devices)
    }

    /// Whether programs of one have own binds.
    pub fn has_own_binds(&self) -> bool {
        self.by_id.values().any(Service::has_own_binds)
    }

    /// Who may use them without the rights to change all.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    pub(crate) fn set_grants(&mut self, grants: Vec<Grant>) {
        self.grants = grants;
    }

    /// Finds what keeps the grants from being together.
    pub(crate) fn check_grants(&self) -> Result<(), GrantError> {
        check_grants(&self.grants, |name| self.by_name.contains_key(name))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The number of the service of this name. A new service gets the lowest number that is free here and in `busy`, if
    /// possible one that is not reserved.
    pub(crate) fn ensure(
        &mut self,
        name: &ServiceName,
        busy: &Services,
        reserved: &BTreeSet<ServiceId>,
    ) -> Result<ServiceId, ServiceError> {
        if let Some(id) = self.id(name.as_str()) {
            return Ok(id);
        }
        let free = |id: &ServiceId| !self.by_id.contains_key(id) && !busy.by_id.contains_key(id);
        let all = || (1..MAX_SERVICES).map(ServiceId).filter(free);
        let id = all().find(|id| !reserved.contains(id)).or_else(|| all().next());
        let id = id.ok_or_else(|| ServiceError::TooMany(name.clone()))?;
        self.insert(id, Service::new(name.clone()));
        Ok(id)
    }

    pub(crate) fn insert(&mut self, id: ServiceId, service: Service) {
        self.by_name.insert(service.name.clone(), id);
        self.by_id.insert(id, service);
    }

    pub(crate) fn remove(&mut self, id: ServiceId) -> Option<Service> {
        let service = self.by_id.remove(&id)?;
        self.by_name.remove(&service.name);
        Some(service)
    }

    pub(crate) fn set_on_missing(&mut self, id: ServiceId, on_missing: OnMissing) {
        if let Some(service) = self.by_id.get_mut(&id) {
            service.on_missing = on_missing;
        }
    }

    pub(crate) fn set_spread(&mut self, id: ServiceId, spread: Spread) {
        if let Some(service) = self.by_id.get_mut(&id) {
            service.spread = spread;
        }
    }

    pub(crate) fn set_answers(&mut self, id: ServiceId, answers: Option<Answers>) {
        if let Some(service) = self.by_id.get_mut(&id) {
            service.answers = answers;
        }
    }

    pub(crate) fn set_sticky(&mut self, id: ServiceId, sticky: Sticky) {
        if let Some(service) = self.by_id.get_mut(&id) {
            service.sticky = sticky;
        }
    }

    pub(crate) fn set_description(&mut self, id: ServiceId, description: Option<Description>) {
        if let Some(service) = self.by_id.get_mut(&id) {
            service.description = description;
        }
    }

    /// The first two services, by name, that could claim the same socket, with its address.
    pub(crate) fn overlap(&self) -> Option<(&ServiceName, &ServiceName, Listen)> {
        let described: Vec<(&ServiceName, &Description)> =
            self.iter().filter_map(|(_, service)| Some((&service.name, service.description.as_ref()?))).collect();
        let mut at_port: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (number, (_, description)) in described.iter().enumerate() {
            for listen in description.listen() {
                at_port.entry((listen.protocol(), listen.port())).or_default().push(number);
            }
        }
        let all_ports = |protocol| at_port.get(&(protocol, None)).cloned().unwrap_or_default();
        let all_ports = Protocol::ALL.map(all_ports).concat();
        let meet = |a: usize, b: usize| {
            let ((first, theirs), (second, ours)) = (described[a.min(b)], described[a.max(b)]);
            theirs.overlap(ours).filter(|_| a != b).map(|listen| (first, second, listen))
        };
        at_port
            .values()
            .find_map(|here| here.iter().find_map(|a| here.iter().chain(&all_ports).find_map(|b| meet(*a, *b))))
    }
}
