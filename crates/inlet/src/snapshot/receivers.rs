//! Who serves: the sockets of a namespace, which service has which of them, and who receives a packet by a rule or,
//! where the rules leave it, by the kernel's ordinary lookup. All that is said of who receives is said by this: of the
//! ruleset in force ([`Receivers::of`]), and of one that could take its place ([`Receivers::after`]).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use inlet_core::{Description, OnMissing, Packet, Protocol, Rule, Ruleset, Service, Verdict};

use super::meant::Meaning;
use crate::error::Result;
use crate::kernel::Netns;
use crate::socket::{LaneReader, Listed, LiveSocket, SocketState, Sockets};
use crate::state::Maps;

/// The sockets of a namespace and those of its services.
#[derive(Debug)]
pub(crate) struct Receivers {
    pub(crate) sockets: Rc<Sockets>,
    /// By name: a ruleset that is not in force may number its services in another way.
    services: HashMap<String, Live>,
}

/// What a service has.
#[derive(Debug, Default)]
struct Live {
    sockets: Vec<LiveSocket>,
    /// What one of them receives, by protocol and family.
    serves: [[Serves; 2]; 2],
}

/// Where packets of a kind have to come in so that a service has a socket for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Serves {
    /// It has no socket of that kind.
    #[default]
    Nowhere,
    /// All of its sockets are bound to an interface, by index.
    Only(BTreeSet<u32>),
    /// Wherever they come in.
    Everywhere,
}

impl Receivers {
    /// Asks the kernel. `in_force` are the maps of the instance and its ruleset, when there is one.
    pub(crate) fn of(netns: &Netns, in_force: Option<(&Maps, &Ruleset)>) -> Result<Self> {
        let Some((maps, ruleset)) = in_force else {
            return Ok(Self { sockets: Rc::new(Sockets::of(netns)?), services: HashMap::new() });
        };
        let sockets = Rc::new(Sockets::of_instance(netns, maps)?);
        let mut receivers = Self { sockets, services: HashMap::new() };
        let lanes = LaneReader::of(maps, ruleset.services());
        for (id, service) in ruleset.services().iter() {
            let live = Live::of(lanes.live(id)?, &receivers.sockets);
            receivers.services.insert(service.name.to_string(), live);
        }
        Ok(receivers)
    }

    /// Who would serve once `new` has taken the place of `old`, which is in force: services keep what they have, but
    /// for the sockets that only their former description meant. When a description is another one, all services get
    /// what their descriptions mean and no other service has: only then a commit looks for sockets.
    pub(crate) fn after(&self, old: &Ruleset, new: &Ruleset) -> Self {
        let all = || new.services().iter().map(|(_, service)| service);
        let looks = all().any(|service| former(old, service) != service.description.as_ref());
        let meanings = all().map(|service| service.description.as_ref().filter(|_| looks).map(Meaning::of));
        let meanings: Vec<Option<Meaning<'_>>> = meanings.collect();
        let mut kept: Vec<Vec<LiveSocket>> =
            all().zip(&meanings).map(|(service, meaning)| self.keeps(old, service, meaning.as_ref())).collect();
        let mut taken: HashSet<u64> = kept.iter().flatten().map(|socket| socket.cookie).collect();
        for (sockets, meaning) in kept.iter_mut().zip(&meanings) {
            let Some(meaning) = meaning else { continue };
            let found = meaning.sockets(&self.sockets);
            sockets.extend(found.iter().filter(|listed| taken.insert(listed.cookie)).map(Listed::live));
        }
        let services = all().zip(kept);
        let services =
            services.map(|(service, sockets)| (service.name.to_string(), Live::of(sockets, &self.sockets))).collect();
        Self { sockets: self.sockets.clone(), services }
    }

    /// The sockets of a service in force that it does not lose by another description.
    fn keeps(&self, old: &Ruleset, service: &Service, meaning: Option<&Meaning<'_>>) -> Vec<LiveSocket> {
        let former =
            old.services().id(service.name.as_str()).and_then(|id| old.services().get(id)?.description.as_ref());
        let changed: Option<&Description> = former.filter(|former| Some(*former) != service.description.as_ref());
        let loses = |listed: &Listed| {
            let was_meant = changed.is_some_and(|former| former.is_at(&self.sockets.endpoint(&listed.bound)));
            was_meant && !meaning.is_some_and(|meaning| meaning.means(&self.sockets, listed))
        };
        let mut sockets = self.live(service).map_or_else(Vec::new, |live| live.sockets.clone());
        sockets.retain(|socket| !self.sockets.get(socket.cookie).is_some_and(|listed| loses(&listed)));
        sockets
    }

    fn live(&self, service: &Service) -> Option<&Live> {
        self.services.get(service.name.as_str())
    }

