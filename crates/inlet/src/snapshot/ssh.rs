//! The listeners of the SSH server: those of its processes, and under socket activation those that systemd holds for
//! it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The port of SSH, at which a listener of pid 1 is taken for its own.
const PORT: u16 = 22;
/// The socket units of the SSH server, as distributions name them.
const UNITS: [&str; 2] = ["ssh.socket", "sshd.socket"];
/// Where systemd finds units, with what its generators write.
const UNIT_DIRECTORIES: [&str; 7] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator.early",
    "/run/systemd/generator",
    "/run/systemd/generator.late",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];

/// What is known of socket activation.
pub(crate) struct Activation {
    /// The inodes of the sockets that pid 1 has open.
    of_init: Vec<u32>,
    ports: BTreeSet<u16>,
}

impl Activation {
    pub(crate) fn look() -> Self {
        let mut ports = ports(&UNIT_DIRECTORIES.map(PathBuf::from));
        ports.insert(PORT);
        Self { of_init: open_sockets(Path::new("/proc/1")), ports }
    }

    /// Whether a listener waits for SSH on behalf of a server that may not run yet.
    pub(crate) fn holds(&self, port: u16, inode: u32) -> bool {
        self.ports.contains(&port) && self.of_init.contains(&inode)
    }
}

/// The inodes of the sockets that processes of this command have open.
pub(crate) fn sockets_of(command: &str) -> Vec<u32> {
    // Anybody can call himself so; the server that others log in by is root's.
    let is_roots = |dir: &Path| std::fs::metadata(dir).is_ok_and(|found| found.uid() == 0);
    let is_it = |dir: &Path| std::fs::read_to_string(dir.join("comm")).is_ok_and(|comm| comm.trim_end() == command);
    let is_it = |dir: &Path| is_roots(dir) && is_it(dir);
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let numbered = |dir: &Path| dir.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    processes.filter(|dir| numbered(dir) && is_it(dir)).flat_map(|dir| open_sockets(&dir)).collect()
}

/// The inodes of the sockets that a process has open.
fn open_sockets(process: &Path) -> Vec<u32> {
    let inode = |link: &Path| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u32>().ok();
    let fds = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter_map(|link| inode(&link)).collect()
}

/// The ports that the socket units of the SSH server name, in their files and in what is added to these. What another
/// file takes back counts too: one listener too many is guarded rather than one too few.
fn ports(directories: &[PathBuf]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for path in directories.iter().flat_map(|dir| UNITS.map(|unit| dir.join(unit))) {
        let added = std::fs::read_dir(path.with_extension("socket.d")).into_iter().flatten().flatten();
        let files = std::iter::once(path).chain(added.map(|entry| entry.path()));
        for text in files.filter_map(|file| std::fs::read_to_string(file).ok()) {
            ports.extend(text.lines().filter_map(port));
        }
    }
    ports
}

/// The port of a line such as `ListenStream=22` or `ListenStream=[::]:2222`.
fn port(line: &str) -> Option<u16> {
    let (key, value) = line.split_once('=')?;
    let value = value.trim();
    (key.trim() == "ListenStream").then(|| value.rsplit(':').next().unwrap_or(value).parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn the_ports_of_socket_units_are_read() {
        let lines = ["ListenStream=22", "ListenStream = 192.0.2.1:2222", "ListenStream=[::]:2223"];
        assert_eq!(lines.map(port), [Some(22), Some(2222), Some(2223)]);
        let others = ["[Socket]", "Accept=no", "# ListenStream=7", "ListenStream=", "ListenStream=/run/ssh"];
        assert_eq!(others.map(port), [None; 5]);
    }
}
