//! What every socket of a namespace receives once the rules are in force, and what every service.

use std::collections::{HashMap, HashSet};

use inlet_core::{Bound, Claim, OnMissing, Protocol, Rule, Ruleset, ServiceId, ServiceName, Verdict, given, kept};

use super::Snapshot;
use crate::error::Result;
use crate::socket::{Listed, SocketState, Sockets};
use crate::state::Location;

/// A TCP listener or an unconnected UDP socket of a namespace.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The socket.
    pub socket: SocketState,
    /// What it is bound to.
    pub bound: Bound,
    /// Whether it has `IP_TRANSPARENT`; `None` on kernels that do not say.
    pub transparent: Option<bool>,
    /// What it keeps of that. Empty: it receives nothing by its own address any more.
    pub kept: Vec<Claim>,
    /// The service that it is in.
    pub service: Option<ServiceName>,
}

/// What rules give to a service.
#[derive(Clone, Debug)]
pub struct ServiceTraffic {
    /// Its name.
    pub name: ServiceName,
    /// How many live sockets it has.
    pub sockets: usize,
    /// What it receives, when it has a live socket for it.
    pub given: Vec<Claim>,
}

/// Who receives what in a namespace.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// All listeners and unconnected UDP sockets, in order of protocol and address.
    pub listeners: Vec<Listener>,
    /// All services, by name.
    pub services: Vec<ServiceTraffic>,
}

impl Listeners {
    /// Asks the kernel for the sockets of a namespace, and the rules for what becomes of them. Without an instance there
    /// are no rules.
    ///
    /// # Errors
    /// Those of listing sockets and of reading the maps.
    pub fn of(location: &Location, snapshot: Option<&Snapshot>) -> Result<Self> {
        let listed = Sockets::of(location.netns())?;
        let Some(snapshot) = snapshot else {
            return Ok(Self {
                listeners: listeners(&Ruleset::empty(), &listed, &Members::default()),
                services: Vec::new(),
            });
        };
        let (ruleset, members) = (snapshot.ruleset(), Members::of(snapshot, snapshot.ruleset(), &listed)?);
        let traffic = |(id, service): (ServiceId, &inlet_core::Service)| ServiceTraffic {
            name: service.name.clone(),
            sockets: members.count(id),
            given: given(ruleset, id),
        };
        Ok(Self {
            listeners: listeners(ruleset, &listed, &members),
            services: ruleset.services().iter().map(traffic).collect(),
        })
    }
}

/// The live sockets of services.
#[derive(Debug, Default)]
pub(crate) struct Members {
    sockets: HashMap<ServiceId, Vec<SocketState>>,
    /// The services with a socket that receives, by protocol and whether it is for IPv6.
    served: HashSet<(ServiceId, Protocol, bool)>,
}

impl Members {
    /// Those of the services of a ruleset, in force or not, by name.
    pub(crate) fn of(snapshot: &Snapshot, ruleset: &Ruleset, listed: &Sockets) -> Result<Self> {
        let mut members = Self::default();
        for (id, service) in ruleset.services().iter() {
            let Some(in_force) = snapshot.ruleset().services().id(service.name.as_str()) else { continue };
            let sockets = snapshot.sockets_of(in_force, listed)?;
            for socket in sockets.iter().filter(|socket| socket.receiving) {
                let Some(protocol) = socket.local.map(|local| local.protocol()) else { continue };
                let families = [(socket.v4, false), (socket.v6, true)].into_iter().filter(|(serves, _)| *serves);
                members.served.extend(families.map(|(_, v6)| (id, protocol, v6)));
            }
            members.sockets.insert(id, sockets);
        }
        Ok(members)
    }

    pub(crate) fn sockets(&self, id: ServiceId) -> &[SocketState] {
        self.sockets.get(&id).map_or(&[], Vec::as_slice)
    }

    fn count(&self, id: ServiceId) -> usize {
        self.sockets(id).len()
    }

    /// The service that has a socket.
    pub(crate) fn owner(&self, cookie: u64) -> Option<ServiceId> {
        let has = |sockets: &Vec<SocketState>| sockets.iter().any(|socket| socket.cookie == cookie);
        self.sockets.iter().find(|(_, sockets)| has(sockets)).map(|(id, _)| *id)
    }

    /// Whether a service has a socket for packets of this kind.
    pub(crate) fn serves(&self, id: ServiceId, protocol: Protocol, v6: bool) -> bool {
        self.served.contains(&(id, protocol, v6))
    }

    /// Whether a rule takes packets from the kernel's ordinary lookup as things are.
    pub(crate) fn takes(&self, ruleset: &Ruleset, rule: &Rule) -> bool {
        match rule.verdict {
            Verdict::Pass => false,
            Verdict::Refuse => true,
            Verdict::Service(id) => {
                let policy = ruleset.services().get(id).map_or(OnMissing::Refuse, |service| service.on_missing);
                policy == OnMissing::Refuse || self.serves(id, rule.matching.protocol, rule.matching.local.is_v6())
            }
        }
    }
}

/// All sockets that receive, with what they keep.
pub(crate) fn listeners(ruleset: &Ruleset, listed: &Sockets, members: &Members) -> Vec<Listener> {
    // A socket without a port waits for nothing.
    let all: Vec<Listed> = listed.receiving().into_iter().filter(|it| it.bound.addr.port() != 0).collect();
    let mut by_port: HashMap<(Protocol, u16), Vec<Bound>> = HashMap::new();
    for listed in &all {
        by_port.entry((listed.bound.protocol, listed.bound.addr.port())).or_default().push(listed.bound);
    }
    let listener = |it: &Listed| {
        let others = by_port.get(&(it.bound.protocol, it.bound.addr.port())).map_or(&[][..], Vec::as_slice);
        let service = members.owner(it.cookie).and_then(|id| ruleset.services().get(id));
        Listener {
            socket: listed.describe_listed(it),
            bound: it.bound,
            transparent: it.transparent,
            kept: kept(ruleset, &it.bound, others, |rule| members.takes(ruleset, rule)),
            service: service.map(|service| service.name.clone()),
        }
    };
    all.iter().map(listener).collect()
}
