//! What a ruleset would do that its author may not have meant.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use inlet_core::{Moved, OnMissing, Protocol, ServiceName, Verdict};

use crate::error::Result;
use crate::file::not_there;
use crate::proposal::Proposal;
use crate::receivers::Receivers;
use crate::snapshot::{Snapshot, SocketState};

/// Something to look at before a ruleset is put in force.
#[derive(Clone, Debug)]
pub enum Warning {
    /// Packets would go to a service that has no live socket for them, nor a description that finds one.
    NoSocket {
        /// The service.
        service: ServiceName,
        /// What would happen to them.
        on_missing: OnMissing,
        /// Some of these packets.
        moved: Moved,
    },
    /// The description of a service names what is not there, which [`crate::Instance::apply`] refuses.
    NotThere {
        /// The service.
        service: ServiceName,
        /// What is not there, and the next step.
        reason: String,
    },
    /// A listener receives packets now and would not any more.
    Loses {
        /// The listener.
        socket: SocketState,
        /// Some of these packets.
        moved: Moved,
    },
}

impl Snapshot {
    /// What the proposal would do that its author may not have meant. Each service and each listener is told of once.
    ///
    /// # Errors
    /// Those of listing sockets and routes.
    pub fn warnings(&self, proposal: &Proposal) -> Result<Vec<Warning>> {
        let receivers = Receivers::of(self.location().netns(), &self.maps, &proposal.before)?;
        let (mut services, mut told) = (BTreeSet::new(), BTreeSet::new());
        let missing = not_there(&proposal.before, &proposal.after);
        let missing = missing.map(|(service, error)| (service.clone(), error.to_string()));
        let mut warnings: Vec<_> = missing.map(|(service, reason)| Warning::NotThere { service, reason }).collect();
        proposal.traffic(&mut |moved| {
            warnings.extend(no_socket(&receivers, proposal, &moved, &mut services));
            let ordinary = !matches!(moved.old.map(|rule| rule.verdict), Some(Verdict::Service(_) | Verdict::Refuse));
            let at = receivers.at(moved.protocol, moved.ports.first(), moved.ports.last());
            for listed in at.filter(|_| ordinary) {
                let lost = || receivers.lost(listed, &moved, &proposal.before, &proposal.after);
                if !told.contains(&listed.cookie) && lost().is_some() {
                    told.insert(listed.cookie);
                    let socket = receivers.sockets.describe_listed(listed);
                    warnings.push(Warning::Loses { socket, moved: moved.clone() });
                }
            }
            ControlFlow::Continue(())
        });
        Ok(warnings)
    }
}

/// The services told of, by protocol and family.
type Told = BTreeSet<(ServiceName, Protocol, bool)>;

fn no_socket(receivers: &Receivers, proposal: &Proposal, moved: &Moved, told: &mut Told) -> Option<Warning> {
    let Some(Verdict::Service(id)) = moved.new.map(|rule| rule.verdict) else { return None };
    let service = proposal.after.services().get(id)?;
    let key = (service.name.clone(), moved.protocol, moved.local.first().is_ipv6());
    if !told.insert(key) || receivers.serves(service, moved.protocol, moved.local.first().is_ipv6()) {
        return None;
    }
    Some(Warning::NoSocket { service: service.name.clone(), on_missing: service.on_missing, moved: moved.clone() })
}
