//! Files that hold the number of a process, trusted as systemd trusts those of a service (`PIDFile=`): whoever can write
//! one chooses whose sockets a service gets.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, SocketError};

/// No number of a process is longer, with the blanks around it.
const MAX_BYTES: u64 = 64;

/// Reads the number of a process from a file: a plain file that is no link, that belongs to root, to us or to the owner
/// of the process.
///
/// # Errors
/// [`SocketError::PidFile`] with what is wrong with the file, [`SocketError::NoProcess`], and those of reading it.
pub fn read_pidfile(path: &Path) -> Result<u32> {
    let wrong = |why: String| Error::Socket(SocketError::PidFile { path: path.to_owned(), why });
    // A FIFO is not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(wrong("it is a symbolic link".to_owned())),
        opened => opened.map_err(Error::at("open", path))?.into(),
    };
    let found = file.metadata().map_err(Error::at("look at", path))?;
    if !found.is_file() {
        return Err(wrong("it is no plain file".to_owned()));
    }
    if found.mode() & 0o002 != 0 {
        return Err(wrong("anybody can write to it".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::at("read", path))?;
    let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let pid = number.filter(|pid| *pid != 0 && bytes.len() as u64 <= MAX_BYTES);
    let pid = pid.ok_or_else(|| wrong("it does not hold the number of a process".to_owned()))?;
    let owner = found.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() && owner != owner_of(pid)? {
        return Err(wrong(format!("it belongs to user {owner}, who is neither root nor the owner of process {pid}")));
    }
    Ok(pid)
}

/// The user of a process.
fn owner_of(pid: u32) -> Result<u32> {
    match std::fs::metadata(format!("/proc/{pid}")) {
        Ok(found) => Ok(found.uid()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Err(SocketError::NoProcess(pid).into()),
        Err(cause) => Err(Error::os("look at", format!("process {pid}"))(cause)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_a_plain_file_that_nobody_else_can_write_is_trusted() {
        let dir = std::env::temp_dir().join(format!("inlet-pidfile-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("pid");
        let this = std::process::id();
        for (text, good) in [
            (format!("{this}\n"), true),
            (format!("  {this}  "), true),
            ("0".to_owned(), false),
            ("-1".to_owned(), false),
            (format!("{this} {this}"), false),
            (String::new(), false),
            (format!("{this}{}", " ".repeat(100)), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(read_pidfile(&path).ok(), good.then_some(this), "{text:?}");
        }
        std::fs::write(&path, "secret").unwrap();
        assert!(!read_pidfile(&path).unwrap_err().to_string().contains("secret"));
        std::fs::write(&path, this.to_string()).unwrap();
        symlink(&path, dir.join("link")).unwrap();
        assert!(read_pidfile(&dir.join("link")).unwrap_err().to_string().contains("symbolic link"));
        assert!(read_pidfile(&dir).unwrap_err().to_string().contains("no plain file"));
        assert!(read_pidfile(Path::new("/dev/zero")).unwrap_err().to_string().contains("no plain file"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read_pidfile(&path).unwrap_err().to_string().contains("anybody can write"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
