//! The commands of README and docs do what these show: `scripts/check-docs` runs each of them.
#![allow(clippy::unwrap_used, reason = "what fails here is the failure of a test")]

use std::path::Path;
use std::process::Command;

use inlet_testkit::require_root;

#[test]
fn commands_do_what_the_docs_show() {
    if !require_root() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/check-docs");
    let output = Command::new("bash").arg(script).args(["--inlet", env!("CARGO_BIN_EXE_inlet")]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
