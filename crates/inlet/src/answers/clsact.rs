//! The program that sets source ports, attached the way that kernels before 6.6 have: as a filter of the interface's clsact
//! qdisc. Nothing of it can be pinned, so the filter is known by its handle and by the program that it runs.

use std::os::fd::{AsFd, BorrowedFd};

use libbpf_rs::{Program, TC_EGRESS, TcHook, TcHookBuilder};

use crate::kernel::Netns;

/// The handle of our filter. Others may have filters of the same priority.
const HANDLE: u32 = 0x1_4e17;

/// The priorities that are tried, the first of which runs first. One may be taken by filters of another kind.
const PRIORITIES: std::ops::RangeInclusive<u32> = 1..=8;

fn hook(program: BorrowedFd<'_>, ifindex: u32, priority: u32) -> TcHook {
    let mut builder = TcHookBuilder::new(program);
    builder.ifindex(ifindex as i32).handle(HANDLE).priority(priority);
    builder.hook(TC_EGRESS)
}

/// Attaches the program to what leaves through an interface. The qdisc is made when there is none.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    netns: &Netns,
) -> crate::error::Result<libbpf_rs::Result<()>> {
    netns.run(|| {
        hook(program, ifindex, 1).create()?;
        let mut attached = Ok(());
        for priority in PRIORITIES {
            attached = hook(program, ifindex, priority).attach().map(drop);
            if attached.is_ok() {
                break;
            }
        }
        attached
    })
}

/// Whether the program runs there.
pub(super) fn is_attached(program: BorrowedFd<'_>, ifindex: u32, netns: &Netns) -> crate::error::Result<bool> {
    netns.run(|| priority_of(program, ifindex).is_some())
}

/// Detaches it. The qdisc stays, as others may count on it.
pub(super) fn detach(program: BorrowedFd<'_>, ifindex: u32, netns: &Netns) -> crate::error::Result<()> {
    netns.run(|| {
        if let Some(priority) = priority_of(program, ifindex) {
            // It may go with its interface at this moment.
            let _ = hook(program, ifindex, priority).detach();
        }
    })
}

fn priority_of(program: BorrowedFd<'_>, ifindex: u32) -> Option<u32> {
    let id = Program::id_from_fd(program.as_fd()).ok()?;
    PRIORITIES.into_iter().find(|priority| hook(program, ifindex, *priority).query().is_ok_and(|found| found == id))
}
