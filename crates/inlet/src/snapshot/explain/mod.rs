//! Who receives a packet, and why, step by step: from the routes, the rules, the sockets and the live program.

mod answer;
mod arrived;
mod program;
mod stays;

use inlet_core::{Contender, OnMissing, Packet, PortRange, Rule, Ruleset, ServiceId, Standing, Verdict, contest};

use answer::Able;
pub use answer::AnswerFrom;
use arrived::Arrived;
use program::Oracle;
pub use program::{Agreement, Answer, LiveProgram, Reply, Unasked};
pub use stays::{FlowStays, StaysOn};

use crate::error::Result;
use crate::kernel::Links;
use crate::route::{Model, RouteTable, Routing};
use crate::snapshot::{Receivers, Snapshot};
use crate::socket::SocketState;
use crate::state::{Hook, Location, OwnPorts, Steering};

/// The decision about a packet.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The packet asked about.
    pub packet: Packet,
    /// What the routes do with it: only packets to local addresses get to the rules.
    pub routing: Routing,
    /// All rules for its address and port, in match order, with how each stands.
    pub contenders: Vec<Contender>,
    /// The rule that decides; `None` when none matches and the kernel's ordinary lookup goes on.
    pub rule: Option<Rule>,
    /// The live sockets of the service among which the choice is, when the rule names one.
    pub sockets: Vec<SocketState>,
    /// Those that are bound to another interface than the packet comes in on, and get nothing of it.
    pub elsewhere: Vec<SocketState>,
    /// The UDP socket that is connected to the source of the packet: it receives it, and no rule is asked.
    pub connected: Option<SocketState>,
    /// The VRF on which the packet comes in for rules and sockets, when its interface belongs to one.
    pub vrf: Option<String>,
    /// The socket that receives the packet, when it is known.
    pub socket: Option<SocketState>,
    /// What happens in the end.
    pub outcome: Outcome,
    /// Whether flows stay on their sockets, and where this one does; `None` where the hash of each datagram decides.
    pub stays: Option<FlowStays>,
    /// Whether a datagram that answers what an unconnected socket here asked passes: rules do not tell if this one does.
    pub passes_if_answer: bool,
    /// Where the answer to a datagram leaves from; `None` for TCP, when it is not known which socket gives it, and when the
    /// routes let none leave.
    pub answer: Option<AnswerFrom>,
    /// The sockets among which the kernel's ordinary lookup would choose; none: it would refuse. That is what happens
    /// without Inlet, and with a verdict of `pass`.
    pub ordinary: Vec<SocketState>,
    /// What the live program said.
    pub live: Agreement,
    /// The programs on the hook; `None` for a ruleset that is not in force. Those of others may decide otherwise: a
    /// socket that one of them chose before stands, and one that a later one chooses takes the place of Inlet's. Without
    /// any socket the packet is refused when one of all programs refuses it.
    pub hook: Option<Hook>,
}

/// What happens to a packet in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A socket of the service receives it, or one that is connected to its source.
    Socket,
    /// The kernel's ordinary lookup decides.
    Pass,
    /// TCP reset, ICMP port unreachable.
    Refuse,
}

/// Explains packets under one ruleset. What the kernel lists is listed once, so many packets cost little more than one.
pub struct Explainer<'a> {
    location: &'a Location,
    ruleset: &'a Ruleset,
    /// The instance, for its sockets; there may be none for a ruleset that is not in force.
    snapshot: Option<&'a Snapshot>,
    receivers: Receivers,
    routes: RouteTable,
    model: Model,
    links: Links,
    oracle: Oracle,
    hook: Option<Hook>,
    /// What the program in force does about answers. Of a ruleset that is not in force the host is taken to be able.
    able: Able,
    /// The ports of own binds, when the ruleset closes them to all but rules.
    own_ports: Option<PortRange>,
}

impl Snapshot {
    /// Says which rule decides about a packet and which socket receives it. Counters stay as they are: the program
    /// in force counts only what comes in on an interface, and a question does not.
    ///
    /// # Errors
    /// [`crate::Error::Disagree`] when the program answers other than the rules, and errors of the kernel.
    pub fn explain(&self, packet: &Packet) -> Result<Explanation> {
        self.explainer()?.explain(packet)
    }

