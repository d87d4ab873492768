//! Reading ruleset files, which may be large.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

/// Smaller files are read before a thread is up.
const WORTHWHILE: u64 = 1 << 20;

/// Reads a file that holds a text; a large one with two threads, since most of the time goes into fresh memory.
///
/// # Errors
/// Those of opening and reading, and `InvalidData` when it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut text = Vec::new();
    if metadata.is_file() && metadata.len() >= WORTHWHILE {
        text = vec![0; usize::try_from(metadata.len()).map_err(io::Error::other)?];
        read_halves(&file, &mut text)?;
        file.seek(SeekFrom::Start(metadata.len()))?;
    }
    // What was written meanwhile, or all of it.
    file.read_to_end(&mut text)?;
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
        let mut wrong = vec![b'a'; 2 << 20];
        wrong[(1 << 20) + 5] = 0xff;
        std::fs::write(path, wrong).unwrap();
        assert_eq!(read_text(path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
