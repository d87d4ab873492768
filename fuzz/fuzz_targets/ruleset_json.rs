//! Ruleset files in JSON, read the fast way and the slow one.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| inlet_fuzz::ruleset_file("rules.json", text));