    /// Explains packets under the ruleset in force.
    ///
    /// # Errors
    /// Those of listing sockets, of the routes, and of opening the program.
    pub fn explainer(&self) -> Result<Explainer<'_>> {
        let hook = self.hook()?;
        let oracle = match hook.steering {
            Steering::No => Oracle::None(Unasked::NotSteering),
            _ => self.oracle()?,
        };
        let explainer = Explainer::new(self.location(), self.ruleset(), Some(self), self.receivers()?, oracle)?;
        Ok(Explainer { hook: Some(hook), able: Able::of(self)?, ..explainer })
    }
}

impl<'a> Explainer<'a> {
    /// Explains packets under a ruleset that is not in force, with the sockets that its services would have: those that
    /// services of the same name have in the instance, if there is one, and those that their descriptions mean. The live
    /// program is not asked.
    ///
    /// # Errors
    /// Those of listing sockets, of looking up what descriptions name, and of the routes.
    pub fn under(ruleset: &'a Ruleset, location: &'a Location, snapshot: Option<&'a Snapshot>) -> Result<Self> {
        let nothing = Ruleset::empty();
        let in_force = snapshot.map_or(&nothing, Snapshot::ruleset);
        let receivers = receivers(location, snapshot)?.after(in_force, ruleset);
        Self::new(location, ruleset, snapshot, receivers, Oracle::None(Unasked::NotInForce))
    }

    fn new(
        location: &'a Location,
        ruleset: &'a Ruleset,
        snapshot: Option<&'a Snapshot>,
        receivers: Receivers,
        oracle: Oracle,
    ) -> Result<Self> {
        let (routes, links) = (RouteTable::of(location.netns())?, Links::of(location.netns())?);
        let model = routes.model()?;
        let own_ports =
            snapshot.and_then(|it| it.maps.own_ports.as_ref()).filter(|_| ruleset.services().has_own_binds());
        let (hook, own_ports) = (None, own_ports.map(OwnPorts::range));
        Ok(Self {
            location,
            ruleset,
            snapshot,
            receivers,
            routes,
            model,
            links,
            oracle,
            hook,
            able: Able::whole(),
            own_ports,
        })
    }

    /// The whole story of a packet.
    ///
    /// # Errors
    /// [`crate::Error::Disagree`] when the live program answers other than the rules, and errors of the kernel.
    pub fn explain(&self, packet: &Packet) -> Result<Explanation> {
        let Arrived { packet: seen, vrf } = self.arrived(packet);
        let contenders = contest(self.ruleset, &seen);
        let rule = contenders.iter().find(|it| it.standing == Standing::Wins).map(|it| it.rule);
        let all = match rule.map(|rule| rule.verdict) {
            Some(Verdict::Service(id)) => self.of_kind(&self.receivers, &seen, id),
            _ => Vec::new(),
        };
        let (sockets, elsewhere): (Vec<SocketState>, Vec<SocketState>) =
            all.into_iter().partition(|socket| socket.receives_on(seen.ifindex));
        let by_mark = contenders.iter().any(|contender| contender.rule.matching.mark.is_some());
        let reply = if by_mark { self.oracle.without_mark() } else { self.oracle.ask(packet)? };
        let service = match rule.map(|rule| rule.verdict) {
            Some(Verdict::Service(id)) => self.ruleset.services().get(id).map(|service| (id, service)),
            _ => None,
        };
        let stays = self.stays(&seen, service)?;
        let kept = stays.as_ref().and_then(|stays| stays.on.as_ref()).map(|on| &on.socket);
        // One that is being drained receives nothing else.
        let leaving = kept.filter(|kept| sockets.iter().all(|socket| socket.cookie != kept.cookie));
        let (live, chosen) = match reply {
            Reply::Answer(answer) => {
                if leaving.is_none_or(|kept| answer != Answer::Socket(kept.cookie)) {
                    self.compare(packet, rule, &sockets, answer)?;
                }
                (Agreement::Agrees, if let Answer::Socket(cookie) = answer { Some(cookie) } else { None })
            }
            Reply::NotAsked(reason) => (Agreement::NotAsked(reason), None),
        };
        let socket = match live {
            Agreement::Agrees => {
                chosen.and_then(|cookie| sockets.iter().chain(leaving).find(|socket| socket.cookie == cookie))
            }
            // Not asked: of a single socket it is known even so.
            Agreement::NotAsked(Unasked::NotSteering) => None,
            Agreement::NotAsked(_) if kept.is_some() => kept,
            Agreement::NotAsked(_) if sockets.len() == 1 => sockets.first().filter(|socket| socket.receiving),
            Agreement::NotAsked(_) => None,
        };
        let listed = &self.receivers.sockets;
        let ordinary = match vrf {
            Some(_) => listed.ordinary_in_vrf(&seen, packet.ifindex, self.unbound_accept_vrf(packet.protocol)),
            None => listed.ordinary(packet),
        };
        let connected = self.connected(&seen);
        let outcome = match self.is_steering() {
            _ if connected.is_some() => Outcome::Socket,
            true if leaving.is_some() => Outcome::Socket,
            true => self.outcome(packet, rule, &sockets),
            false => Outcome::Pass,
        };
        let socket = connected.as_ref().or(socket);
        let (routing, answers) = (self.routes.judge(&self.model, packet)?, service.and_then(|(_, it)| it.answers));
        let answer = self.answer_from(packet, outcome, socket, answers, routing.mute.as_ref());
        Ok(Explanation {
            packet: *packet,
            elsewhere,
            vrf,
            routing,
            rule,
            socket: socket.cloned(),
            connected,
            outcome,
            stays,
            passes_if_answer: self.passes_if_answer(packet, rule),
            answer,
            ordinary: ordinary.iter().map(|it| listed.describe_listed(it)).collect(),
            contenders,
            sockets,
            live,
            hook: self.hook.clone(),
        })
    }

