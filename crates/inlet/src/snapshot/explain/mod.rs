//! Who receives a packet, and why, step by step: from the routes, the rules, the sockets and the live program.

mod answer;
mod program;

use inlet_core::{Contender, OnMissing, Packet, Rule, Ruleset, ServiceId, Standing, Verdict, contest};

pub use answer::AnswerFrom;
use program::Oracle;
pub use program::{Agreement, Answer, LiveProgram, Reply, Unasked};

use crate::error::{Error, Result};
use crate::route::{Reach, RouteTable};
use crate::snapshot::{Receivers, Snapshot};
use crate::socket::SocketState;
use crate::state::Location;

/// The decision about a packet.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The packet asked about.
    pub packet: Packet,
    /// What the routes say of its destination: only packets to local addresses get to the rules.
    pub reach: Reach,
    /// The policy routing rules of the namespace beside the usual ones, as ip-rule(8) writes them: with them what the
    /// routes say depends on more than the destination.
    pub policies: Vec<String>,
    /// Whether `reach` is for the packet's source and interface, rather than for its destination alone.
    pub reach_is_exact: bool,
    /// All rules for its address and port, in match order, with how each stands.
    pub contenders: Vec<Contender>,
    /// The rule that decides; `None` when none matches and the kernel's ordinary lookup goes on.
    pub rule: Option<Rule>,
    /// The live sockets of the service, when the rule names one.
    pub sockets: Vec<SocketState>,
    /// The socket that receives the packet, when it is known.
    pub socket: Option<SocketState>,
    /// What happens in the end.
    pub outcome: Outcome,
    /// Where the answer to a datagram leaves from; `None` for TCP, and when it is not known which socket gives it.
    pub answer: Option<AnswerFrom>,
    /// The sockets among which the kernel's ordinary lookup would choose; none: it would refuse. That is what happens
    /// without Inlet, and with a verdict of `pass`.
    pub ordinary: Vec<SocketState>,
    /// What the live program said.
    pub live: Agreement,
}

/// What happens to a packet in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A socket of the service receives it.
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
    oracle: Oracle,
}

impl Snapshot {
    /// Says which rule decides about a packet and which socket receives it. Counters stay as they are: the program
    /// in force counts only what comes in on an interface, and a question does not.
    ///
    /// # Errors
    /// [`Error::Disagree`] when the program answers other than the rules, and errors of the kernel.
    pub fn explain(&self, packet: &Packet) -> Result<Explanation> {
        self.explainer()?.explain(packet)
    }

    /// Explains packets under the ruleset in force.
    ///
    /// # Errors
    /// Those of listing sockets, of the routes, and of opening the program.
    pub fn explainer(&self) -> Result<Explainer<'_>> {
        Explainer::new(self.location(), self.ruleset(), Some(self), self.oracle()?)
    }
}

impl<'a> Explainer<'a> {
    /// Explains packets under a ruleset that is not in force, with the sockets that services of the same name have in
    /// the instance, if there is one. The live program is not asked.
    ///
    /// # Errors
    /// Those of listing sockets and of the routes.
    pub fn under(ruleset: &'a Ruleset, location: &'a Location, snapshot: Option<&'a Snapshot>) -> Result<Self> {
        Self::new(location, ruleset, snapshot, Oracle::None(Unasked::NotInForce))
    }

    fn new(
        location: &'a Location,
        ruleset: &'a Ruleset,
        snapshot: Option<&'a Snapshot>,
        oracle: Oracle,
    ) -> Result<Self> {
        let (receivers, routes) = (receivers(location, snapshot)?, RouteTable::of(location.netns())?);
        Ok(Self { location, ruleset, snapshot, receivers, routes, oracle })
    }

