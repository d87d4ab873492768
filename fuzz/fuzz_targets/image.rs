//! Images. They lie in maps that only root can write, and are read with care even so.
#![no_main]

use inlet_core::Plan;
use inlet_core::image::{Header, compile, decode};
use inlet_fuzz::{changed, everything};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = everything();
    let words = changed(compile(&whole).expect("an image").to_words(), bytes);
    let _ = Header::decode(&words);
    if let Ok(ruleset) = decode(&words) {
        // What was read can be compared with another one, and compiled.
        let _ = Plan::between(&whole, &ruleset);
        let _ = compile(&ruleset);
    }
});
