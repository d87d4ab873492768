//! Everything that one run measured: where and when, the parts, and the goals. Written as JSON.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::goals::Goal;
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
    pub(crate) goals: Vec<Goal>,
}

/// Where and when it ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    /// Load averages when the run began: figures are noisy when others work.
    pub(crate) load: String,
    pub(crate) date: String,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Result<Self> {
        let line = |path: &str| -> Result<String> { Ok(fs::read_to_string(path)?.trim().to_owned()) };
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let days = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86400;
        Ok(Self {
            kernel: line("/proc/sys/kernel/osrelease")?,
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            load: line("/proc/loadavg")?,
            date: date(days),
        })
    }
}

/// The date, so many days after 1970-01-01.
fn date(days: u64) -> String {
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= months[month] {
        left -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, left + 1)
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
