//! The programs that answers leave by: attached before a commit that needs them is in force, detached after one that
//! does not.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::interfaces::{cover, uncover};
use super::needs::Needs;
use crate::bpf::answers::AnswersSkelBuilder;
use crate::error::{DescribeError, Error, Result};
use crate::fault;
use crate::kernel::{Capability, Cgroups, Netns, btf, capability, raw};
use crate::program::{self, attach_to_root, detach, is_attached, make_dir, remove_pin};
use crate::state::{AnswerFiles, AnswerMaps, Readers, is_there, remove_all};

/// The names of the links to the root of the control groups.
const SENDS: [&str; 2] = ["send4", "send6"];

/// Programs in the kernel, not yet attached.
struct Programs {
    sends: [OwnedFd; 2],
    port: OwnedFd,
}

impl Programs {
    /// Without a description of the kernel's types, or where its memory may not be read, what sockets of servers send by
    /// themselves is noted too.
    fn load(maps: &AnswerMaps, netns: u64) -> Result<Self> {
        let (user_data, transparent) = (btf::socket_user_data(), btf::socket_transparent());
        match Self::load_with(maps, netns, [user_data.unwrap_or(0), transparent.unwrap_or(0)]) {
            Err(_) => Self::load_with(maps, netns, [0, 0]),
            loaded => loaded,
        }
    }

    fn load_with(maps: &AnswerMaps, netns: u64, [user_data, transparent]: [u32; 2]) -> Result<Self> {
        let needed = [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];
        capability::require("answering as asked over UDP", &needed)?;
        program::loading(|failed| {
            let mut storage = MaybeUninit::uninit();
            let mut open = AnswersSkelBuilder::default().open(&mut storage).map_err(&failed)?;
            let reused = [
                (&mut open.maps.inlet_flows, &maps.flows),
                (&mut open.maps.inlet_bound, &maps.bound),
                (&mut open.maps.inlet_answers, &maps.counters),
                (&mut open.maps.inlet_covered, &maps.covered),
                (&mut open.maps.inlet_changes, &maps.changes),
                (&mut open.maps.inlet_handed, &maps.handed),
                (&mut open.maps.inlet_client_ports, &maps.client_ports),
                (&mut open.maps.inlet_asking, &maps.asking),
                (&mut open.maps.inlet_clients, &maps.clients),
            ];
            for (map, handle) in reused {
                map.reuse_fd(handle.as_fd()).map_err(&failed)?;
            }
            let constants = open.maps.rodata_data.as_deref_mut().ok_or_else(|| program::without("constants"))?;
            constants.answering.netns = netns;
            constants.answering.user_data = user_data.into();
            constants.answering.transparent = transparent.into();
            let loaded = open.load().map_err(&failed)?;
            let keep = |program: BorrowedFd<'_>| program.try_clone_to_owned().map_err(Error::os("keep", "a program"));
            let progs = &loaded.progs;
            Ok(Self {
                sends: [keep(progs.inlet_answer4.as_fd())?, keep(progs.inlet_answer6.as_fd())?],
                port: keep(progs.inlet_answer_port.as_fd())?,
            })
        })
    }
}

/// Makes and attaches what is missing for answers to leave as asked, and gives the maps that the lookup shares with it. What is
/// attached already stays: its programs have the same maps.
pub(crate) fn attach(
    files: &AnswerFiles,
    before: &AnswerFiles,
    max_flows: u32,
    needs: &Needs,
    netns: &Netns,
    readers: Readers,
) -> Result<AnswerMaps> {
    make_dir(&files.0, readers)?;
    fault::point("answers:directory");
    let maps = AnswerMaps::ensure(files, before, max_flows, readers)?;
    maps.note_clients(&needs.clients)?;
    let mut missing = Vec::new();
    for (name, at) in SENDS.into_iter().zip(0..) {
        if !is_attached(&files.send(name))? {
            missing.push((name, at));
        }
    }
    let lacks_port = needs.ports && !is_there(&files.port())?;
    if !missing.is_empty() || lacks_port {
        let programs = Programs::load(&maps, netns.cookie())?;
        let kinds = [libbpf_sys::BPF_CGROUP_UDP4_SENDMSG, libbpf_sys::BPF_CGROUP_UDP6_SENDMSG];
        for (name, at) in missing {
            let cgroups = match fault::lacks("cgroup2") {
                true => return Err(DescribeError::NoCgroups.into()),
                false => Cgroups::find_whole()?,
            };
            attach_to_root(programs.sends[at].as_fd(), kinds[at], &files.send(name), &cgroups)?;
            fault::point("answers:attached");
        }
        if lacks_port {
            raw::pin(programs.port.as_fd(), &files.port()).map_err(Error::at("pin", &files.port()))?;
            fault::point("answers:port");
        }
    }
    if needs.ports {
        cover(files, &raw::open_pin(&files.port()).map_err(Error::at("open", &files.port()))?, netns)?;
    }
    Ok(maps)
}

/// Detaches what is attached and not needed.
pub(crate) fn detach_needless(files: &AnswerFiles, needs: &Needs, netns: &Netns) -> Result<()> {
    if needs.ports {
        return Ok(());
    }
    uncover(files, netns)?;
    remove_pin(&files.port())
}

/// Detaches all programs and removes all pins. What is not there is fine.
pub(crate) fn remove(files: &AnswerFiles, netns: &Netns) -> Result<()> {
    if !files.are_there()? {
        return Ok(());
    }
    uncover(files, netns)?;
    for name in SENDS {
        detach(&files.send(name))?;
        fault::point("answers:detached");
    }
    remove_all(&files.0)
}
