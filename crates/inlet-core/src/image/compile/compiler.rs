//! Which compiler made an image. Parts of an image are kept only by the compiler that made it.

/// Which compiler made an image: a hash of its sources (FNV-1a). Parts of an image are kept only by the compiler that made it.
pub(super) const COMPILER: u32 = {
    let mut hash = 0x811c_9dc5;
    let mut file = 0;
    while file < SOURCES.len() {
        let mut at = 0;
        while at < SOURCES[file].len() {
            hash = (hash ^ SOURCES[file][at] as u32).wrapping_mul(0x0100_0193);
            at += 1;
        }
        file += 1;
    }
    hash
};

/// All that has part in what an image holds. `scripts/fences` checks that no file of these folders is missing.
const SOURCES: [&[u8]; 20] = [
    include_bytes!("../mod.rs"),
    include_bytes!("../format/address.rs"),
    include_bytes!("../format/header.rs"),
    include_bytes!("../format/key.rs"),
    include_bytes!("../format/leaf.rs"),
    include_bytes!("../format/mod.rs"),
    include_bytes!("../format/span.rs"),
    include_bytes!("buckets.rs"),
    include_bytes!("compiler.rs"),
    include_bytes!("conditions.rs"),
    include_bytes!("mod.rs"),
    include_bytes!("ranges.rs"),
    include_bytes!("recompile.rs"),
    include_bytes!("search.rs"),
    include_bytes!("sweep.rs"),
    include_bytes!("tables.rs"),
    include_bytes!("write.rs"),
    include_bytes!("../stored/ruleset.rs"),
    include_bytes!("../../rule/prefix.rs"),
    include_bytes!("../../ruleset/entry.rs"),
];
