//! Where what answers over UDP leave by lies in the directory of an instance.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// The files of what answers leave by.
#[derive(Clone, Debug)]
pub(crate) struct AnswerFiles(pub(crate) PathBuf);

impl AnswerFiles {
    pub(crate) fn flows(&self) -> PathBuf {
        self.0.join("flows")
    }

    pub(crate) fn bound(&self) -> PathBuf {
        self.0.join("bound")
    }

    pub(crate) fn counters(&self) -> PathBuf {
        self.0.join("counters")
    }

    /// Which interfaces have the program that sets ports.
    pub(crate) fn covered(&self) -> PathBuf {
        self.0.join("covered")
    }

    /// How often a flow asked elsewhere than before.
    pub(crate) fn changes(&self) -> PathBuf {
        self.0.join("changes")
    }

    /// What the programs for sends hand to the program that sets ports.
    pub(crate) fn handed(&self) -> PathBuf {
        self.0.join("handed")
    }

    /// At which ports questions of clients are noted.
    pub(crate) fn client_ports(&self) -> PathBuf {
        self.0.join("client-ports")
    }

    /// From which ports clients asked.
    pub(crate) fn asking(&self) -> PathBuf {
        self.0.join("asking")
    }

    /// What clients asked.
    pub(crate) fn clients(&self) -> PathBuf {
        self.0.join("clients")
    }

    /// The link of a program at the root of the control groups.
    pub(crate) fn send(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The program for interfaces.
    pub(crate) fn port(&self) -> PathBuf {
        self.0.join("port")
    }

    /// The link of that program to the interface of this index.
    pub(crate) fn interface(&self, index: u32) -> PathBuf {
        self.0.join(format!("port-{index}"))
    }

    /// A pin of that program, which is a filter of the interface of this index: kernels before 6.6 have no link for it.
    pub(crate) fn filtered(&self, index: u32) -> PathBuf {
        self.0.join(format!("filter-{index}"))
    }

    /// Whether there is anything of it.
    pub(crate) fn are_there(&self) -> Result<bool> {
        self.0.try_exists().map_err(Error::at("look at", &self.0))
    }

    /// The indexes of the interfaces that have links or filters, in no order. What is not there has none.
    pub(crate) fn interfaces(&self) -> Result<Vec<u32>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::at("read", &self.0))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::at("read", &self.0))?.file_name();
            found.extend(name.to_str().and_then(|name| name.split_once('-')?.1.parse::<u32>().ok()));
        }
        Ok(found)
    }
}
