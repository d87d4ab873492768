//! What ss and ip route write.
#![no_main]

use inlet_import::{listeners, receivers, routed_prefixes};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (sockets, routes) = text.split_once("\n\n").unwrap_or((text, "local 192.0.2.0/24 dev lo"));
    if let Ok(listeners) = listeners(sockets) {
        inlet_fuzz::imported(&receivers(&listeners, &routed_prefixes(routes)));
    }
});
