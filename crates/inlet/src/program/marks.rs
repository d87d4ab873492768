//! What hands the marks of packets over to the look-up: a netfilter program at LOCAL_IN, and the map in which it leaves
//! them. It is there only while rules have a mark, for the families of these rules.

use std::fs::remove_file;
use std::io::ErrorKind;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsFd;
use std::path::Path;

use inlet_core::{Family, Ruleset};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapHandle, MapType, NetfilterOpts, ProgramType};

use super::loading;
use crate::bpf::marks::{MarksSkelBuilder, types};
use crate::error::{Cause, Error, KernelError, Result};
use crate::fault;
use crate::kernel::{Capability, Netns, capability, raw};
use crate::state::{Access, MarkFiles, Readers, create, is_there, open_map, remove_all};

/// `NF_INET_LOCAL_IN` of linux/netfilter.h.
const LOCAL_IN: i32 = 1;
/// The last priority but one. The last one is not to be had, and is only for what confirms connections.
const PRIORITY: i32 = i32::MAX - 1;

/// The map that marks go through, made when it is not there; `None` when no rule has a mark.
pub(crate) fn slots(files: &MarkFiles, ruleset: &Ruleset, readers: Readers) -> Result<Option<MapHandle>> {
    if ruleset.families_with_marks().is_empty() {
        return Ok(None);
    }
    let path = files.slots();
    if is_there(&path)? {
        return open_map(&path, Access::Write).map(Some);
    }
    // Links without the map would fill another one.
    remove(files)?;
    std::fs::create_dir(&files.0).map_err(Error::at("make", &files.0))?;
    readers.admit_to_dir(&files.0)?;
    fault::point("marks:directory");
    let map = create("inlet_marks", MapType::PercpuArray, size_of::<types::marked>() as u32, 1, 0)?;
    raw::pin(map.as_fd(), &path).map_err(Error::at("pin", &path))?;
    fault::point("marks:map");
    Ok(Some(map))
}

/// The families that have a rule with a mark, and for which the program is not attached, or has no map.
pub(crate) fn missing(files: &MarkFiles, ruleset: &Ruleset) -> Result<Vec<Family>> {
    let mut missing = Vec::new();
    let families = ruleset.families_with_marks();
    let has_slots = families.is_empty() || is_there(&files.slots())?;
    for family in families {
        if !has_slots || !is_there(&files.link(family))? {
            missing.push(family);
        }
    }
    Ok(missing)
}

/// Attaches the program for each family that has a rule with a mark, where it is not attached yet.
pub(crate) fn attach_missing(files: &MarkFiles, ruleset: &Ruleset, slots: &MapHandle, netns: &Netns) -> Result<()> {
    let missing = missing(files, ruleset)?;
    // The kernel attaches to the namespace of the thread that asks.
    if missing.is_empty() { Ok(()) } else { netns.run(|| attach(files, slots, &missing))? }
}

fn attach(files: &MarkFiles, slots: &MapHandle, families: &[Family]) -> Result<()> {
    loading(|failed| {
        let mut storage = MaybeUninit::uninit();
        let mut open = MarksSkelBuilder::default().open(&mut storage).map_err(failed)?;
        open.maps.inlet_marks.reuse_fd(slots.as_fd()).map_err(failed)?;
        let loaded = open.load().map_err(|error| match ProgramType::Netfilter.is_supported() {
            Ok(false) => no_netfilter(error),
            _ => failed(error),
        })?;
        fault::point("marks:loaded");
        for family in families {
            let (path, protocol_family) = (files.link(*family), protocol_family(*family));
            let hook = NetfilterOpts { protocol_family, hooknum: LOCAL_IN, priority: PRIORITY, ..Default::default() };
            let link = loaded.progs.inlet_mark.attach_netfilter_with_opts(hook);
            let link = link.map_err(Error::os("attach to", "LOCAL_IN of netfilter"))?;
            fault::point("marks:attached");
            raw::pin(link.as_fd(), &path).map_err(Error::at("pin", &path))?;
            fault::point("marks:pinned");
        }
        Ok(())
    })
}

/// Why this kernel cannot hand over the marks that rules ask for, before anybody tries; `None` also when we may not ask.
pub(crate) fn refusal(ruleset: &Ruleset) -> Option<Error> {
    let asks = [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];
    let may_ask = !ruleset.families_with_marks().is_empty() && capability::require("marks", &asks).is_ok();
    let lacks = may_ask && matches!(ProgramType::Netfilter.is_supported(), Ok(false));
    lacks.then(|| no_netfilter(libbpf_rs::Error::from_raw_os_error(libc::EINVAL)))
}

fn protocol_family(family: Family) -> i32 {
    match family {
        Family::V4 => libc::NFPROTO_IPV4,
        Family::V6 => libc::NFPROTO_IPV6,
    }
}

fn no_netfilter(cause: libbpf_rs::Error) -> Error {
    let what = "BPF program in netfilter (CONFIG_NETFILTER_BPF_LINK), which rules with a mark need";
    Error::Kernel(KernelError::Feature { what, since: "6.4", source: cause.into_io() })
}

/// Detaches what no rule of the ruleset in force needs.
pub(crate) fn keep_needed(files: &MarkFiles, ruleset: &Ruleset) -> Result<()> {
    let needed = ruleset.families_with_marks();
    if needed.is_empty() {
        return remove(files);
    }
    for family in Family::ALL.into_iter().filter(|family| !needed.contains(family)) {
        detach(&files.link(family))?;
    }
    Ok(())
}

/// Detaches all, and removes the pins. What is not there is fine.
pub(crate) fn remove(files: &MarkFiles) -> Result<()> {
    if !is_there(&files.0)? {
        return Ok(());
    }
    Family::ALL.into_iter().try_for_each(|family| detach(&files.link(family)))?;
    remove_all(&files.0)?;
    fault::point("marks:removed");
    Ok(())
}

/// Detaches a link at once, and removes its pin. Without that the kernel detaches it some time after the pin is gone.
fn detach(path: &Path) -> Result<()> {
    match raw::open_pin(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        // One that somebody has detached fails, and is what is wanted.
        Ok(link) => _ = raw::link_detach(link.as_fd()),
        Err(cause) => return Err(Error::at("open", path)(cause)),
    }
    fault::point("marks:detached");
    remove_file(path).map_err(Error::at("remove", path))
}
