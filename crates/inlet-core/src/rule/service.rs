//! Services: named receivers of packets, with numbers for the kernel program.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Description, Listen, Protocol, Remedy, ServiceName};

/// How many numbers there are. Number 0 means no service, so a ruleset has at most one service fewer.
pub const MAX_SERVICES: u16 = 4096;

/// The number of a service in the kernel's maps: 1 to [`MAX_SERVICES`] - 1. It stays the same from commit to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(u16);

/// What happens to a packet for a service that has no live socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnMissing {
    /// TCP reset or ICMP port unreachable: no other socket receives what was meant for the service.
    #[default]
    Refuse,
    /// The kernel's ordinary lookup decides.
    Pass,
}

/// Where the answers of a service over UDP leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answers {
    /// From the address and port that the client asked, whatever the socket is bound to.
    Asked,
    /// From where the kernel sends them: the address and port that the socket is bound to.
    Bound,
}

/// A named receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique in the ruleset.
    pub name: ServiceName,
    /// What happens to its packets while it has no live socket.
    pub on_missing: OnMissing,
    /// Where its answers over UDP leave from. `None`: as asked where the host can do that, else as bound.
    pub answers: Option<Answers>,
    /// Which sockets belong to it. `None`: they are registered by hand.
    pub description: Option<Description>,
}

/// The services of a ruleset, by number and by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    by_id: BTreeMap<ServiceId, Service>,
    by_name: BTreeMap<ServiceName, ServiceId>,
}

/// Why a change to the services is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// All numbers are taken.
    #[error("service {0}: {max} services are the most that fit", max = MAX_SERVICES - 1)]
    TooMany(ServiceName),
    /// `on_missing` is neither `refuse` nor `pass`.
    #[error("unknown on-missing policy {0:?}")]
    OnMissing(String),
    /// `answers` is neither `asked` nor `bound`.
    #[error("unknown source of answers {0:?}")]
    Answers(String),
}

impl Remedy for ServiceError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::TooMany(_) => "remove one with: inlet service rm SERVICE".into(),
            Self::OnMissing(_) => "write refuse or pass".into(),
            Self::Answers(_) => "write asked or bound".into(),
        })
    }
}

impl Service {
    /// A service with the default policy and without a description.
    pub(crate) fn new(name: ServiceName) -> Self {
        Self { name, on_missing: OnMissing::default(), answers: None, description: None }
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

impl OnMissing {
    /// `refuse` or `pass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Pass => "pass",
        }
    }
}

impl FromStr for OnMissing {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "pass" => Ok(Self::Pass),
            _ => Err(ServiceError::OnMissing(text.to_owned())),
        }
    }
}

impl fmt::Display for OnMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Answers {
    /// `asked` or `bound`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Bound => "bound",
        }
    }
}

impl FromStr for Answers {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        match text {
            "asked" => Ok(Self::Asked),
            "bound" => Ok(Self::Bound),
            _ => Err(ServiceError::Answers(text.to_owned())),
        }
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The number of the service of this name. A new service gets the lowest number that is free here and in `busy`.
    pub(crate) fn ensure(&mut self, name: &ServiceName, busy: &Services) -> Result<ServiceId, ServiceError> {
        if let Some(id) = self.id(name.as_str()) {
            return Ok(id);
        }
        let free = |id: &ServiceId| !self.by_id.contains_key(id) && !busy.by_id.contains_key(id);
        let id = (1..MAX_SERVICES).map(ServiceId).find(free).ok_or_else(|| ServiceError::TooMany(name.clone()))?;
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

    pub(crate) fn set_answers(&mut self, id: ServiceId, answers: Option<Answers>) {
        if let Some(service) = self.by_id.get_mut(&id) {
            service.answers = answers;
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
        let all_ports = at_port.get(&(Protocol::Tcp, None)).cloned().unwrap_or_default();
        let meet = |a: usize, b: usize| {
            let ((first, theirs), (second, ours)) = (described[a.min(b)], described[a.max(b)]);
            theirs.overlap(ours).filter(|_| a != b).map(|listen| (first, second, listen))
        };
        at_port
            .values()
            .find_map(|here| here.iter().find_map(|a| here.iter().chain(&all_ports).find_map(|b| meet(*a, *b))))
    }
}
