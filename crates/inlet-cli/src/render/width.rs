//! How wide output may be, and texts and columns that fit.

use std::io::{self, IsTerminal as _};

/// Narrower than this nothing is made: a table needs a few characters a column.
const NARROWEST: usize = 40;

/// For output that is laid out in any case.
pub(super) const IN_A_PIPE: usize = 120;

/// The width of the terminal, or what COLUMNS says. A pipe or file without COLUMNS has no limit.
pub(crate) fn width() -> Option<usize> {
    let given = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 0);
    let terminal = || Some(usize::from(terminal_size::terminal_size_of(io::stdout())?.0.0));
    let found = given().or_else(|| if io::stdout().is_terminal() { terminal() } else { None });
    found.map(|columns: usize| columns.max(NARROWEST))
}

/// A text in lines of at most this width, broken at blanks, after commas and, where a word is longer, inside of it.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_inclusive([' ', ',']) {
        let is_broken = used > 0 && used + word.trim_end().chars().count() > width;
        if is_broken {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
            used = 0;
        }
        // A blank at which a line was broken is not part of the next.
        let word = if is_broken && word == " " { "" } else { word };
        for c in word.chars() {
            if used == width && c != ' ' {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += 1;
        }
    }
    lines.push(line);
    lines
}

/// Makes the widest columns narrower until all of them have room.
pub(super) fn fit(widths: &mut [usize], room: usize) {
    loop {
        let excess = widths.iter().sum::<usize>().saturating_sub(room);
        let Some(widest) = widths.iter().copied().max().filter(|widest| excess > 0 && *widest > 1) else { return };
        let next = widths.iter().copied().filter(|width| *width < widest).max().unwrap_or(0);
        let wide = widths.iter().filter(|width| **width == widest).count();
        // All of the widest give up the same, until they are no wider than the next.
        let less = excess.div_ceil(wide).min(widest - next).min(widest - 1);
        widths.iter_mut().filter(|width| **width == widest).for_each(|width| *width -= less);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_broken_at_blanks() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("192.0.2.0/24, 198.51.100.0/24", 14), ["192.0.2.0/24,", "198.51.100.0/2", "4"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped("ééé é", 3), ["ééé", "é"]);
        assert_eq!(wrapped("80,443,8080", 6), ["80,", "443,", "8080"]);
        assert_eq!(wrapped("80, 443, 8080", 8), ["80, 443,", "8080"]);
        for width in 1..20 {
            for line in wrapped("one, two three,four  five sixteen", width) {
                assert!(line.trim_end().chars().count() <= width, "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn the_widest_columns_give_way() {
        let fitted = |mut widths: Vec<usize>, room| {
            fit(&mut widths, room);
            widths
        };
        assert_eq!(fitted(vec![3, 40, 5], 60), [3, 40, 5]);
        assert_eq!(fitted(vec![3, 40, 5], 28), [3, 20, 5]);
        assert_eq!(fitted(vec![3, 40, 30], 43), [3, 20, 20]);
        assert!(fitted(vec![100; 6], 34).iter().sum::<usize>() <= 34);
    }
}
