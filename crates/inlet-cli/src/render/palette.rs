//! Colours, on a terminal only. NO_COLOR and CLICOLOR_FORCE are heeded as anstream does.

use std::fmt::{self, Display};
use std::io::StdoutLock;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// How things are painted; without colour everything is plain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Palette {
    pub(crate) heading: Style,
    pub(crate) good: Style,
    pub(crate) bad: Style,
    pub(crate) changed: Style,
}

/// A text in a style.
pub(crate) struct Painted<T>(Style, T);

impl Palette {
    pub(crate) fn of(stdout: &StdoutLock<'_>) -> Self {
        match AutoStream::choice(stdout) {
            ColorChoice::Never => Self::default(),
            _ => Self {
                heading: Style::new().bold(),
                good: AnsiColor::Green.on_default(),
                bad: AnsiColor::Red.on_default(),
                changed: AnsiColor::Yellow.on_default(),
            },
        }
    }
}

pub(crate) fn paint<T: Display>(style: Style, text: T) -> Painted<T> {
    Painted(style, text)
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.0.render(), self.1, self.0.render_reset())
    }
}
