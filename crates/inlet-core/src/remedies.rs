//! Finds the remedy of an error whose type is erased.

use std::borrow::Cow;
use std::error::Error;

use crate::config::UnknownChoice;
use crate::image::{HeaderError, ImageError, SourceError};
use crate::rule::{
    DescriptionError, EndpointError, InterfaceNameError, NameError, PortError, PrefixError, ProtocolError, Remedy,
    ServiceError,
};
use crate::ruleset::BuildError;

/// What to do about an error of this crate behind `dyn Error`; `None` for other errors.
pub fn remedy_of<'a>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    fn of<'a, E: Remedy + 'static>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
        error.downcast_ref::<E>()?.remedy()
    }
    let all = [
        of::<ProtocolError>,
        of::<PrefixError>,
        of::<PortError>,
        of::<InterfaceNameError>,
        of::<NameError>,
        of::<ServiceError>,
        of::<DescriptionError>,
        of::<EndpointError>,
        of::<BuildError>,
        of::<ImageError>,
        of::<HeaderError>,
        of::<SourceError>,
        of::<UnknownChoice>,
    ];
    all.into_iter().find_map(|of| of(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Prefix;

    #[test]
    fn an_error_keeps_its_remedy() {
        let error: Box<dyn Error> = Box::new("192.0.2.1/24".parse::<Prefix>().unwrap_err());
        assert_eq!(error.to_string(), "192.0.2.1/24 has host bits set");
        assert_eq!(remedy_of(error.as_ref()).as_deref(), Some("the prefix is 192.0.2.0/24"));
        assert_eq!(remedy_of(&std::fmt::Error), None);
    }
}
