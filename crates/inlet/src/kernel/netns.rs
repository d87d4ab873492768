//! Network namespaces: which one an instance is for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inlet_core::{Interface, InterfaceName};
use rustix::io::Errno;
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, KernelError, Result};
use crate::kernel::{Links, raw};

/// Where `ip netns` has those that it gives names.
pub(super) const NAMED: &str = "/run/netns";

/// A network namespace, kept alive while this is held.
#[derive(Clone, Debug)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    cookie: u64,
    label: String,
    is_own: bool,
}

impl Netns {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`crate::KernelError::Netns`] when `/proc` is not mounted or the kernel has no namespace cookies.
    pub fn own() -> Result<Self> {
        let spec = "/proc/thread-self/ns/net";
        let failed = |cause| Error::Kernel(KernelError::Netns { spec: spec.to_owned(), cause });
        let fd = File::open(spec).map_err(failed)?;
        let cookie = own_cookie().map_err(failed)?;
        Ok(Self { fd: Arc::new(fd.into()), cookie, label: "this network namespace".to_owned(), is_own: true })
    }

    /// The namespace of a path, of a name that `ip netns` lists, or of a process (`pid:N`).
    ///
    /// # Errors
    /// [`crate::KernelError::Netns`] when there is none, or it may not be entered (that takes CAP_SYS_ADMIN).
    pub fn open(spec: &str) -> Result<Self> {
        let failed = |cause| Error::Kernel(KernelError::Netns { spec: spec.to_owned(), cause });
        let path = match spec.strip_prefix("pid:") {
            Some(pid) => PathBuf::from(format!(
                "/proc/{}/ns/net",
                pid.parse::<u32>().map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?
            )),
            None if spec.contains('/') => PathBuf::from(spec),
            None => Path::new(NAMED).join(spec),
        };
        let fd: OwnedFd = File::open(path).map_err(failed)?.into();
        let is_own = Self::own().is_ok_and(|own| same_file(&own.fd, &fd));
        let cookie = match is_own {
            true => own_cookie(),
            false => inside(fd.as_fd(), own_cookie).and_then(|cookie| cookie),
        };
        Ok(Self {
            cookie: cookie.map_err(failed)?,
            fd: Arc::new(fd),
            label: format!("network namespace {spec}"),
            is_own,
        })
    }

    /// The number of the namespace that the kernel never uses again (`SO_NETNS_COOKIE`, Linux 5.14).
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// How to call it in a message.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it is called from one boot to the next: `Some(None)` for the namespace of process 1, `Some(Some(NAME))` for one
    /// that `ip netns` lists, `None` for any other.
    pub(crate) fn lasting_name(&self) -> Option<Option<String>> {
        let is_this = |path: &Path| File::open(path).is_ok_and(|file| same_file(&self.fd, &file.into()));
        if is_this("/proc/1/ns/net".as_ref()) {
            return Some(None);
        }
        let named = std::fs::read_dir(NAMED).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let mut names: Vec<PathBuf> = named.filter(|path| is_this(path)).collect();
        names.sort_unstable();
        Some(Some(names.first()?.file_name()?.to_str()?.to_owned()))
    }

    /// The index of an interface; `None` when the namespace has none of this name.
    ///
    /// # Errors
    /// [`crate::KernelError::AlternativeName`] when the kernel knows it by another name, so that one interface is not
    /// named twice.
    pub fn interface_index(&self, name: &InterfaceName) -> Result<Option<u32>> {
        let look_up = || -> rustix::io::Result<(u32, String)> {
            let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
            let index = name_to_index(&socket, name.as_str())?;
            Ok((index, index_to_name(&socket, index)?))
        };
        match self.run(look_up)? {
            Ok((index, found)) if found == name.as_str() => Ok(Some(index)),
            Ok((_, found)) => Err(Error::Kernel(KernelError::AlternativeName { given: name.to_string(), name: found })),
            Err(Errno::NODEV | Errno::NXIO) => Ok(None),
            Err(cause) => Err(Error::os("look up interface", name)(cause)),
        }
    }

    /// The names of its interfaces.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        Links::of(self).map(Links::names)
    }

    /// The index of an interface that a rule names. One that has been named before may be gone meanwhile, or have got
    /// another name; its rules then match nothing, and keep nobody from changing others.
    pub(crate) fn index_of(&self, name: &InterfaceName, known: &[Interface]) -> Result<u32> {
        let is_known = known.iter().any(|interface| interface.name == *name);
        match self.interface_index(name) {
            // Another interface than the rule was made for may have the name as a second one.
            Ok(None) | Err(Error::Kernel(KernelError::AlternativeName { .. })) if is_known => Ok(0),
            Ok(Some(index)) => Ok(index),
            Ok(None) => {
                Err(Error::Kernel(KernelError::UnknownInterface { name: name.to_string(), netns: self.label.clone() }))
            }
            Err(error) => Err(error),
        }
    }

    /// Runs `work` inside the namespace: on this thread when it is its own, else on another.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        match self.is_own {
            true => Ok(work()),
            false => inside(self.fd.as_fd(), work)
                .map_err(|cause| Error::Kernel(KernelError::Netns { spec: self.label.clone(), cause })),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn own_cookie() -> io::Result<u64> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    raw::netns_cookie(socket.as_fd())
}

fn same_file(a: &OwnedFd, b: &OwnedFd) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}
