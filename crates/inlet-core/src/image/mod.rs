//! The image: a ruleset compiled into one block of 32-bit words that the kernel program searches.
//!
//! [`compile()`] makes it, [`recompile()`] makes it from another one, [`Walk`] searches it exactly as `lookup.bpf.h` does,
//! [`decode`] reads the ruleset back.
//! Words are in the byte order of the machine, as the kernel program reads them; a 64-bit value takes two words at an
//! even place. The areas, in order:
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
//! **A local address** is looked up by its bits: the root cuts the span of all prefixes into windows, a window its span into
//! pieces, each with a bucket (`buckets.rs`). So what a packet needs is in one line of the windows and one or two of the
//! buckets. A bucket has the longest prefixes inside its piece, and for addresses in none of them the value of the longest
//! that covers it whole; where more prefixes are crowded together it leads on, to a second bucket or to a search.
//!
//! **A search** finds the interval that a key is in: the intervals are disjoint, cover every key and are stored in
//! order, packed in blocks without gaps. What leads to the right block is an entry: either a run of 1 to 3 neighbouring
//! blocks, or a node. A node is an index over a window of the key's bits, sized to the intervals that it tells apart,
//! or, where those are too crowded for a few levels of indexes, a stretch of blocks to bisect. Large port tables, sources,
//! interfaces and crowded addresses are searched so.
//!
//! **A lookup** begins with the local address: its value names the port table of the longest prefix there, and the link
//! to the next shorter one for when no port matches. A port table with a leaf for one or two ranges is their numbers, since
//! many prefixes share few such ranges, of which those shared most come first, in few cache lines; another one is searched with the protocol's bit above the port. What is found is a
//! leaf ([`Leaf`]): a verdict, or a further search by source or interface, which ends in a leaf again.

mod compile;
pub mod format;
mod stored;
mod walk;

pub use compile::{Compiled, Image, ImageError, Part, compile, recompile};
pub use format::{FORMAT, HEADER_WORDS, Header, HeaderError, Leaf, Outcome, Root};
pub use stored::{Previous, SourceError, decode};
pub use walk::Walk;
