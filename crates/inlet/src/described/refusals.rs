//! Listeners that a description means and that the kernel did not put into their service.

use std::fmt;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use inlet_core::{Protocol, ServiceId};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::skeleton::adopt::types;
use crate::socket::Endpoint;

/// The last listener of a service that did not get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRefusal {
    /// How many there were since the service is described.
    pub count: u64,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The process that called listen(2).
    pub pid: u32,
    /// Its command.
    pub command: String,
    /// Why.
    pub reason: RefusedListener,
}

/// Why a listener does not get into the service that wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedListener {
    /// It is in another network namespace.
    OtherNamespace,
    /// It is multipath TCP.
    Mptcp,
    /// The service has as many listeners as fit.
    Full,
    /// The kernel does not take it into the map of sockets.
    NotTaken(Errno),
}

impl RefusedListener {
    fn of(reason: u32, error: i32) -> Self {
        match reason {
            1 => Self::OtherNamespace,
            2 => Self::Mptcp,
            3 => Self::Full,
            _ => Self::NotTaken(Errno::from_raw_os_error(-error)),
        }
    }
}

impl fmt::Display for RefusedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherNamespace => {
                "it is in another network namespace; describe its unit, cgroup or uid too, or run inlet up in that one"
            }
            Self::Mptcp => {
                "multipath TCP, which the kernel does not steer; make it plain TCP (for a Go program: GODEBUG=multipathtcp=0)"
            }
            Self::Full => "the service has as many listeners as fit",
            Self::NotTaken(errno) => return write!(f, "the kernel does not take it: {errno}"),
        })
    }
}

/// The last refusal of a service.
pub(crate) fn last(refusals: &MapHandle, service: ServiceId) -> Result<Option<LastRefusal>> {
    let key = u32::from(service.get()).to_ne_bytes();
    let value = refusals.lookup(&key, MapFlags::ANY).map_err(Error::os("read", "the refusals of listeners"))?;
    Ok(value.and_then(|value| decode(&value)))
}

fn decode(value: &[u8]) -> Option<LastRefusal> {
    let bytes = |at: usize, len: usize| value.get(at..at + len);
    let word = |at: usize| Some(u32::from_ne_bytes(bytes(at, 4)?.try_into().ok()?));
    let addr: [u8; 16] = bytes(offset_of!(types::refusal, addr), 16)?.try_into().ok()?;
    let command = bytes(offset_of!(types::refusal, command), 16)?.split(|byte| *byte == 0).next()?;
    let addr = IpAddr::from(Ipv6Addr::from(addr)).to_canonical();
    let port = word(offset_of!(types::refusal, port))? as u16;
    let (reason, error) = (word(offset_of!(types::refusal, reason))?, word(offset_of!(types::refusal, error))? as i32);
    Some(LastRefusal {
        count: u64::from_ne_bytes(bytes(offset_of!(types::refusal, count), 8)?.try_into().ok()?),
        endpoint: Endpoint::new(Protocol::Tcp, SocketAddr::new(addr, port)),
        pid: word(offset_of!(types::refusal, pid))?,
        command: String::from_utf8_lossy(command).into_owned(),
        reason: RefusedListener::of(reason, error),
    })
}
