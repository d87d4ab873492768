//! Programs that choose among the sockets of a SO_REUSEPORT group (nginx `quic_bpf`, Envoy, udpgrm). With Inlet's own
//! choice they are not asked.
//!
//! No socket reports which program its group has. But such a program takes sockets from a map, and the map can be read:
//! a socket in the map of a program of this type is one that the program chooses. A program without such a map, and a
//! classic one (SO_ATTACH_REUSEPORT_CBPF), leaves no trace in the kernel that can be read. Of these only a hint is
//! found: a process that has both a socket and such a program open.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, ProgramType};

/// A program that chooses among sockets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selector {
    pub(super) id: u32,
    pub(super) name: String,
}

/// The programs of the host that choose among sockets in a map, by the cookie of each such socket. A map that is not to
/// be read (its values are too short for cookies) is left out.
pub(super) fn of_maps() -> HashMap<u64, Selector> {
    let mut found = HashMap::new();
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    for program in ProgInfoIter::with_query_opts(options).filter(|it| it.ty == ProgramType::SkReuseport) {
        for map in program.map_ids.iter().filter_map(|id| MapHandle::from_map_id(*id).ok()) {
            found.extend(cookies(&map).into_iter().map(|cookie| (cookie, Selector::of(&program))));
        }
    }
    found
}

/// The cookies of the sockets in a map.
fn cookies(map: &MapHandle) -> Vec<u64> {
    let holds_sockets = matches!(map.map_type(), MapType::ReuseportSockarray | MapType::Sockmap | MapType::Sockhash);
    if !holds_sockets || map.value_size() as usize != size_of::<u64>() {
        return Vec::new();
    }
    let cookie = |key: Vec<u8>| {
        let value = map.lookup(&key, MapFlags::ANY).ok()??;
        value.try_into().ok().map(u64::from_ne_bytes)
    };
    map.keys().filter_map(cookie).collect()
}

/// The programs of this type that a process has open.
pub(super) fn open_in(pid: u32) -> BTreeSet<u32> {
    let dir = Path::new("/proc").join(pid.to_string());
    let fds = std::fs::read_dir(dir.join("fd")).into_iter().flatten().flatten();
    let programs =
        fds.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:bpf-prog"));
    let id = |fd: std::fs::DirEntry| {
        let info = std::fs::read_to_string(dir.join("fdinfo").join(fd.file_name())).ok()?;
        selector_of(&info)
    };
    programs.filter_map(id).collect()
}

/// The number of a program, from what `fdinfo` says, when it is of this type.
fn selector_of(info: &str) -> Option<u32> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
    (field("prog_type:") == Some(libbpf_sys::BPF_PROG_TYPE_SK_REUSEPORT)).then(|| field("prog_id:"))?
}

impl Selector {
    fn of(program: &ProgramInfo) -> Self {
        Self { id: program.id, name: program.name.to_string_lossy().into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::selector_of;

    #[test]
    fn programs_are_told_by_their_type() {
        let info = |kind| format!("pos:\t0\nprog_type:\t{kind}\nprog_jited:\t1\nprog_id:\t42\nrun_cnt:\t0\n");
        assert_eq!((selector_of(&info(21)), selector_of(&info(36)), selector_of("pos:\t0\n")), (Some(42), None, None));
    }
}
