//! What nft -j list ruleset writes.
#![no_main]

use inlet_import::{Surroundings, tproxy};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(imported) = tproxy(text, &Surroundings::default()) {
        inlet_fuzz::imported(&imported);
    }
});
