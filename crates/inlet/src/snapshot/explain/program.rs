//! The live program: what it does with a packet, asked by a test run.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use inlet_core::Packet;

use crate::error::{Error, Result};
use crate::kernel::raw;
use crate::snapshot::Snapshot;

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
    /// The program in force, to be asked many times.
    ///
    /// # Errors
    /// When its pin cannot be opened; that takes the right to write it.
    pub fn program(&self) -> Result<LiveProgram> {
        let path = self.files.generation(self.generation).program();
        let program = raw::open_pin(&path).map_err(Error::at("open", &path))?;
        Ok(LiveProgram(program))
    }

    /// The same; the inner error is that we may not have it.
    pub(super) fn program_if_permitted(&self) -> Result<std::result::Result<LiveProgram, Unasked>> {
        match self.program() {
            Ok(program) => Ok(Ok(program)),
            Err(Error::Os { cause, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(Err(Unasked::NotPermitted))
            }
            Err(error) => Err(error),
        }
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
