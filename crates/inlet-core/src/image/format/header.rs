//! The header of an image, and 64-bit values in words.

use std::borrow::Cow;

use super::Span;
use crate::rule::Remedy;

/// How many words the header takes.
pub const HEADER_WORDS: usize = 64;

/// The number of the format. An image with another number cannot be read.
pub const FORMAT: u32 = 2;

/// The number of an image with rules that have a mark, which programs that know no marks must not read. All else is as
/// in [`FORMAT`].
pub const FORMAT_WITH_MARKS: u32 = 3;

pub(super) const MAGIC: [u32; 2] = [u32::from_le_bytes(*b"inle"), u32::from_le_bytes(*b"tImg")];

/// The root of the search over local addresses of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// How many pieces the range of all prefixes has, each with a window. 0: there is one bucket and no window.
    pub pieces: u32,
    /// How far the address is shifted right to give the piece.
    pub shift: u32,
    /// 1 when the low 64 bits of the address tell the pieces apart, 0 when the high ones do, and for IPv4.
    pub low_half: u32,
    /// The value of these bits where the first piece begins.
    pub first: u64,
    /// The high 64 bits of all addresses of the pieces, when `low_half` is 1.
    pub high: u64,
    /// The offset of the windows. The first one is for addresses outside of all pieces.
    pub windows: u32,
    /// The offset of the buckets.
    pub buckets: u32,
    /// 1 when some bucket leads on to more prefixes.
    pub more: u32,
    /// 1 when this family has a rule.
    pub used: u32,
}

/// The offsets of all areas, and the constants of the program. Offsets are in words from the start of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The length of the image in words.
    pub words: u32,
    /// The length in words of the part that the kernel program searches.
    pub search_words: u32,
    /// A mask that makes any number an offset in that part or right behind it, within the image. 0: there is no such
    /// mask.
    pub search_mask: u32,
    /// The offset of the index area.
    pub index: u32,
    /// The offset of the blocks of 32-bit keys.
    pub blocks32: u32,
    /// The offset of the blocks of 128-bit keys. Behind them are windows and buckets, whose offsets the roots have.
    pub blocks128: u32,
    /// The offset of the cells.
    pub cells: u32,
    /// The offset of the ranges of ports.
    pub ranges: u32,
    /// The offset of the chain.
    pub chain: u32,
    /// The offset of the source.
    pub source: u32,
    /// The most prefixes that one lookup goes through.
    pub hops: u32,
    /// The most conditions that are searched for one port.
    pub steps: u32,
    /// The most levels of nodes in a search for ports, conditions or crowded addresses.
    pub levels: u32,
    /// The kinds of port tables that exist: a sum of [`HAS_ONE`](super::HAS_ONE) and its neighbours.
    pub port_tables: u32,
    /// 1 when some node is to be bisected.
    pub bisect: u32,
    /// The hash of the compiler that made it. The kernel program does not use it.
    pub compiler: u32,
    /// `search_words` of the last image that was compiled whole. What recompiling has replaced since is still in this
    /// image, unused.
    pub whole_words: u32,
    /// 1 when some search is by mark.
    pub marks: u32,
    /// The local IPv4 addresses.
    pub v4: Root,
    /// The local IPv6 addresses.
    pub v6: Root,
}

/// Why words are not an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The words do not start like an image.
    #[error("not an image of Inlet")]
    Magic,
    /// The image has another format.
    #[error("image format {0} is neither {FORMAT} nor {FORMAT_WITH_MARKS}, which this program reads")]
    Format(u32),
    /// The image is shorter than it says, or its areas do not lie within it.
    #[error("image is damaged: its parts do not lie within its {0} words")]
    Bounds(usize),
}

impl Remedy for HeaderError {
    fn remedy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Format(_) => Some("take it down, bring it up and apply the rules again".into()),
            Self::Magic | Self::Bounds(_) => None,
        }
    }
}

impl Header {
    /// The header in words.
    pub fn encode(&self) -> [u32; HEADER_WORDS] {
        let mut words = [0; HEADER_WORDS];
        words[..2].copy_from_slice(&MAGIC);
        words[2] = if self.marks == 0 { FORMAT } else { FORMAT_WITH_MARKS };
        let mut header = *self;
        header.fields().into_iter().zip(&mut words[3..]).for_each(|(field, word)| *word = *field);
        self.v4.encode(&mut words[24..36]);
        self.v6.encode(&mut words[36..48]);
        words
    }

