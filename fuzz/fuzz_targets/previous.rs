//! The previous ruleset, as a commit keeps it.
#![no_main]

use inlet_core::image::Previous;
use inlet_core::{Plan, Ruleset};
use inlet_fuzz::{changed, everything};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (old, new) = (everything(), Ruleset::empty());
    let previous = Previous::between(&old, &new, &Plan::between(&old, &new)).expect("a previous ruleset");
    let words = changed(previous.to_words(), bytes);
    let _ = Previous::decode_services(&words);
    if let Ok(previous) = Previous::decode(&words) {
        let _ = previous.builder(&new).map(|builder| builder.finish());
    }
});
