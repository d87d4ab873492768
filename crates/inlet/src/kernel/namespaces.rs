//! The network namespaces that can be found: this one, those that `ip netns` names, those of processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::netns::{NAMED, Netns};

/// A network namespace, and how to name it for `--netns`; `None` for the one of this thread.
#[derive(Clone, Debug)]
pub(crate) struct Visible {
    pub(crate) name: Option<String>,
    pub(crate) netns: Netns,
}

/// All of them, each once, by the first way in which it can be named. One that ends meanwhile, or may not be entered, is
/// left out.
pub(crate) fn visible() -> Vec<Visible> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let own = Netns::own().ok().map(|netns| Visible { name: None, netns });
    let mut keep = |visible: Visible| {
        if seen.insert(visible.netns.cookie()) {
            found.push(visible);
        }
    };
    own.into_iter().for_each(&mut keep);
    let mut files = BTreeSet::new();
    for (name, path) in named().into_iter().chain(of_processes()) {
        // Entering one costs more than looking at its file.
        let Ok(file) = rustix::fs::stat(&path) else { continue };
        if files.insert((file.st_dev, file.st_ino))
            && let Ok(netns) = Netns::open(&name)
        {
            keep(Visible { name: Some(name), netns });
        }
    }
    found
}

fn named() -> Vec<(String, PathBuf)> {
    let mut names = names_in(Path::new(NAMED));
    names.sort_unstable();
    names.into_iter().map(|name| (name.clone(), Path::new(NAMED).join(name))).collect()
}

fn of_processes() -> Vec<(String, PathBuf)> {
    let mut pids: Vec<u32> = names_in(Path::new("/proc")).iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().map(|pid| (format!("pid:{pid}"), PathBuf::from(format!("/proc/{pid}/ns/net")))).collect()
}

/// The names in a directory; none when it is not there.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
