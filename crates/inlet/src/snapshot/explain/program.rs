//! The live program: what it does with a packet, asked by a test run.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use inlet_core::{OnMissing, Packet, Protocol, Rule, ServiceId, Verdict};

use super::{Explainer, receivers};
use crate::error::{Error, Result};
use crate::kernel::raw;
use crate::snapshot::Snapshot;
use crate::socket::SocketState;

/// What the live program said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
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
    /// A test run takes no mark, and a rule for the packet's address and port has one.
    Mark,
    /// The chosen socket is of a SO_REUSEPORT group, which a test run does not report.
    ReusePort,
    /// Running the program takes the right to write its pin.
    NotPermitted,
    /// The ruleset asked about is not the one in force.
    NotInForce,
    /// Its link is gone, and no packet gets to it.
    NotSteering,
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

/// What comes of asking the program in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It answers.
    Answer(Answer),
    /// It cannot be asked about this packet, or not by us.
    NotAsked(Unasked),
}

/// The program in force, to be asked. It does not count questions: they come in on no interface.
#[derive(Debug)]
pub struct LiveProgram(OwnedFd);

impl LiveProgram {
    /// What the program does with the packet now. A test run takes no mark: to the program it is not known.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn run(&self, packet: &Packet) -> Result<Reply> {
        if packet.ifindex != 0 {
            return Ok(Reply::NotAsked(Unasked::Interface));
        }
        let mut context = context(packet);
        match raw::test_run(self.0.as_fd(), &mut context) {
            Ok(verdict) => Ok(Reply::Answer(Answer::of(verdict, raw::chosen_cookie(&context)))),
            Err(cause) if cause.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Reply::NotAsked(Unasked::ReusePort)),
            Err(cause) => Err(Error::os("run", "the program in force")(cause)),
        }
    }
}

/// The program in force, or why nobody asks it.
pub(super) enum Oracle {
    Program(LiveProgram),
    None(Unasked),
}

impl Oracle {
    pub(super) fn ask(&self, packet: &Packet) -> Result<Reply> {
        match self {
            Self::Program(program) => program.run(packet),
            Self::None(reason) => Ok(Reply::NotAsked(*reason)),
        }
    }

    /// What comes of asking about a packet whose mark a rule looks at.
    pub(super) fn without_mark(&self) -> Reply {
        Reply::NotAsked(match self {
            Self::Program(_) => Unasked::Mark,
            Self::None(reason) => *reason,
        })
    }
}

impl Snapshot {
    /// The program in force, to be asked many times.
    ///
    /// # Errors
    /// When its pin cannot be opened; that takes the right to write it.
    pub fn program(&self) -> Result<LiveProgram> {
        let path = self.files.generation(self.generation).program();
        let program = raw::open_pin(&path).map_err(Error::at("open", &path))?;
        Ok(LiveProgram(program))
    }

    /// The same, as far as we may have it.
    pub(super) fn oracle(&self) -> Result<Oracle> {
        match self.program() {
            Ok(program) => Ok(Oracle::Program(program)),
            Err(Error::Os { cause, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(Oracle::None(Unasked::NotPermitted))
            }
            Err(error) => Err(error),
        }
    }
}

impl Explainer<'_> {
    /// What happens where the kernel's ordinary lookup would go on: ports of own binds are closed to it.
    pub(super) fn ordinary(&self, packet: &Packet) -> Answer {
        let is_own = self.own_ports.is_some_and(|range| range.contains(packet.local.port()));
        if is_own { Answer::Refuse } else { Answer::Pass }
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
            Self::Mark => "the kernel takes no mark in a test run",
            Self::ReusePort => "the kernel does not tell which socket of a SO_REUSEPORT group it is",
            Self::NotPermitted => "running the program takes root",
            Self::NotInForce => "the ruleset asked about is not in force",
            Self::NotSteering => "its link is gone, and no packet gets to it",
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

/// The context of a question; the addresses and the remote port are in network byte order, the local port is not.
fn context(packet: &Packet) -> raw::LookupContext {
    let words = |addr: Ipv6Addr| {
        let octets = addr.octets();
        std::array::from_fn(|i| {
            u32::from_ne_bytes([octets[4 * i], octets[4 * i + 1], octets[4 * i + 2], octets[4 * i + 3]])
        })
    };
    let mut context = raw::LookupContext {
        family: if packet.local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u32,
        protocol: match packet.protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        } as u32,
        remote_port: packet.remote.port().to_be(),
        local_port: packet.local.port().into(),
        ingress_ifindex: packet.ifindex,
        ..raw::LookupContext::default()
    };
    let ip = |addr: SocketAddr| addr.ip();
    match (ip(packet.local), ip(packet.remote)) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            context.local_ip4 = u32::from_ne_bytes(local.octets());
            context.remote_ip4 = u32::from_ne_bytes(remote.octets());
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            context.local_ip6 = words(local);
            context.remote_ip6 = words(remote);
        }
        // Of two families nothing is asked; a packet has one.
        _ => {}
    }
    context
}

impl Explainer<'_> {
    /// Fails when the answer is not one that the rules and the live sockets allow.
    pub(super) fn compare(
        &self,
        packet: &Packet,
        rule: Option<Rule>,
        sockets: &[SocketState],
        answer: Answer,
    ) -> Result<()> {
        let agrees = match (rule.map(|rule| rule.verdict), answer) {
            (None | Some(Verdict::Pass), answer) => answer == self.ordinary(packet),
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
        let missing = if self.on_missing(id) == OnMissing::Refuse { Answer::Refuse } else { self.ordinary(packet) };
        Ok(match answer {
            Answer::Socket(cookie) => sockets.iter().any(|socket| socket.cookie == cookie),
            answer => answer == missing && !sockets.iter().any(|socket| socket.receiving),
        })
    }
}
