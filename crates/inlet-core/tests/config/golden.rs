//! Files of a thousand lines with twelve different mistakes: twelve errors, each where the mistake is.

use crate::parse;

/// The errors that `mistakes.NOTATION` must give are in `mistakes.NOTATION.errors`, written down when the mistakes were
/// made.
fn check(name: &str, text: &str, errors: &str) {
    assert_eq!(text.lines().count(), 1000);
    let told = parse(name, text).unwrap_err();
    assert_eq!(errors.lines().count(), 12);
    assert_eq!(told.lines().collect::<Vec<_>>(), errors.lines().collect::<Vec<_>>());
}

#[test]
fn toml() {
    check("mistakes.toml", include_str!("../golden/mistakes.toml"), include_str!("../golden/mistakes.toml.errors"));
}

#[test]
fn json() {
    check("mistakes.json", include_str!("../golden/mistakes.json"), include_str!("../golden/mistakes.json.errors"));
}
