//! What an iterator tells, read whole.

use std::io::Read;

/// What the kernel tells with one read: 8 pages (bpf_seq_read in kernel/bpf/bpf_iter.c).
const TOLD_AT_ONCE: usize = 32 << 10;

/// Reads to the end, as much at a time as the kernel tells. Between two reads Linux before 6.5 counts UDP sockets from the first
/// one on to find where it was. Where others closed meanwhile it passes some over, so a read must not be shorter.
pub(super) fn read_whole(mut iterator: impl Read, told: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let begin = told.len();
        told.resize(begin + TOLD_AT_ONCE, 0);
        let read = iterator.read(&mut told[begin..]);
        told.truncate(begin + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
}
