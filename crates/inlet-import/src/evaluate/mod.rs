//! Who gets which packet: the firewall is asked about every area of packets that its tests can tell apart.
//!
//! First nothing is known of a packet but family and protocol, then its local address, its port, its source, its
//! interface, its mark:
//! each only as far as the outcome depends on it. What remains uncertain at the end is what a ruleset cannot ask.

mod answer;
mod budget;
mod items;
mod marks;
mod state;
mod steer;
mod survey;
mod sweep;
mod table;
mod walk;

pub(crate) use state::{Target, Verdict};
pub(crate) use survey::{Area, tables};
pub(crate) use table::{Fate, Table};
pub(crate) use walk::TOO_MUCH;
