//! Suggests the name that was probably meant.

/// The nearest of the names, when it is near enough to be a typing mistake.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
    let (distance, nearest) = known.into_iter().map(|known| (distance(known), known)).min_by_key(|(d, _)| *d)?;
    (distance <= 1.max(name.chars().count().max(nearest.chars().count()) / 3)).then_some(nearest)
}

/// `did you mean "ports"?`, or all names when none is near.
pub(super) fn suggestion<'a>(
    name: &str,
    what: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(nearest) = nearest(name, known.clone()) {
        return Some(format!("did you mean {nearest:?}?"));
    }
    let all: Vec<&str> = known.into_iter().take(10).collect();
    (!all.is_empty()).then(|| format!("{what}: {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let keys = ["protocol", "local", "ports", "except"];
        for (slip, meant) in [("port", "ports"), ("Local", "local"), ("protcol", "protocol"), ("excpet", "except")] {
            assert_eq!(nearest(slip, keys), Some(meant), "{slip}");
        }
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(suggestion("colour", "keys", ["to", "local"]).unwrap(), "keys: to, local");
        assert_eq!(suggestion("x", "sets", []), None);
    }
}
