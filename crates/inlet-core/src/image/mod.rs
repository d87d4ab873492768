//! The image: a ruleset compiled into one block of 32-bit words that the kernel program searches.
//!
//! [`compile()`] makes an image, [`recompile()`] makes it from another image, [`Walk`] searches it exactly as
//! `lookup.bpf.h` does, and [`decode`] reads the ruleset back. Words are in the byte order of the machine, as the
//! kernel program reads them. A 64-bit value takes two words at an even offset. The areas, in order:
//!
//! | area | unit | holds |
//! | --- | --- | --- |
//! | header | [`HEADER_WORDS`] words | [`Header`]: where the areas are, and the constants of the program |
//! | index | words | nodes of direct indexes, and nodes to bisect |
//! | blocks32 | 32 words | 10 intervals over a 32-bit key: 10 keys, then 10 values of 2 words |
//! | blocks128 | 32 words | 5 intervals over a 128-bit key: 5 keys of 4 words, then 5 values of 2 words |
//! | windows | 4, 8 words | for IPv4 and then IPv6: a stretch of addresses, in so many pieces from a bucket on |
//! | buckets | 16, 32 words | for IPv4 and then IPv6: up to 4 prefixes with their values, and the value of all else |
//! | cells | words | port tables of up to 8 ranges (16 words, aligned), and entries of larger searches |
//! | ranges | 2 words | first and last port, and the leaf with its protocol |
//! | chain | 2 words | ports and next of a prefix that has others inside it |
//! | source | words | the ruleset as it was given; the kernel program never looks here |
//!
//! **A local address** is looked up by its bits. The root cuts the range of all prefixes into pieces, each with a
//! window. A window cuts its piece again, each part with a bucket. So a packet needs one cache line of the windows and
//! one or two of the buckets.
//!
//! A bucket has the longest prefixes inside its piece. Other addresses get the value of the longest prefix that covers
//! the piece. Where more prefixes are crowded together, the bucket leads on to a second bucket or to a search.
//!
//! **A search** finds the interval of a key. The intervals are disjoint, cover every key, and are stored in order,
//! packed into blocks without gaps. An entry leads to the right block. It is either a run of 1 to 3 neighbouring
//! blocks, or a node.
//!
//! A node is an index over some bits of the key, sized to the intervals that it tells apart. Where intervals are too
//! crowded for a few levels of indexes, a node is a run of blocks to bisect. Large port tables, sources, interfaces,
//! marks and crowded addresses are searched in this way. One search by mark is for one mask.
//!
//! **A lookup** begins with the local address. Its value names the port table of the longest prefix there, and the link
//! to the next shorter prefix, for when no port matches.
//!
//! A port table with one or two ranges is just their numbers, since many prefixes share few ranges. The ranges that are
//! shared most come first, in few cache lines. Other tables are searched, with the bit of the protocol above the port.
//! The result is a [`Leaf`]: a verdict, or a further search by source, interface or mark, which ends in a leaf again.

mod compile;
pub mod format;
mod stored;
mod walk;

pub use compile::{Compiled, Image, ImageError, Part, compile, recompile};
pub use format::{FORMAT, FORMAT_WITH_MARKS, HEADER_WORDS, Header, HeaderError, Leaf, Outcome, Root};
pub use stored::{Previous, SourceError, decode};
pub use walk::Walk;
