//! Fewer privileges: for a piece of this thread's work, or for a command.

use std::io;
use std::process::Command;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::raw;

/// A set of capabilities: `Caps::BPF | Caps::NET_ADMIN`.
pub use rustix::thread::CapabilitySet as Caps;

/// Runs `work` on this thread with no effective capability but `caps` (of those it has), and restores them, also from a
/// panic. A command that `work` starts as root gets all of root's again: see [`limit_caps`].
///
/// # Panics
/// When the capabilities cannot be set.
pub fn with_caps<R>(caps: Caps, work: impl FnOnce() -> R) -> R {
    let _restored = Lowered::to(|effective| effective & caps).expect("lower capabilities");
    work()
}

/// Runs `work` on this thread without `caps`, as [`with_caps`] does.
///
/// # Panics
/// When the capabilities cannot be set.
pub fn without_caps<R>(caps: Caps, work: impl FnOnce() -> R) -> R {
    let _restored = Lowered::to(|effective| effective - caps).expect("lower capabilities");
    work()
}

/// The thread's capabilities as they were. Only the effective set was changed, and the kernel asks for no other; the
/// permitted set lets it be restored.
struct Lowered(CapabilitySets);

impl Lowered {
    fn to(choose: impl FnOnce(Caps) -> Caps) -> io::Result<Lowered> {
        let before = capabilities(None)?;
        let effective = choose(before.effective);
        set_capabilities(None, CapabilitySets { effective, ..before })?;
        Ok(Lowered(before))
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        let restored = set_capabilities(None, self.0);
        assert!(restored.is_ok() || std::thread::panicking(), "restore capabilities: {restored:?}");
    }
}

/// Makes `command` run with no capability but `caps`, still as root. It keeps no way to regain others.
pub fn limit_caps(command: &mut Command, caps: Caps) -> &mut Command {
    // A root's exec grants all of the bounding set, so that is what has to be narrowed.
    raw::before_exec(command, move || {
        for bit in 0..u64::BITS {
            let cap = Caps::from_bits_retain(1 << bit);
            if caps.contains(cap) {
                continue;
            }
            match remove_capability_from_bounding_set(cap) {
                // Past the kernel's last capability.
                Err(rustix::io::Errno::INVAL) => break,
                dropped => dropped?,
            }
        }
        Ok(())
    });
    command
}

/// Makes `command` run as this user and group with these further groups and no capabilities.
pub fn as_user<'c>(command: &'c mut Command, uid: u32, gid: u32, groups: &[u32]) -> &'c mut Command {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    // The calls of rustix change one thread, and between fork and exec there is only one. The order matters: the right to
    // change groups goes with the user.
    raw::before_exec(command, move || {
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    });
    command
}