    /// The whole story of a packet.
    ///
    /// # Errors
    /// [`Error::Disagree`] when the live program answers other than the rules, and errors of the kernel.
    pub fn explain(&self, packet: &Packet) -> Result<Explanation> {
        let contenders = contest(self.ruleset, packet);
        let rule = contenders.iter().find(|it| it.standing == Standing::Wins).map(|it| it.rule);
        let sockets = match rule.map(|rule| rule.verdict) {
            Some(Verdict::Service(id)) => self.serving(&self.receivers, packet, id),
            _ => Vec::new(),
        };
        let (live, chosen) = match self.oracle.ask(packet)? {
            Reply::Answer(answer) => {
                self.compare(packet, rule, &sockets, answer)?;
                (Agreement::Agrees, if let Answer::Socket(cookie) = answer { Some(cookie) } else { None })
            }
            Reply::NotAsked(reason) => (Agreement::NotAsked(reason), None),
        };
        let socket = match live {
            Agreement::Agrees => chosen.and_then(|cookie| sockets.iter().find(|socket| socket.cookie == cookie)),
            // Not asked: of a single socket it is known even so.
            Agreement::NotAsked(_) if sockets.len() == 1 => sockets.first().filter(|socket| socket.receiving),
            Agreement::NotAsked(_) => None,
        };
        let policies = self.routes.policies(packet.local.is_ipv6())?;
        // The kernel answers for a source and an interface only when it has both.
        let reach_is_exact = !policies.is_empty() && packet.ifindex != 0 && !packet.remote.ip().is_unspecified();
        let (local, remote) = (packet.local.ip(), packet.remote.ip());
        let reach = match reach_is_exact {
            true => self.routes.reach_from(local, remote, packet.ifindex)?,
            false => self.routes.reach(local)?,
        };
        let listed = &self.receivers.sockets;
        let outcome = self.outcome(rule, &sockets);
        let service = match rule.map(|rule| rule.verdict) {
            Some(Verdict::Service(id)) => self.ruleset.services().get(id),
            _ => None,
        };
        let answer = self.answer_from(packet, outcome, socket, service.and_then(|service| service.answers));
        Ok(Explanation {
            packet: *packet,
            reach,
            policies,
            reach_is_exact,
            rule,
            socket: socket.cloned(),
            outcome,
            answer,
            ordinary: listed.ordinary(packet).iter().map(|it| listed.describe_listed(it)).collect(),
            contenders,
            sockets,
            live,
        })
    }

    fn outcome(&self, rule: Option<Rule>, sockets: &[SocketState]) -> Outcome {
        match rule.map(|rule| rule.verdict) {
            None | Some(Verdict::Pass) => Outcome::Pass,
            Some(Verdict::Refuse) => Outcome::Refuse,
            Some(Verdict::Service(_)) if sockets.iter().any(|socket| socket.receiving) => Outcome::Socket,
            Some(Verdict::Service(id)) => match self.on_missing(id) {
                OnMissing::Pass => Outcome::Pass,
                OnMissing::Refuse => Outcome::Refuse,
            },
        }
    }

    fn on_missing(&self, id: ServiceId) -> OnMissing {
        self.ruleset.services().get(id).map_or(OnMissing::Refuse, |service| service.on_missing)
    }

    /// The live sockets of a service for the family and the protocol of a packet.
    fn serving(&self, receivers: &Receivers, packet: &Packet, id: ServiceId) -> Vec<SocketState> {
        let mut sockets = self.ruleset.services().get(id).map_or_else(Vec::new, |service| receivers.states(service));
        sockets.retain(|socket| {
            let family = if packet.local.is_ipv4() { socket.v4 } else { socket.v6 };
            family && socket.local.as_ref().is_none_or(|local| local.protocol() == packet.protocol)
        });
        sockets
    }

    /// Fails when the answer is not one that the rules and the live sockets allow.
    fn compare(&self, packet: &Packet, rule: Option<Rule>, sockets: &[SocketState], answer: Answer) -> Result<()> {
        let agrees = match (rule.map(|rule| rule.verdict), answer) {
            (None | Some(Verdict::Pass), answer) => answer == Answer::Pass,
            (Some(Verdict::Refuse), answer) => answer == Answer::Refuse,
            (Some(Verdict::Service(_)), Answer::Socket(cookie)) if sockets.iter().any(|it| it.cookie == cookie) => true,
            (Some(Verdict::Service(id)), answer) => self.agrees_now(packet, id, answer)?,
        };
        if agrees {
            return Ok(());
        }
        let rules = rule.map_or_else(|| "no rule matches".to_owned(), |rule| self.ruleset.named(&rule).to_string());
        let packet = format!("{} {} from {}", packet.protocol, packet.local, packet.remote);
        Err(Error::Disagree { packet, rules, program: answer.to_string() })
    }

    /// Whether the answer fits the sockets that are there now: one may have come or gone since they were listed.
    fn agrees_now(&self, packet: &Packet, id: ServiceId, answer: Answer) -> Result<bool> {
        let sockets = self.serving(&receivers(self.location, self.snapshot)?, packet, id);
        let missing = if self.on_missing(id) == OnMissing::Refuse { Answer::Refuse } else { Answer::Pass };
        Ok(match answer {
            Answer::Socket(cookie) => sockets.iter().any(|socket| socket.cookie == cookie),
            answer => answer == missing && !sockets.iter().any(|socket| socket.receiving),
        })
    }
}

/// The sockets of a namespace, and those of the services of the instance, if there is one.
fn receivers(location: &Location, snapshot: Option<&Snapshot>) -> Result<Receivers> {
    snapshot.map_or_else(|| Receivers::of(location.netns(), None), Snapshot::receivers)
}
