//! What people and programs read. Text or JSON to a writer; nothing is asked or decided here.

mod adoption;
mod answers;
mod area;
mod check;
mod described;
mod diagnostics;
mod draining;
mod explain;
mod granted;
mod hook;
mod import;
mod instances;
mod join;
mod listeners;
mod palette;
mod plan;
mod printable;
mod rules;
mod screen;
mod socket;
mod status;
mod table;
mod traffic;
mod warnings;
mod width;

pub(crate) use adoption::{adoption, unregistered};
pub(crate) use check::checkup;
pub(crate) use described::findings;
pub(crate) use diagnostics::{diagnostics, errors};
pub(crate) use draining::{draining, left};
pub(crate) use explain::{Question, explanation};
pub(crate) use granted::granted;
pub(crate) use import::imported;
pub(crate) use instances::instances;
pub(crate) use listeners::listeners;
pub(crate) use palette::Palette;
pub(crate) use plan::{applied, committed, confirmed, proposal};
pub(crate) use printable::printable;
pub(crate) use rules::rules;
pub(crate) use screen::Screen;
pub(crate) use status::{Overview, Place, down, services, status, up};
pub(crate) use width::width;

/// A count with its noun.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count as u64))
}

/// A number for people: 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators() {
        let numbers = [0, 999, 1000, 65_535, 1_234_567, u64::MAX].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "65,535", "1,234,567", "18,446,744,073,709,551,615"]);
        assert_eq!([counted(1, "rule"), counted(2000, "rule")], ["1 rule", "2,000 rules"]);
    }
}
