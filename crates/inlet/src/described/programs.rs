//! The programs that find described sockets: made for the descriptions, attached to the root of the control groups.

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use inlet_core::{MAX_SERVICES, Protocol};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::claims::Claims;
use super::find::Finder;
use crate::bpf::adopt::{AdoptSkelBuilder, types};
use crate::error::{Error, Result};
use crate::fault;
use crate::kernel::{Capability, Cgroups, capability, raw};
use crate::program::{self, attach_to_root, detach, is_attached, make_dir, make_marker, replace};
use crate::state::{Access, DescribedFiles, Maps, Readers, create, create_keyed, is_there, open_map, remove_all};

/// How many sockets one look through all can move in.
pub(crate) const PLACES: u32 = 1 << 16;

/// The names of the links to the root of the control groups.
const LINKS: [&str; 8] = ["listen", "bind4", "bind6", "socket", "own4", "own6", "name4", "name6"];

/// Programs in the kernel, not yet in force.
#[derive(Debug)]
pub(crate) struct Programs {
    refusals: MapHandle,
    places: MapHandle,
    find_tcp: OwnedFd,
    find_udp: OwnedFd,
    listen: OwnedFd,
    bind4: OwnedFd,
    bind6: OwnedFd,
    socket: OwnedFd,
    own: [OwnedFd; 2],
    name: [OwnedFd; 2],
}

impl Programs {
    /// Makes the programs for these wants.
    pub(crate) fn load(wants: &Claims, maps: &Maps, files: &DescribedFiles, netns: u64) -> Result<Self> {
        let needed = [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];
        capability::require("finding described sockets", &needed)?;
        let refusals = kept(&files.refusals(), || {
            let value = size_of::<types::refusal>() as u32;
            create("inlet_refusals", MapType::Hash, value, MAX_SERVICES.into(), libbpf_sys::BPF_F_NO_PREALLOC)
        })?;
        let place = size_of::<types::place>() as u32;
        let places = create_keyed("inlet_places", MapType::Hash, [8, place], PLACES, libbpf_sys::BPF_F_NO_PREALLOC)?;
        let own_ports = maps.own_ports.as_ref().ok_or_else(|| program::without("map of own ports"))?;
        program::loading(|failed| {
            let mut storage = MaybeUninit::uninit();
            let mut open = AdoptSkelBuilder::default().open(&mut storage).map_err(&failed)?;
            let reused = [
                (&mut open.maps.inlet_sockets, &maps.sockets),
                (&mut open.maps.inlet_lanes, &maps.lanes),
                (&mut open.maps.inlet_refusals, &refusals),
                (&mut open.maps.inlet_binds, &maps.binds),
                (&mut open.maps.inlet_places, &places),
                (&mut open.maps.inlet_own_ports, &own_ports.map),
            ];
            for (map, handle) in reused {
                map.reuse_fd(handle.as_fd()).map_err(&failed)?;
            }
            let sized = [
                (&mut open.maps.inlet_ports, wants.ports().len()),
                (&mut open.maps.inlet_wants, wants.entries().len()),
                (&mut open.maps.inlet_confines, wants.confines().len()),
                (&mut open.maps.inlet_plain, wants.plain().len()),
            ];
            for (map, entries) in sized {
                map.set_max_entries(entries.max(1) as u32).map_err(&failed)?;
            }
            let constants = open.maps.rodata_data.as_deref_mut().ok_or_else(|| program::without("constants"))?;
            constants.adopting.netns = netns;
            constants.adopting.any_port = wants.has_any_port().into();
            constants.adopting.plain = wants.plain().len() as u32;
            let range = own_ports.range();
            constants.adopting.own.first = range.first().into();
            constants.adopting.own.count = u32::from(range.last() - range.first()) + 1;
            let loaded = open.load().map_err(&failed)?;
            fill(wants, &loaded.maps.inlet_ports, &loaded.maps.inlet_wants)?;
            fill_array(wants.confines(), &loaded.maps.inlet_confines)?;
            fill_array(wants.plain(), &loaded.maps.inlet_plain)?;
            let progs = &loaded.progs;
            let keep = |program: BorrowedFd<'_>| program.try_clone_to_owned().map_err(Error::os("keep", "a program"));
            Ok(Self {
                find_tcp: keep(progs.inlet_find_tcp.as_fd())?,
                find_udp: keep(progs.inlet_find_udp.as_fd())?,
                listen: keep(progs.inlet_listen.as_fd())?,
                bind4: keep(progs.inlet_bind4.as_fd())?,
                bind6: keep(progs.inlet_bind6.as_fd())?,
                socket: keep(progs.inlet_socket.as_fd())?,
                own: [keep(progs.inlet_own4.as_fd())?, keep(progs.inlet_own6.as_fd())?],
                name: [keep(progs.inlet_name4.as_fd())?, keep(progs.inlet_name6.as_fd())?],
                refusals,
                places,
            })
        })
    }

    /// What goes through the sockets that exist.
    pub(crate) fn finder(&self) -> Result<Finder> {
        let keep = |program: &OwnedFd| program.try_clone().map_err(Error::os("keep", "a program"));
        let handle = |map: &MapHandle| MapHandle::try_from(map).map_err(Error::os("keep", "a map"));
        Ok(Finder {
            programs: vec![keep(&self.find_tcp)?, keep(&self.find_udp)?],
            places: handle(&self.places)?,
            refusals: handle(&self.refusals)?,
        })
    }

