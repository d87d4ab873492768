//! The bindings of tubular.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(imported) = inlet_import::tubular(text) {
        inlet_fuzz::imported(&imported);
    }
});
