//! Names that other users chose, such as those of processes: nothing in them moves a cursor, ends a line or hides.

use std::fmt::Write as _;

/// A name as it can be shown: what is no text, and characters that are not seen as themselves, are spelled out.
pub(crate) fn shown(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_plain(c) {
                true => text.push(c),
                false => text.extend(c.escape_default()),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether a character is seen as what it is: neither a control character, nor one that formats or parts lines.
fn is_plain(c: char) -> bool {
    let formats = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !formats
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn names_are_one_line_of_plain_characters() {
        let cases: [(&[u8], &str); 7] = [
            (b"nginx: worker", "nginx: worker"),
            (b"x\nservice evil", "x\\nservice evil"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            (b"\xff\xfe\x80raw", "\\xff\\xfe\\x80raw"),
            ("\u{202e}abc".as_bytes(), "\\u{202e}abc"),
            (b"\xc2\x9b31m", "\\u{9b}31m"),
            ("gr\u{fc}n\u{2028}".as_bytes(), "gr\u{fc}n\\u{2028}"),
        ];
        for (name, expected) in cases {
            assert_eq!(shown(name), expected, "{name:?}");
        }
    }
}
