//! Skips that prove themselves: each names what is missing, and where everything must be there (CI, or INLET_NO_SKIP=1)
//! a skip is a failure.

use std::env;
use std::io::Write;

/// Whether the test can go on: true when `present`. Otherwise notes `SKIP test: missing` on stderr and returns false.
///
/// # Panics
/// When something is missing and CI=true or INLET_NO_SKIP=1 is set.
#[must_use]
pub fn require(present: bool, missing: &str) -> bool {
    if !present {
        let test = test_name();
        assert!(!no_skips(), "{test} may not be skipped here: {missing}");
        // Not eprintln: the test harness would hide the note of a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIP {test}: {missing}");
    }
    present
}

/// Says on stderr what a test leaves out on this machine, as `NOTE test: text`, also when the test passes.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "NOTE {}: {text}", test_name());
}

/// [`require`]s root.
#[must_use]
pub fn require_root() -> bool {
    require(rustix::process::geteuid().is_root(), "root")
}

/// [`require`]s a program in PATH.
#[must_use]
pub fn require_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let present = env::split_paths(&path).any(|directory| directory.join(name).is_file());
    require(present, &format!("program {name}"))
}

/// [`require`]s a kernel feature that was looked for by trying it, and that kernels have since version `since`.
///
/// # Panics
/// When it is missing on a kernel of that version or newer: then the trial, or Inlet, is wrong.
#[must_use]
pub fn require_feature(present: bool, feature: &str, since: (u32, u32)) -> bool {
    let (major, minor) = since;
    let test = test_name();
    assert!(
        present || !kernel_at_least(major, minor),
        "{test}: {feature} not found, though kernels have it since {major}.{minor}"
    );
    require(present, &format!("{feature} (Linux {major}.{minor})"))
}

/// Whether the running kernel is of this version or newer.
///
/// # Panics
/// When the kernel's release does not begin with two numbers.
#[must_use]
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("kernel release");
    let version = parse_release(&release).unwrap_or_else(|| panic!("kernel release {release}"));
    version >= (major, minor)
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

fn no_skips() -> bool {
    let is = |name, value| env::var_os(name).is_some_and(|set| set == value);
    is("CI", "true") || is("INLET_NO_SKIP", "1")
}

fn test_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("test").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(parse_release("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse_release("6.1-rc3"), Some((6, 1)));
        assert_eq!(parse_release("linux"), None);
    }

    #[test]
    #[should_panic(expected = "though kernels have it since 2.6")]
    fn a_feature_that_must_be_there_is_no_skip() {
        let _ = require_feature(false, "sockets", (2, 6));
    }
}
