//! Who receives a packet, and why: from the rules, and from the live program.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use inlet_core::{OnMissing, Packet, Rule, ServiceId, Verdict, lookup};

use crate::error::{Error, Result};
use crate::raw;
use crate::snapshot::{Snapshot, SocketState};

/// The decision about a packet.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The packet asked about.
    pub packet: Packet,
    /// The rule that decides; `None` when none matches and the kernel's ordinary lookup goes on.
    pub rule: Option<Rule>,
    /// The live sockets of the service, when the rule names one.
    pub sockets: Vec<SocketState>,
    /// The socket that receives the packet, when it is known.
    pub socket: Option<SocketState>,
    /// What the live program said.
    pub live: Live,
}

/// What the live program said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// It agrees with the rules.
    Agrees,
    /// It could not be asked.
    NotAsked(Unasked),
}

/// Why the live program could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// A test run takes no interface.
    Interface,
    /// The chosen socket is of a SO_REUSEPORT group, which a test run does not report.
    ReusePort,
    /// Running the program takes the right to write its pin.
    NotPermitted,
}

/// What the program does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel's ordinary lookup goes on.
    Pass,
    /// TCP reset, ICMP port unreachable.
    Refuse,
    /// The socket with this cookie receives it.
    Socket(u64),
}

/// The program in force, to be asked. It does not count questions: they come in on no interface.
#[derive(Debug)]
pub struct LiveProgram(OwnedFd);

impl LiveProgram {
    /// What the program does with the packet now.
    ///
    /// # Errors
    /// Those of the kernel. The inner error is the reason why it cannot be asked.
    pub fn run(&self, packet: &Packet) -> Result<std::result::Result<Answer, Unasked>> {
        if packet.ifindex != 0 {
            return Ok(Err(Unasked::Interface));
        }
        let mut context = raw::lookup_context(packet);
        match raw::test_run(self.0.as_fd(), &mut context) {
            Ok(verdict) => Ok(Ok(Answer::of(verdict, raw::chosen_cookie(&context)))),
            Err(cause) if cause.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Err(Unasked::ReusePort)),
            Err(cause) => Err(Error::os("run", "the program in force")(cause)),
        }
    }
}

impl Snapshot {
    /// Says which rule decides about a packet and which socket receives it. Counters stay as they are: the program
    /// in force counts only what comes in on an interface, and a question does not.
    ///
    /// # Errors
    /// [`Error::Disagree`] when the program answers other than the rules, and errors of the kernel.
    pub fn explain(&self, packet: &Packet) -> Result<Explanation> {
        let rule = lookup(self.ruleset(), packet);
        let sockets = match rule.map(|rule| rule.verdict) {
            Some(Verdict::Service(id)) => self.serving(packet, id)?,
            _ => Vec::new(),
        };
        let (live, chosen) = match self.ask(packet)? {
            Ok(answer) => {
                self.compare(packet, rule, &sockets, answer)?;
                (Live::Agrees, if let Answer::Socket(cookie) = answer { Some(cookie) } else { None })
            }
            Err(reason) => (Live::NotAsked(reason), None),
        };
        let socket = match live {
            Live::Agrees => chosen.and_then(|cookie| sockets.iter().find(|socket| socket.cookie == cookie)),
            // Not asked: of a single socket it is known even so.
            Live::NotAsked(_) if sockets.len() == 1 => sockets.first().filter(|socket| socket.receiving),
            Live::NotAsked(_) => None,
        };
        let socket = socket.cloned();
        Ok(Explanation { packet: *packet, rule, sockets, socket, live })
    }

    /// The live sockets of a service for the family and the protocol of a packet.
    fn serving(&self, packet: &Packet, id: ServiceId) -> Result<Vec<SocketState>> {
        let mut sockets = self.sockets_of(id)?;
        sockets.retain(|socket| {
            let family = if packet.local.is_ipv4() { socket.v4 } else { socket.v6 };
            family && socket.local.as_ref().is_none_or(|local| local.protocol() == packet.protocol)
        });
        Ok(sockets)
    }

    /// Asks the program in force. The inner error is the reason why it cannot be asked.
    fn ask(&self, packet: &Packet) -> Result<std::result::Result<Answer, Unasked>> {
        match self.program() {
            Ok(program) => program.run(packet),
            Err(Error::Os { cause, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(Err(Unasked::NotPermitted))
            }
            Err(error) => Err(error),
        }
    }

    /// The program in force, to be asked many times.
    ///
    /// # Errors
    /// When its pin cannot be opened; that takes the right to write it.
    pub fn program(&self) -> Result<LiveProgram> {
        let path = self.files.generation(self.generation).program();
        let program = raw::open_pin(&path).map_err(Error::at("open", &path))?;
        Ok(LiveProgram(program))
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
        let rules = rule.map_or_else(|| "no rule matches".to_owned(), |rule| self.ruleset().named(&rule).to_string());
        let packet = format!("{} {} from {}", packet.protocol, packet.local, packet.remote);
        Err(Error::Disagree { packet, rules, program: answer.to_string() })
    }

    /// Whether the answer fits the sockets that are there now: one may have come or gone since they were listed.
    fn agrees_now(&self, packet: &Packet, id: ServiceId, answer: Answer) -> Result<bool> {
        let sockets = self.serving(packet, id)?;
        let on_missing = self.ruleset().services().get(id).map_or(OnMissing::Refuse, |service| service.on_missing);
        let missing = if on_missing == OnMissing::Refuse { Answer::Refuse } else { Answer::Pass };
        Ok(match answer {
            Answer::Socket(cookie) => sockets.iter().any(|socket| socket.cookie == cookie),
            answer => answer == missing && !sockets.iter().any(|socket| socket.receiving),
        })
    }
}

impl Answer {
    fn of(verdict: u32, cookie: u64) -> Self {
        match (verdict, cookie) {
            (0, _) => Self::Refuse,
            (_, 0) => Self::Pass,
            (_, cookie) => Self::Socket(cookie),
        }
    }
}

impl fmt::Display for Unasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface => "the kernel takes no interface in a test run",
            Self::ReusePort => "the kernel does not tell which socket of a SO_REUSEPORT group it is",
            Self::NotPermitted => "running the program takes root",
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Refuse => f.write_str("refuse"),
            Self::Socket(cookie) => write!(f, "the socket with cookie {cookie}"),
        }
    }
}