    /// The live sockets of a service, with what the kernel and /proc know of each.
    pub(crate) fn states(&self, service: &Service) -> Vec<SocketState> {
        let live = self.live(service).map_or(&[][..], |live| &live.sockets);
        live.iter().map(|socket| self.sockets.describe(socket)).collect()
    }

    /// The users whose sockets a service has, as far as the kernel lists them to us.
    pub(crate) fn users(&self, service: &Service) -> BTreeSet<u32> {
        let live = self.live(service).map_or(&[][..], |live| &live.sockets);
        live.iter().filter_map(|socket| Some(self.sockets.get(socket.cookie)?.uid)).collect()
    }

    /// How many live sockets a service has.
    pub(crate) fn count(&self, service: &Service) -> usize {
        self.live(service).map_or(0, |live| live.sockets.len())
    }

    /// The service of a ruleset that has a socket.
    pub(crate) fn owner<'r>(&self, ruleset: &'r Ruleset, cookie: u64) -> Option<&'r Service> {
        let has = |live: &Live| live.sockets.iter().any(|socket| socket.cookie == cookie);
        ruleset.services().iter().map(|(_, service)| service).find(|service| self.live(service).is_some_and(has))
    }

    /// Whether a service has a socket that receives such packets, on one interface or on all.
    pub(crate) fn has(&self, service: &Service, protocol: Protocol, v6: bool) -> bool {
        *self.serves(service, protocol, v6) != Serves::Nowhere
    }

    /// Where such packets have to come in so that a service has a socket for them.
    pub(crate) fn serves(&self, service: &Service, protocol: Protocol, v6: bool) -> &Serves {
        let live = self.live(service);
        live.map_or(&Serves::Nowhere, |live| &live.serves[usize::from(protocol == Protocol::Udp)][usize::from(v6)])
    }

    /// Whether a rule takes packets from the kernel's ordinary lookup as things are.
    pub(crate) fn takes(&self, ruleset: &Ruleset, rule: &Rule) -> bool {
        match rule.verdict {
            Verdict::Pass => false,
            Verdict::Refuse => true,
            Verdict::Service(id) => ruleset.services().get(id).is_none_or(|service| {
                let refuses = service.on_missing == OnMissing::Refuse;
                refuses || self.has(service, rule.matching.protocol, rule.matching.local.is_v6())
            }),
        }
    }

    /// The sockets of a service among which one is chosen for a packet, which came in on the interface that it says.
    fn of_service(&self, service: &Service, packet: &Packet) -> Vec<Listed> {
        let live = self.live(service).map_or(&[][..], |live| &live.sockets);
        let of_family = |socket: &&LiveSocket| if packet.local.is_ipv6() { socket.v6 } else { socket.v4 };
        let mut found: Vec<Listed> =
            live.iter().filter(of_family).filter_map(|socket| self.sockets.get(socket.cookie)).collect();
        found.retain(|it| it.bound.protocol == packet.protocol && it.receiving && it.receives_on(packet.ifindex));
        found
    }

    /// The sockets of which one receives the packet when this rule decides, or none does.
    pub(crate) fn of_packet(&self, ruleset: &Ruleset, rule: Option<Rule>, packet: &Packet) -> Vec<Listed> {
        let service = match rule.map(|rule| rule.verdict) {
            None | Some(Verdict::Pass) => return self.sockets.ordinary(packet),
            Some(Verdict::Refuse) => return Vec::new(),
            Some(Verdict::Service(id)) => ruleset.services().get(id),
        };
        let Some(service) = service else { return Vec::new() };
        let found = self.of_service(service, packet);
        match found.is_empty() && service.on_missing == OnMissing::Pass {
            true => self.sockets.ordinary(packet),
            false => found,
        }
    }
}

/// The description that a service of this name has in another ruleset.
fn former<'a>(old: &'a Ruleset, service: &Service) -> Option<&'a Description> {
    let services = old.services();
    services.id(service.name.as_str()).and_then(|id| services.get(id)?.description.as_ref())
}

impl Live {
    fn of(sockets: Vec<LiveSocket>, listed: &Sockets) -> Self {
        let mut live = Self { sockets, ..Self::default() };
        for socket in &live.sockets {
            if let Some(listed) = listed.get(socket.cookie).filter(|listed| listed.receiving) {
                let serves = &mut live.serves[usize::from(listed.bound.protocol == Protocol::Udp)];
                let families = serves.iter_mut().zip([socket.v4, socket.v6]).filter(|(_, is_for_it)| *is_for_it);
                families.for_each(|(serves, _)| serves.add(listed.bound.device));
            }
        }
        live
    }
}

impl Serves {
    /// One socket more, bound to this interface, or to none.
    fn add(&mut self, device: u32) {
        match self {
            _ if device == 0 => *self = Self::Everywhere,
            Self::Nowhere => *self = Self::Only(BTreeSet::from([device])),
            Self::Only(devices) => _ = devices.insert(device),
            Self::Everywhere => {}
        }
    }
}
