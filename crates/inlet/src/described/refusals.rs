//! Listeners that a description means and that the kernel did not put into their service.

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use inlet_core::{Endpoint, Protocol, ServiceId};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::io::Errno;

use crate::bpf::adopt::types;
use crate::error::{Error, Refusal, Result};
use crate::socket::{Owner, shown};

/// The bytes of a command's name (`TASK_COMM_LEN`).
const COMMAND: usize = 16;
const _: () = assert!(
    size_of::<types::refusal>() == 64
        && offset_of!(types::refusal, reason) == 16
        && offset_of!(types::refusal, error) == 20
        && offset_of!(types::refusal, port) == 24
        && offset_of!(types::refusal, pid) == 28
        && offset_of!(types::refusal, addr) == 32
        && offset_of!(types::refusal, command) == 48
);

/// The last listener of a service that did not get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRefusal {
    /// How many there were since the service is described.
    pub count: u64,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The process that called listen(2), or has the listener; `None` when it is not known.
    pub pid: Option<u32>,
    /// Its command.
    pub command: String,
    /// Why.
    pub reason: Refusal,
}

/// The reason, from what the programs write.
fn reason_of(reason: u32, error: i32) -> Refusal {
    match reason {
        1 => Refusal::OtherNamespace,
        2 => Refusal::Mptcp,
        3 => Refusal::Full,
        _ => Refusal::NotTaken(Errno::from_raw_os_error(-error)),
    }
}

/// The reason and the error, as the programs write them. Listeners have no other reasons.
fn words(reason: Refusal) -> (u32, i32) {
    match reason {
        Refusal::OtherNamespace => (1, 0),
        Refusal::Mptcp => (2, 0),
        Refusal::Full => (3, 0),
        Refusal::NotTaken(errno) => (0, -errno.raw_os_error()),
        _ => (0, 0),
    }
}

/// Keeps the refusal of a listener that was there before its service was described. One that is kept already counts
/// once.
pub(crate) fn keep(
    refusals: &MapHandle,
    service: ServiceId,
    endpoint: Endpoint,
    owner: Option<&Owner>,
    reason: Refusal,
) -> Result<()> {
    let before = last(refusals, service)?;
    let pid = owner.map(|owner| owner.pid);
    if before.as_ref().is_some_and(|it| (it.endpoint, it.pid, it.reason) == (endpoint, pid, reason)) {
        return Ok(());
    }
    let count = before.map_or(0, |before| before.count) + 1;
    let mut command = owner.map_or("", |owner| &owner.command).as_bytes().to_vec();
    command.resize(COMMAND, 0);
    let addr = match endpoint.addr().ip() {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    };
    let (reason, error) = words(reason);
    let words = [reason, error as u32, endpoint.addr().port().into(), pid.unwrap_or(0)];
    let mut value = count.to_ne_bytes().to_vec();
    // When it began to listen is not known.
    value.extend(0_u64.to_ne_bytes());
    value.extend(words.into_iter().flat_map(u32::to_ne_bytes));
    value.extend(addr.octets());
    value.extend(command);
    let key = u32::from(service.get()).to_ne_bytes();
    refusals.update(&key, &value, MapFlags::ANY).map_err(Error::os("write", "the refusals of listeners"))
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
        pid: word(offset_of!(types::refusal, pid)).filter(|pid| *pid != 0),
        command: shown(command),
        reason: reason_of(reason, error),
    })
}