    /// Reads the header at the start of an image.
    ///
    /// # Errors
    /// [`HeaderError`] when the words do not start with a header, or its areas are not within the image and in order.
    pub fn decode(image: &[u32]) -> Result<Self, HeaderError> {
        let Some(words) = image.get(..HEADER_WORDS) else { return Err(HeaderError::Magic) };
        if words[..2] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if !matches!(words[2], FORMAT | FORMAT_WITH_MARKS) {
            return Err(HeaderError::Format(words[2]));
        }
        let (v4, v6) = (Root::decode(&words[24..36]), Root::decode(&words[36..48]));
        let mut header = Self { v4, v6, ..Self::default() };
        header.fields().into_iter().zip(&words[3..]).for_each(|(field, word)| *field = *word);
        if !header.areas().is_sorted() || header.words as usize > image.len() {
            return Err(HeaderError::Bounds(image.len()));
        }
        Ok(header)
    }

    /// The fields in the order of their words.
    fn fields(&mut self) -> [&mut u32; 18] {
        [
            &mut self.words,
            &mut self.search_words,
            &mut self.index,
            &mut self.blocks32,
            &mut self.blocks128,
            &mut self.cells,
            &mut self.ranges,
            &mut self.chain,
            &mut self.source,
            &mut self.hops,
            &mut self.steps,
            &mut self.levels,
            &mut self.port_tables,
            &mut self.bisect,
            &mut self.compiler,
            &mut self.whole_words,
            &mut self.search_mask,
            &mut self.marks,
        ]
    }

    /// The offsets of all areas, and the end, in the order in which they must ascend.
    fn areas(&self) -> [u32; 14] {
        let Self { words, search_words, index, blocks32, blocks128, v4, v6, cells, ranges, chain, source, .. } = *self;
        [
            HEADER_WORDS as u32,
            index,
            blocks32,
            blocks128,
            v4.windows,
            v6.windows,
            v4.buckets,
            v6.buckets,
            cells,
            ranges,
            chain,
            search_words,
            source,
            words,
        ]
    }
}

impl Root {
    /// The range of all prefixes; without pieces when there is no window.
    pub(crate) fn span(&self) -> Span {
        let high = (self.low_half != 0).then_some(self.high);
        Span { first: self.first, shift: self.shift, pieces: self.pieces, high }
    }

    fn encode(&self, words: &mut [u32]) {
        let Self { pieces, shift, low_half, first, high, windows, buckets, more, used } = *self;
        words[..4].copy_from_slice(&[pieces, shift, low_half, used]);
        words[4..6].copy_from_slice(&to_words(first));
        words[6..8].copy_from_slice(&to_words(high));
        words[8..11].copy_from_slice(&[windows, buckets, more]);
    }

    fn decode(words: &[u32]) -> Self {
        Self {
            pieces: words[0],
            shift: words[1],
            low_half: words[2],
            used: words[3],
            first: from_words(words[4], words[5]),
            high: from_words(words[6], words[7]),
            windows: words[8],
            buckets: words[9],
            more: words[10],
        }
    }
}

/// The two words of a 64-bit value, in memory order.
pub(crate) fn to_words(value: u64) -> [u32; 2] {
    let (low, high) = (value as u32, (value >> 32) as u32);
    if cfg!(target_endian = "little") { [low, high] } else { [high, low] }
}

/// The 64-bit value of two words in memory order.
pub(crate) fn from_words(first: u32, second: u32) -> u64 {
    let (low, high) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_words() {
        let v4 = Root {
            pieces: 9,
            shift: 2,
            low_half: 1,
            first: 1 << 40,
            high: 7,
            windows: 64,
            buckets: 64,
            more: 1,
            used: 1,
        };
        let header = Header {
            words: 70,
            search_words: 64,
            index: 64,
            blocks32: 64,
            blocks128: 64,
            cells: 64,
            ranges: 64,
            chain: 64,
            source: 64,
            v4,
            hops: 1,
            steps: 2,
            levels: 3,
            port_tables: 4,
            bisect: 5,
            compiler: 6,
            whole_words: 7,
            search_mask: 8,
            marks: 1,
            v6: Root { windows: 64, buckets: 64, ..Root::default() },
        };
        let mut image = header.encode().to_vec();
        image.resize(70, 0);
        assert_eq!(Header::decode(&image), Ok(header));
        assert_eq!(Header::decode(&image[..66]), Err(HeaderError::Bounds(66)));
        assert_eq!(image[2], FORMAT_WITH_MARKS);
        assert_eq!(Header { marks: 0, ..header }.encode()[2], FORMAT);
        image[2] = 9;
        assert_eq!(Header::decode(&image), Err(HeaderError::Format(9)));
    }
}
