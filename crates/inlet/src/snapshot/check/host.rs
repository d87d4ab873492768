//! The host: what the kernel can do, found by trying it, the file systems, and the settings that matter.

use super::{Checkup, Severity};
use crate::error::{DescribeError, Error, StateError};
use crate::kernel::{Capability, Cgroups, capability};
use crate::program;
use crate::state::Location;

pub(super) fn check(location: &Location, found: &mut Checkup) {
    file_systems(location, found);
    kernel(found);
    settings(location, found);
}

fn file_systems(location: &Location, found: &mut Checkup) {
    let why = "an instance keeps all that it has there";
    match location.check_bpffs().and_then(|()| location.root().check()) {
        Ok(()) => {}
        Err(error @ Error::State(StateError::NoBpfFs(_))) => found.add_error("no-bpffs", &error, why),
        Err(error @ Error::State(StateError::Untrusted { .. })) => found.add_error("untrusted-directory", &error, why),
        Err(error) => found.unchecked.push(format!("the bpf filesystem: {error}")),
    }
    match Cgroups::find() {
        Ok(_) => {}
        Err(error @ Error::Describe(DescribeError::NoCgroups)) => {
            let why = "services cannot find their sockets by a description; registering by hand works without it";
            found.add(Severity::Warning, "no-cgroup2", error.to_string(), why, error.remedy().unwrap_or_default());
        }
        Err(error) => found.unchecked.push(format!("the control groups: {error}")),
    }
}

/// Loads the program for no rules, which needs all that any program needs, and lets it go.
fn kernel(found: &mut Checkup) {
    let needed = [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];
    if let Err(error) = capability::require("trying what the kernel can do", &needed) {
        return found.unchecked.push(format!("the kernel: {error}"));
    }
    if let Err(error) = program::try_out() {
        let why = "no ruleset can be put in force";
        let fix =
            "run Linux 6.1 or newer with CONFIG_BPF_SYSCALL, CONFIG_BPF_JIT and CONFIG_BPF_STREAM_PARSER or later";
        found.add(Severity::Error, "kernel", error.to_string(), why, fix);
    }
}

fn settings(location: &Location, found: &mut Checkup) {
    // The namespace's own view of /proc/sys/net.
    let read = |name: &'static str| {
        let read = location.netns().run(|| std::fs::read_to_string(format!("/proc/sys/{name}")));
        read.ok().and_then(|text| text.ok()).map(|text| text.trim().to_owned())
    };
    if read("net/core/bpf_jit_enable").as_deref() == Some("0") {
        found.add(
            Severity::Warning,
            "no-jit",
            "net.core.bpf_jit_enable is 0".to_owned(),
            "look-ups are interpreted, which takes several times as long",
            "sysctl -w net.core.bpf_jit_enable=1",
        );
    }
    if read("net/ipv4/conf/all/rp_filter").as_deref() == Some("1") {
        found.add(
            Severity::Note,
            "rp-filter",
            "net.ipv4.conf.all.rp_filter is 1 (strict)".to_owned(),
            "packets whose answer would leave by another interface are dropped before any rule sees them",
            "where routing is not symmetric: sysctl -w net.ipv4.conf.all.rp_filter=2",
        );
    }
}
