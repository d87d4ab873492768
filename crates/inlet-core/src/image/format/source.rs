//! Where the source of an image is: the ruleset as it was given, which all formats have had in the same form.

use std::ops::Range;

use super::header::{HEADER_WORDS, Header, HeaderError, MAGIC};

/// The format before, whose header is another one.
const FORMAT_1: u32 = 1;

/// Where the source of an image is, also of an image that an earlier version made: so a newer one can take its ruleset
/// over.
pub(crate) fn source_of(image: &[u32]) -> Result<Range<usize>, HeaderError> {
    let source = match image.get(..HEADER_WORDS) {
        // The length of the image, and after six other areas the source.
        Some(words) if words[..2] == MAGIC && words[2] == FORMAT_1 => words[10]..words[3],
        _ => {
            let header = Header::decode(image)?;
            header.source..header.words
        }
    };
    let range = source.start as usize..source.end as usize;
    if range.start >= HEADER_WORDS && range.start <= range.end && range.end <= image.len() {
        Ok(range)
    } else {
        Err(HeaderError::Bounds(image.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_within_the_image() {
        let header = Header { words: 70, source: 66, ..Header::default() };
        let mut image = header.encode().to_vec();
        image.resize(70, 0);
        assert!(matches!(source_of(&image), Err(HeaderError::Bounds(70))), "areas before the header ends");
        (image[2], image[10]) = (FORMAT_1, 66);
        assert_eq!(source_of(&image), Ok(66..70));
        for outside in [63, 71, u32::MAX] {
            image[10] = outside;
            assert_eq!(source_of(&image), Err(HeaderError::Bounds(70)), "{outside}");
        }
        image[10] = 66;
        assert_eq!(source_of(&image[..69]), Err(HeaderError::Bounds(69)));
        image[2] = 9;
        assert_eq!(source_of(&image), Err(HeaderError::Format(9)));
    }
}
