//! Everything that one run measured: where and when, the parts, and the goals. Written as JSON.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::goals::Goal;
use crate::machine::Machine;
use crate::{Result, commit, lookup, traffic};

/// One run. A part that was not asked for is not there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lookup: Option<lookup::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<Vec<commit::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) traffic: Option<Vec<traffic::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) described: Option<traffic::described::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answers: Option<traffic::answers::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own_binds: Option<traffic::own::Report>,
    pub(crate) goals: Vec<Goal>,
}

impl Report {
    /// Writes `bench.json` and, when lookups were measured, `lookup.svg`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("bench.json"), serde_json::to_vec_pretty(self)?)?;
        if let Some(lookup) = &self.lookup {
            fs::write(dir.join("lookup.svg"), crate::plot::lookup(lookup, &self.machine))?;
        }
        Ok(())
    }
}
