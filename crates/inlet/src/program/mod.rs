//! A compiled ruleset in the kernel: its image, and the program specialised for it. And the links of the programs that run
//! beside it.

mod generation;
mod links;
mod load;
pub(crate) mod marks;

pub(crate) use self::generation::{Attachments, Generation, begin, try_out};
pub(crate) use self::links::{attach_to_root, detach, is_attached, make_dir, make_marker, remove_pin, replace};
pub(crate) use self::load::{SharedMaps, loading, without};
