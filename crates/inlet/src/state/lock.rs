//! Locks on the directories of the bpf filesystem, by flock(2): many readers or one writer. The kernel lets go of a
//! lock when its process ends, however it ends.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, Stat, flock, fstat, major, minor, stat};
use rustix::io::Errno;

use crate::error::{Error, Result, StateError};

/// How long one waits for others: any reader could keep all writers waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Held by those who read.
#[derive(Debug)]
pub(crate) struct Shared(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

/// Held by the one who writes.
#[derive(Debug)]
pub(crate) struct Exclusive(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

impl Shared {
    /// Waits until nobody writes. `None` when the directory does not exist.
    pub(crate) fn on(dir: &Path) -> Result<Option<Self>> {
        Ok(acquire(dir, Kind::Shared, PATIENCE)?.map(Self))
    }

    /// The lock when nobody writes now, without waiting.
    pub(crate) fn if_free(dir: &Path) -> Result<Option<Self>> {
        Ok(at_once(dir, Kind::Shared)?.map(Self))
    }
}

impl Exclusive {
    /// Waits until nobody else reads or writes. `None` when the directory does not exist.
    pub(crate) fn on(dir: &Path) -> Result<Option<Self>> {
        Ok(acquire(dir, Kind::Exclusive, PATIENCE)?.map(Self))
    }

    /// The lock when nobody else has it now, without waiting.
    pub(crate) fn if_free(dir: &Path) -> Result<Option<Self>> {
        Ok(at_once(dir, Kind::Exclusive)?.map(Self))
    }
}

/// The processes that have a directory locked, as far as we may see them.
pub(crate) fn holders_of(dir: &Path) -> Result<Vec<u32>> {
    Ok(holders(&stat(dir).map_err(Error::at("look at", dir))?))
}

/// Held by the process that waits for a generation to be confirmed. Nobody waits for this lock: it says that there is
/// one.
#[derive(Debug)]
pub(crate) struct Waiting(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

impl Waiting {
    /// Waits for those who only look whether somebody waits: they take a moment.
    pub(crate) fn on(dir: &Path) -> Result<Self> {
        let file = File::open(dir).map_err(Error::at("open", dir))?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).map_err(Error::at("lock", dir))?;
        Ok(Self(file))
    }

    /// Whether a process waits.
    pub(crate) fn is_on(dir: &Path) -> Result<bool> {
        let file = match File::open(dir) {
            // A generation of an earlier version has none, and readers may not open it, but see who has it locked.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                let found = stat(dir).map_err(Error::at("look at", dir))?;
                return Ok(!holders(&found).is_empty());
            }
            file => file.map_err(Error::at("open", dir))?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(cause) => Err(Error::at("lock", dir)(cause)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Shared,
    Exclusive,
}

impl Kind {
    fn lock(self) -> FlockOperation {
        match self {
            Self::Shared => FlockOperation::LockShared,
            Self::Exclusive => FlockOperation::LockExclusive,
        }
    }

    fn try_lock(self) -> FlockOperation {
        match self {
            Self::Shared => FlockOperation::NonBlockingLockShared,
            Self::Exclusive => FlockOperation::NonBlockingLockExclusive,
        }
    }
}

/// Locks a directory that nobody removes while its instance is there, if that can be done now.
fn at_once(dir: &Path, kind: Kind) -> Result<Option<File>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(dir, flags, rustix::fs::Mode::empty()).map_err(Error::at("open", dir))?.into();
    match flock(&file, kind.try_lock()) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(cause) => Err(Error::at("lock", dir)(cause)),
    }
}

/// Locks the directory that is at the path when the lock is held: while one waits, it may be removed and made anew.
fn acquire(dir: &Path, kind: Kind, patience: Duration) -> Result<Option<File>> {
    let until = Instant::now() + patience;
    loop {
        let opened =
            rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty());
        let file: File = match opened {
            Ok(fd) => fd.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(cause) => return Err(Error::at("open", dir)(cause)),
        };
        let wanted = fstat(&file).map_err(Error::at("look at", dir))?;
        let Some(locked) = lock(file, kind, until) else {
            return Err(Error::State(StateError::Busy {
                path: dir.to_owned(),
                seconds: patience.as_secs(),
                holders: holders(&wanted),
            }));
        };
        let file = locked.map_err(Error::at("lock", dir))?;
        let held = fstat(&file).map_err(Error::at("look at", dir))?;
        match stat(dir) {
            Ok(now) if (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino) => return Ok(Some(file)),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(cause) => return Err(Error::at("look at", dir)(cause)),
        }
    }
}

/// Locks a file, and gives it back locked; `None` when others had it for too long.
///
/// The kernel cannot be told how long to wait, so another thread does the waiting. When nobody waits for that thread
/// any more, it lets go of the lock as soon as it gets it. Asking again and again would starve: who reads all the time
/// lets go for moments only.
fn lock(file: File, kind: Kind, until: Instant) -> Option<rustix::io::Result<File>> {
    match flock(&file, kind.try_lock()) {
        Err(Errno::WOULDBLOCK) => {}
        tried => return Some(tried.map(|()| file)),
    }
    let (sender, receiver) = channel();
    let waiting = thread::Builder::new().spawn(move || {
        let locked = rustix::io::retry_on_intr(|| flock(&file, kind.lock())).map(|()| file);
        // What cannot be sent is dropped, and the lock with it.
        let _ = sender.send(locked);
    });
    if let Err(cause) = waiting {
        return Some(Err(Errno::from_io_error(&cause).unwrap_or(Errno::AGAIN)));
    }
    receiver.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

/// The processes that have a file locked, as far as `/proc` tells us.
fn holders(file: &Stat) -> Vec<u32> {
    holders_in(&std::fs::read_to_string("/proc/locks").unwrap_or_default(), file)
}

/// Reads lines as `1: FLOCK  ADVISORY  READ 1234 00:2a:77 0 EOF`. Those who wait have an arrow before the kind,
/// processes of another PID namespace the number 0.
fn holders_in(locks: &str, file: &Stat) -> Vec<u32> {
    let id = format!("{:02x}:{:02x}:{}", major(file.st_dev), minor(file.st_dev), file.st_ino);
    let holder = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, found, ..] if *found == id => pid.parse().ok().filter(|pid| *pid != 0),
            _ => None,
        }
    };
    let mut all: Vec<u32> = locks.lines().filter_map(holder).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

    use super::*;

    #[test]
    fn holders_are_those_who_have_the_lock() {
        let file = stat("/proc").unwrap();
        let id = format!("{:02x}:{:02x}:{}", major(file.st_dev), minor(file.st_dev), file.st_ino);
        let locks = format!(
            "1: FLOCK  ADVISORY  READ 77 {id} 0 EOF\n2: FLOCK  ADVISORY  READ 5 {id} 0 EOF\n\
             2: -> FLOCK  ADVISORY  WRITE 9 {id} 0 EOF\n3: FLOCK  ADVISORY  READ 0 {id} 0 EOF\n\
             4: POSIX  ADVISORY  WRITE 11 {id} 0 EOF\n5: FLOCK  ADVISORY  WRITE 12 {id}0 0 EOF\n"
        );
        assert_eq!(holders_in(&locks, &file), [5, 77]);
    }

    #[test]
    fn a_wait_has_an_end() {
        let dir = std::env::temp_dir().join(format!("inlet-lock-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let short = Duration::from_millis(20);
        let reader = Shared::on(&dir).unwrap().unwrap();
        assert!(acquire(&dir, Kind::Shared, short).unwrap().is_some());
        let error = acquire(&dir, Kind::Exclusive, short).unwrap_err();
        assert!(matches!(error, Error::State(StateError::Busy { .. })), "{error:?}");
        // The thread that still waits lets go at once.
        drop(reader);
        drop(Exclusive::on(&dir).unwrap().unwrap());
        std::fs::remove_dir(&dir).unwrap();
        assert!(acquire(&dir, Kind::Exclusive, short).unwrap().is_none());
    }
}
