//! What the gate allows, in one table: what was measured, and how much more is no alarm yet.
//!
//! To renew it after a change that is worth its price: run `make gate` on an x86-64 machine with nothing else to do,
//! and copy what it prints before each `/` into the tables here (the limits themselves follow from the factors). State
//! the reason in the commit. Renew also after an improvement, else the gate lets it be lost again.
//!
//! Measured on x86-64, Linux 6.18.

/// Verified instructions and JIT bytes may be this many times those measured: kernels and compilers differ a little.
pub(super) const PROGRAM_SLACK: f64 = 1.4;

/// The program for a small ruleset of each feature: the instructions that the verifier walked, and the bytes of machine
/// code (compared on x86-64 only).
pub(super) const PROGRAMS: [(&str, u32, u32); 12] = [
    ("IPv4", 1_040, 2_242),
    ("IPv6", 1_226, 2_532),
    ("both families", 1_389, 2_755),
    ("nested prefixes", 11_350, 3_678),
    ("sources", 1_775, 4_124),
    ("interface", 1_056, 2_231),
    ("mark", 1_892, 4_214),
    ("many ports", 1_299, 2_648),
    ("crowded IPv4", 1_651, 3_193),
    ("crowded IPv6", 2_094, 4_282),
    ("bisected", 6_698, 4_478),
    ("everything", 19_357, 6_978),
];

/// Inlet's search against the trie's, hot: the number of rules of the realistic mix, and the most that the ratio may
/// be. Measured 0.24 and 0.04 on an AMD EPYC, 0.76 and 0.06 on an Intel Xeon whose trie of one rule takes 10 ns; the
/// distance is for a machine that does other things too.
pub(super) const RATIOS: [(usize, f64); 2] = [(1, 1.1), (100_000, 0.15)];

/// Image bytes may be this many times those measured. They are the same on every machine.
pub(super) const IMAGE_SLACK: f64 = 1.15;

/// The image of a ruleset.
pub(super) struct Image {
    pub(super) name: &'static str,
    /// Bytes a rule, with the ruleset's source.
    pub(super) bytes: f64,
    /// Whether buckets of IPv4 and IPv6 addresses lead on to more prefixes. No slack.
    pub(super) more: [bool; 2],
    /// Levels of nodes in searches by port, source, interface and crowded addresses. No slack.
    pub(super) levels: u32,
    /// Whether there may be blocks to bisect. No slack.
    pub(super) bisect: bool,
}

/// The realistic mix and the worst cases.
pub(super) const IMAGES: [Image; 7] = [
    Image { name: "mix 100000", bytes: 56.3, more: [true, true], levels: 2, bisect: false },
    Image { name: "host routes 100000", bytes: 41.4, more: [true, false], levels: 0, bisect: false },
    Image { name: "nested 100000", bytes: 107.4, more: [true, false], levels: 0, bisect: false },
    Image { name: "port ranges 10000", bytes: 67.4, more: [false, false], levels: 1, bisect: false },
    Image { name: "one /16 100000", bytes: 20.2, more: [false, false], levels: 0, bisect: false },
    Image { name: "v6 /32 sequential 100000", bytes: 57.1, more: [false, false], levels: 0, bisect: false },
    Image { name: "v6 /32 random 100000", bytes: 86.7, more: [false, true], levels: 1, bisect: false },
];
