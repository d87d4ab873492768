//! The image: a ruleset compiled into one block of 32-bit words that the kernel program searches.
//!
//! [`compile()`] makes it, [`Walk`] searches it exactly as `lookup.bpf.h` does, [`decode`] reads the ruleset back.
//! Words are in the byte order of the machine, as the kernel program reads them; a 64-bit value takes two words at an
//! even place. The areas, in order:
//!
//! | area | unit | holds |
//! | --- | --- | --- |
//! | header | [`HEADER_WORDS`] words | [`Header`]: where the areas are, and the constants of the program |
//! | index | words | nodes of direct indexes, and nodes to bisect |
//! | blocks32 | 32 words | 10 intervals over a 32-bit key: 10 keys, then 10 values of 2 words |
//! | blocks128 | 32 words | 5 intervals over a 128-bit key: 5 keys of 4 words, then 5 values of 2 words |
//! | cells | words | port tables of up to 8 ranges (16 words, aligned), and entries of larger searches |
//! | chain | 2 words | ports and next of a prefix that has others inside it |
//! | source | words | the ruleset as it was given; the kernel program never looks here |
//!
//! **A search** finds the interval that a key is in: the intervals are disjoint, cover every key and are stored in
//! order, packed in blocks without gaps. What leads to the right block is an entry: either a run of 1 to 3 neighbouring
//! blocks, or a node. A node is an index over a window of the key's bits, sized to the intervals that it tells apart,
//! or, where those are too crowded for a few levels of indexes, a stretch of blocks to bisect.
//!
//! **A lookup** searches the local address; the interval names the port table of the longest prefix there, and the link
//! to the next shorter one for when no port matches. The port table is searched with the protocol's bit above the port.
//! What is found is a leaf ([`Leaf`]): a verdict, or a further search by source or interface, which ends in a leaf again.

mod compile;
mod conditions;
mod decision;
mod layout;
mod search;
mod source;
mod sweep;
mod tables;
mod walk;

pub use compile::{Image, ImageError, compile};
pub use decision::{Leaf, Outcome};
pub use layout::{FORMAT, HEADER_WORDS, Header, HeaderError, Root};
pub use source::{SourceError, decode};
pub use walk::Walk;
