//! Files of prefixes, strict and lenient.
#![no_main]

use std::path::Path;

use inlet_core::Ruleset;
use inlet_core::config::{Source, parse};
use inlet_fuzz::Bare;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let rule = r#"[{ verdict = "refuse", protocol = "tcp", local = "@feed", ports = 80 }]"#;
    for lenient in [false, true] {
        let file = format!("sets.feed = {{ file = \"prefixes.txt\", lenient = {lenient} }}\nrules = {rule}");
        let source = Source::file(Path::new("rules.toml"), file);
        let read = parse(source, &Ruleset::empty(), &mut Bare(text));
        assert!(read.is_ok() || !lenient, "a lenient list has no wrong line");
    }
});
