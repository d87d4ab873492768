//! What the build makes of the BPF programs: a skeleton of each, with the types that C and Rust share.
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_imports,
    dead_code,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::multiple_unsafe_ops_per_block
)]

pub(crate) mod steer {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

pub(crate) mod adopt {
    include!(concat!(env!("OUT_DIR"), "/adopt.skel.rs"));
}

pub(crate) mod marks {
    include!(concat!(env!("OUT_DIR"), "/marks.skel.rs"));
}

pub(crate) mod answers {
    include!(concat!(env!("OUT_DIR"), "/answers.skel.rs"));
}

pub(crate) mod copy {
    include!(concat!(env!("OUT_DIR"), "/copy.skel.rs"));
}
