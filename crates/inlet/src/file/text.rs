//! Reading ruleset files, which may be large.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

/// The largest file that is read: ten times what the most rules take. Others end in an error, not in lack of memory.
const MAX_BYTES: u64 = 2 << 30;

/// Smaller files are read before a thread is up.
const WORTHWHILE: u64 = 1 << 20;

/// Reads a file that holds a text; a large one with two threads, since most of the time goes into fresh memory.
///
/// # Errors
/// Those of opening and reading, and `InvalidData` when it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    // A FIFO is not waited for, as it is refused.
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file; `-` reads standard input"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(too_large());
    }
    let mut text = Vec::new();
    if metadata.len() >= WORTHWHILE {
        text = vec![0; usize::try_from(metadata.len()).map_err(io::Error::other)?];
        read_halves(&file, &mut text)?;
        file.seek(SeekFrom::Start(metadata.len()))?;
    }
    // What was written meanwhile, or all of it.
    read_rest(&mut file, &mut text)?;
    utf8(text)
}

/// Reads what stands on standard input.
///
/// # Errors
/// As for [`read_text`].
pub fn read_stdin() -> io::Result<String> {
    let mut text = Vec::new();
    read_rest(&mut io::stdin().lock(), &mut text)?;
    utf8(text)
}

fn read_rest(from: &mut impl Read, text: &mut Vec<u8>) -> io::Result<()> {
    let room = MAX_BYTES.saturating_sub(text.len() as u64);
    from.take(room + 1).read_to_end(text)?;
    if text.len() as u64 > MAX_BYTES { Err(too_large()) } else { Ok(()) }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {} MB", MAX_BYTES >> 20))
}

fn utf8(text: Vec<u8>) -> io::Result<String> {
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

fn read_halves(file: &File, text: &mut [u8]) -> io::Result<()> {
    let middle = text.len() / 2;
    let (first, second) = text.split_at_mut(middle);
    thread::scope(|scope| {
        let second = scope.spawn(|| file.read_exact_at(second, middle as u64));
        let first = file.read_exact_at(first, 0);
        first.and(second.join().unwrap_or_else(|_| Err(io::Error::other("a reading thread panicked"))))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A file that is gone once the test ends, be it by a failure.
    struct Temporary(PathBuf);

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn large_and_small_files_come_whole() {
        let file = Temporary(std::env::temp_dir().join(format!("inlet-text-{}", std::process::id())));
        let path = &file.0;
        for len in [0, 1, 1000, (1 << 20) - 1, 1 << 20, (3 << 20) + 1] {
            let text: String = (0..len).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
            std::fs::write(path, &text).unwrap();
            assert!(read_text(path).unwrap() == text, "{len} bytes");
        }
        std::fs::File::create(path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read_text(path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for other in ["/dev/zero", "/tmp"] {
            assert_eq!(read_text(Path::new(other)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{other}");
        }
        let mut wrong = vec![b'a'; 2 << 20];
        wrong[(1 << 20) + 5] = 0xff;
        std::fs::write(path, wrong).unwrap();
        assert_eq!(read_text(path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
