//! The values of the command line.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use inlet_core::{
    CgroupPath, Endpoint, InterfaceName, Listen, OnMissing, PortRange, Ports, Prefix, Protocol, ServiceName, Spread,
    UnitName, UserName,
};

/// What is read from a text is written as one that is read as the same.
fn round<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value), "{text:?} becomes another value");
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    round::<Prefix>(text);
    round::<PortRange>(text);
    round::<Listen>(text);
    round::<Endpoint>(text);
    round::<ServiceName>(text);
    round::<InterfaceName>(text);
    round::<OnMissing>(text);
    round::<Spread>(text);
    round::<Protocol>(text);
    round::<Ports>(text);
    let _ = (text.parse::<UnitName>(), text.parse::<CgroupPath>(), text.parse::<UserName>());
});
