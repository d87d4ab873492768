//! Identifies the compiler that made an image. Recompiling keeps parts of an image only when this compiler made it.

/// A hash of the compiler's sources (FNV-1a).
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

/// All files that decide what an image holds. `scripts/fences` checks that none of these folders is missing.
const SOURCES: [&[u8]; 21] = [
    include_bytes!("../mod.rs"),
    include_bytes!("../format/address.rs"),
    include_bytes!("../format/header.rs"),
    include_bytes!("../format/key.rs"),
    include_bytes!("../format/leaf.rs"),
    include_bytes!("../format/source.rs"),
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