    fn links(&self, wants: &Claims) -> [Link<'_>; 8] {
        let [listen, bind4, bind6, socket, own4, own6, name4, name6] = LINKS;
        let (tcp, udp) = (wants.has(Protocol::Tcp), wants.has(Protocol::Udp));
        let link = |name, program, kind, is_needed| Link { name, program, kind, is_needed };
        [
            link(listen, &self.listen, libbpf_sys::BPF_CGROUP_SOCK_OPS, tcp),
            link(bind4, &self.bind4, libbpf_sys::BPF_CGROUP_INET4_POST_BIND, udp),
            link(bind6, &self.bind6, libbpf_sys::BPF_CGROUP_INET6_POST_BIND, udp),
            link(socket, &self.socket, libbpf_sys::BPF_CGROUP_INET_SOCK_CREATE, wants.plain().len() > 0),
            link(own4, &self.own[0], libbpf_sys::BPF_CGROUP_INET4_BIND, wants.own_binds),
            link(own6, &self.own[1], libbpf_sys::BPF_CGROUP_INET6_BIND, wants.own_binds),
            link(name4, &self.name[0], libbpf_sys::BPF_CGROUP_INET4_GETSOCKNAME, wants.own_binds),
            link(name6, &self.name[1], libbpf_sys::BPF_CGROUP_INET6_GETSOCKNAME, wants.own_binds),
        ]
    }

    /// Attaches what is not attached yet, before the commit point: the kernel may refuse it. Links that are there go on running
    /// the programs for the descriptions in force.
    pub(crate) fn attach_missing(&self, files: &DescribedFiles, wants: &Claims, readers: Readers) -> Result<()> {
        make_dir(&files.0, readers)?;
        fault::point("describe:directory");
        let refusals = files.refusals();
        if !is_there(&refusals)? {
            raw::pin(self.refusals.as_fd(), &refusals).map_err(Error::at("pin", &refusals))?;
        }
        readers.admit_to_map(&refusals)?;
        let cgroups = Cgroups::find()?;
        for link in self.links(wants).iter().filter(|link| link.is_needed) {
            if !is_attached(&files.link(link.name))? {
                link.attach(&files.link(link.name), &cgroups)?;
                match link.kind {
                    libbpf_sys::BPF_CGROUP_INET6_BIND => fault::point("own:bind"),
                    libbpf_sys::BPF_CGROUP_INET6_GETSOCKNAME => fault::point("own:name"),
                    _ => fault::point("describe:attached"),
                }
            }
        }
        Ok(())
    }

    /// Pins them in the place of those before, and lets the links run them.
    pub(crate) fn put_in_force(&self, files: &DescribedFiles, wants: &Claims) -> Result<()> {
        make_marker(&files.changing())?;
        let replaced = [
            (self.places.as_fd(), files.places()),
            (self.find_tcp.as_fd(), files.find(Protocol::Tcp)),
            (self.find_udp.as_fd(), files.find(Protocol::Udp)),
        ];
        for (object, path) in replaced {
            replace(object, &path)?;
            fault::point("describe:pin");
        }
        for link in self.links(wants) {
            let path = files.link(link.name);
            match link.is_needed {
                true => link.update(&path)?,
                false => detach(&path)?,
            }
            fault::point("describe:link");
        }
        remove_all(&files.changing())
    }
}

/// A link to the root of the control groups.
struct Link<'a> {
    name: &'static str,
    program: &'a OwnedFd,
    kind: libbpf_sys::bpf_attach_type,
    is_needed: bool,
}

impl Link<'_> {
    fn attach(&self, path: &Path, cgroups: &Cgroups) -> Result<()> {
        attach_to_root(self.program.as_fd(), self.kind, path, cgroups)
    }

    fn update(&self, path: &Path) -> Result<()> {
        raw::open_pin(path)
            .and_then(|link| raw::link_update(link.as_fd(), self.program.as_fd()))
            .map_err(Error::at("update", path))
    }
}

fn fill_array(values: impl Iterator<Item = Vec<u8>>, array: &impl MapCore) -> Result<()> {
    for (number, value) in values.enumerate() {
        let filled = array.update(&(number as u32).to_ne_bytes(), &value, MapFlags::ANY);
        filled.map_err(Error::os::<libbpf_rs::Error>("fill", "the map of descriptions"))?;
    }
    Ok(())
}

fn fill(wants: &Claims, ports: &impl MapCore, keys: &impl MapCore) -> Result<()> {
    let filled = || Error::os::<libbpf_rs::Error>("fill", "the map of descriptions");
    for (key, value) in wants.entries() {
        keys.update(&key, &value, MapFlags::ANY).map_err(filled())?;
    }
    for port in wants.ports() {
        ports.update(&port.to_ne_bytes(), &1_u32.to_ne_bytes(), MapFlags::ANY).map_err(filled())?;
    }
    Ok(())
}

/// The map that is pinned there, or a new one.
fn kept(path: &Path, new: impl FnOnce() -> Result<MapHandle>) -> Result<MapHandle> {
    if is_there(path)? { open_map(path, Access::Write) } else { new() }
}

/// Detaches all programs and removes all pins. What is not there is fine.
pub(crate) fn remove_programs(files: &DescribedFiles) -> Result<()> {
    LINKS.iter().try_for_each(|name| detach(&files.link(name)))?;
    remove_all(&files.0)
}