    /// Whether rules decide at all. Who may not know is told what they would do.
    fn is_steering(&self) -> bool {
        self.hook.as_ref().is_none_or(|hook| hook.steering != Steering::No)
    }

    fn outcome(&self, packet: &Packet, rule: Option<Rule>, sockets: &[SocketState]) -> Outcome {
        match rule.map(|rule| rule.verdict) {
            None | Some(Verdict::Pass) if self.ordinary(packet) == Answer::Refuse => Outcome::Refuse,
            None | Some(Verdict::Pass) => Outcome::Pass,
            Some(Verdict::Refuse) => Outcome::Refuse,
            Some(Verdict::Service(_)) if sockets.iter().any(|socket| socket.receiving) => Outcome::Socket,
            Some(Verdict::Service(id)) => match self.on_missing(id) {
                OnMissing::Pass if self.ordinary(packet) == Answer::Pass => Outcome::Pass,
                OnMissing::Pass => Outcome::Refuse,
                OnMissing::Refuse => Outcome::Refuse,
            },
        }
    }

    fn on_missing(&self, id: ServiceId) -> OnMissing {
        self.ruleset.services().get(id).map_or(OnMissing::Refuse, |service| service.on_missing)
    }

    /// The live sockets of a service for a packet.
    fn serving(&self, receivers: &Receivers, packet: &Packet, id: ServiceId) -> Vec<SocketState> {
        let mut sockets = self.of_kind(receivers, packet, id);
        sockets.retain(|socket| socket.receives_on(packet.ifindex));
        sockets
    }

    /// The live sockets of a service for the family and the protocol of a packet, whatever interface they are bound to.
    fn of_kind(&self, receivers: &Receivers, packet: &Packet, id: ServiceId) -> Vec<SocketState> {
        let mut sockets = self.ruleset.services().get(id).map_or_else(Vec::new, |service| receivers.states(service));
        sockets.retain(|socket| {
            let family = if packet.local.is_ipv4() { socket.v4 } else { socket.v6 };
            family && socket.local.as_ref().is_none_or(|local| local.protocol() == packet.protocol)
        });
        sockets
    }
}

/// The sockets of a namespace, and those of the services of the instance, if there is one.
fn receivers(location: &Location, snapshot: Option<&Snapshot>) -> Result<Receivers> {
    snapshot.map_or_else(|| Receivers::of(location.netns(), None), Snapshot::receivers)
}
