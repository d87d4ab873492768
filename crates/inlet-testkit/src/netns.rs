//! Network namespaces: a guard that puts the calling thread into a new one, and a handle to one that is not entered.
//!
//! The thread's namespace is `/proc/thread-self/ns/net`; `/proc/self/ns/net` is the main thread's and must not be used.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Context, Result};
use crate::fork::output;
use crate::raw;

/// A network namespace that lives at least as long as this handle. The calling thread need not be in it.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    path: PathBuf,
}

impl Namespace {
    /// Makes a namespace with `lo` up. The calling thread stays where it is.
    pub fn new() -> Result<Namespace> {
        // A thread of its own makes it, so that no failure can leave the caller in the wrong namespace.
        let fd = thread::scope(|scope| {
            let made = scope.spawn(|| raw::unshare_net().and_then(|()| current()));
            made.join().unwrap_or_else(|_| Err(io::Error::other("thread panicked")))
        })
        .context("make", "network namespace")?;
        let namespace = Namespace::from_fd(fd);
        namespace.ip(&["link", "set", "lo", "up"])?;
        // A guest with little memory has few. Past the last one the kernel forgets a connection as its server closes it, and a
        // late segment of the client, who has its answer, is answered with a reset.
        namespace.sysctl("net/ipv4/tcp_max_tw_buckets", "262144")?;
        Ok(namespace)
    }

    /// The namespace the calling thread is in.
    pub fn current() -> Result<Namespace> {
        let fd = current().context("open", "the thread's network namespace")?;
        Ok(Namespace::from_fd(fd))
    }

    fn from_fd(fd: OwnedFd) -> Namespace {
        let path = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()).into();
        Namespace { fd, path }
    }

    /// The namespace, for setns(2) and comparisons.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A path that opens the namespace from any process while the handle lives, if that process may trace this one.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The inode number of the namespace: equal numbers at one time are one namespace.
    pub fn inode(&self) -> Result<u64> {
        let stat = rustix::fs::fstat(&self.fd).context("stat", self.path.display())?;
        Ok(stat.st_ino)
    }

    /// Runs `work` on this thread inside the namespace, and comes back, also from a panic.
    ///
    /// # Panics
    /// When the thread cannot enter, or cannot come back: going on in the wrong namespace would touch the host.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        let inside = Inside::enter(self.fd()).expect("enter network namespace");
        let answer = work();
        drop(inside);
        answer
    }

    /// Runs `command` in the namespace to its end; a status other than success is an error that has its stderr.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        let output = self.enter(|| output(command)).and_then(|output| match output.status.success() {
            true => Ok(output),
            false => {
                Err(io::Error::other(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
            }
        });
        output.context("run", format_args!("{command:?}"))
    }

    /// Runs `ip` with these arguments in the namespace and returns its stdout.
    pub fn ip<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String> {
        let output = self.run(Command::new("ip").args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes every address of `prefix` ("192.0.2.0/24", "2001:db8::/32") local here: AnyIP.
    pub fn local(&self, prefix: &str) -> Result<()> {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        self.ip(&[family, "route", "add", "local", prefix, "dev", "lo"])?;
        Ok(())
    }

    /// Writes `value` to a sysctl of the namespace, such as "net/ipv4/ip_unprivileged_port_start".
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        // /proc/sys/net follows the network namespace of the thread that opens the file.
        let path = Path::new("/proc/sys").join(name);
        self.enter(|| std::fs::write(&path, value)).context("write", path.display())
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

/// A new network namespace which the calling thread is in until the guard is dropped.
#[derive(Debug)]
pub struct Netns {
    // Dropped first: the thread goes home while the namespace is still held.
    _inside: Inside,
    namespace: Namespace,
}

impl Netns {
    /// Makes a namespace, with `lo` up, and enters it.
    pub fn new() -> Result<Netns> {
        let namespace = Namespace::new()?;
        let inside = Inside::enter(namespace.fd()).context("enter", namespace.path.display())?;
        Ok(Netns { _inside: inside, namespace })
    }

    /// Makes another namespace and stays in the present one.
    pub fn unentered() -> Result<Namespace> {
        Namespace::new()
    }
}

impl Deref for Netns {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// A stay of this thread in a namespace. Not `Send`: another thread's drop would move the wrong thread.
#[derive(Debug)]
struct Inside {
    home: OwnedFd,
    _this_thread: PhantomData<*const ()>,
}

impl Inside {
    fn enter(namespace: BorrowedFd<'_>) -> io::Result<Inside> {
        let home = current()?;
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(Inside { home, _this_thread: PhantomData })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let back = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network));
        assert!(back.is_ok() || thread::panicking(), "return to the network namespace of before: {back:?}");
    }
}

fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}
