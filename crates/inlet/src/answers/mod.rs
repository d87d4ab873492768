//! Answers over UDP that leave from where they were asked: what a ruleset needs for that, and the programs on the way
//! out. The lookup notes where a flow asks, see `bpf/note.bpf.h`; what is done with that is in `bpf/answers.bpf.c`.

mod clsact;
mod interfaces;
mod needs;
mod programs;

pub(crate) use self::interfaces::{InFront, cover_again, in_front, uncovered};
pub(crate) use self::needs::{Needs, needs};
pub(crate) use self::programs::{attach, detach_needless, remove};
