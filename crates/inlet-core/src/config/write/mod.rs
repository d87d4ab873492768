//! Writing a ruleset: one rule a line, in address order, so that two exports can be compared line by line.

mod json;
mod toml;

pub use json::{rule_json, write};
pub use toml::write_toml;
