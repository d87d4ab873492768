//! Ruleset files in TOML.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| inlet_fuzz::ruleset_file("rules.toml", text));
