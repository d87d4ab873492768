//! A compiled ruleset in the kernel: its image, and the program specialised for it.

mod generation;
mod load;
pub(crate) mod marks;

pub(crate) use self::generation::{Attachments, Generation, begin, try_out};
pub(crate) use self::load::{loading, without};
