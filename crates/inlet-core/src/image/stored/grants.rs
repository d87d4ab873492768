//! The grants of a stored ruleset.

use super::words::{SourceError, Words, push_text};
use crate::rule::{Grant, UnitName, UserName};

/// The user and the unit, empty for none; the service; the count of prefixes and their texts; the ports.
pub(super) fn push_grant(words: &mut Vec<u32>, grant: &Grant) {
    push_text(words, grant.user.as_ref().map_or("", UserName::as_str));
    push_text(words, grant.unit.as_ref().map_or("", UnitName::as_str));
    push_text(words, grant.service.as_str());
    words.push(grant.local.len() as u32);
    grant.local.iter().for_each(|prefix| push_text(words, &prefix.to_string()));
    push_text(words, &grant.ports.to_string());
}

pub(super) fn read_grant(words: &mut Words<'_>) -> Result<Grant, SourceError> {
    fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, SourceError> {
        text.parse().map_err(|_| SourceError::Damaged("grants"))
    }
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let user = given(words.text("grants")?).map(|text| parsed(&text)).transpose()?;
    let unit = given(words.text("grants")?).map(|text| parsed(&text)).transpose()?;
    let service = parsed(&words.text("grants")?)?;
    let count = words.take(1, "grants")?[0];
    let mut local = Vec::new();
    for _ in 0..count {
        local.push(parsed(&words.text("grants")?)?);
    }
    Ok(Grant { user, unit, service, local, ports: parsed(&words.text("grants")?)? })
}
