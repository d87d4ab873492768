//! A ruleset file that was translated from the rules of another tool.

use inlet_import::{Imported, Left};
use serde_json::json;

use super::Screen;
use crate::failure::Failure;

/// Writes the file; for programs, the ruleset as JSON and what could not be translated.
pub(crate) fn imported(screen: &mut Screen<'_>, imported: &Imported) -> Result<(), Failure> {
    if !screen.json {
        return Ok(imported.write_toml(&mut screen.out)?);
    }
    let left = |left: &Left| json!({ "place": left.place, "text": left.text, "why": left.why, "todo": left.todo });
    let left: Vec<_> = imported.left.iter().map(left).collect();
    screen.document(&json!({ "ruleset": imported.to_json(), "left": left }))
}
