//! Where and when a run was.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::Result;

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
