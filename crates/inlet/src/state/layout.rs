//! Where the state of an instance lies in the bpf filesystem.
//!
//! ```text
//! BPFFS/inlet/netns-COOKIE/          one instance; published and withdrawn by rename
//!     meta  sockets  lanes  counters   maps that outlive generations, as `own-ports` does
//!     flow-key                         the key of the hash that chooses among sockets, for root alone
//!     link                             the one link of the namespace
//!     binds  watch/                    what the watcher is told by, and what it locks
//!     gen-N/image  program  routes     a generation; `routes` is there when Inlet keeps the local routes for it
//!     gen-N/previous  kept-routes      the ruleset before it, and whether Inlet kept the local routes of that one
//!     gen-N/deadline  waiting          by when it has to be confirmed, while it is not, and what the one locks who waits
//!     left-N/                          a generation of an interrupted commit that cannot be finished yet
//!     marks/                           while rules have a mark: how it gets from netfilter to the look-up
//!         slots  ipv4  ipv6                the map that it goes through, and the links to LOCAL_IN
//!     described/                       while services are described: what finds their sockets
//!         refusals                         a map that outlives changes of descriptions
//!         places  find_tcp  find_udp       the programs that go through what exists, and where they put it
//!         changing/                        there while these are being replaced
//!         listen  bind4  bind6  socket     the links to the root of the control groups
//!         own4  own6  name4  name6         those for own binds
//!     gen-N/answers  sticky            the tables of flows that the program has: where they ask, where they stay
//!     answers/                         while it does: what answers leave by
//!         flows  bound  counters  covered  client-ports  asking  clients    the maps of these programs
//!         send4  send6                     the links to the root of the control groups
//!         port  port-INDEX  filter-INDEX   the program for interfaces, and its link to each or another pin of it
//!     answers-before/  sticky/before   there while tables of another size take their place
//!     max-flows                        how many flows fit, when that is not the usual number
//!     sticky/                          while flows over UDP stay on their sockets
//!         stays  counts                    where each one stays, and what was counted
//!         leaving  drained-from            sockets that are being drained, and the service of each
//! BPFFS/inlet/new-COOKIE/            an instance being made
//! BPFFS/inlet/old-COOKIE/            an instance being removed
//! BPFFS/inlet/next-COOKIE/           an instance that takes the place of one of an older format, and then that one
//! ```

use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use super::answer_files::AnswerFiles;
use super::described_files::DescribedFiles;
use super::mark_files::MarkFiles;
use super::pins::is_there;
use super::root::Root;
use super::sticky_files::StickyFiles;
use crate::error::{Error, Result, StateError};
use crate::kernel::Netns;

/// Where the bpf filesystem usually is.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Where an instance is: a bpf filesystem and a network namespace.
#[derive(Clone, Debug)]
pub struct Location {
    bpffs: PathBuf,
    netns: Netns,
}

impl Location {
    /// The instance of `netns` with its state in the bpf filesystem at `bpffs`.
    pub fn new(bpffs: impl Into<PathBuf>, netns: Netns) -> Self {
        Self { bpffs: bpffs.into(), netns }
    }

    /// The instance of the calling thread's namespace, in [`DEFAULT_BPFFS`].
    ///
    /// # Errors
    /// Those of [`Netns::own`].
    pub fn default_for_this_process() -> Result<Self> {
        Ok(Self::new(DEFAULT_BPFFS, Netns::own()?))
    }

    /// The bpf filesystem.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The directory of the published instance.
    pub fn dir(&self) -> PathBuf {
        self.named("netns")
    }

    pub(crate) fn being_made(&self) -> PathBuf {
        self.named("new")
    }

    pub(crate) fn being_removed(&self) -> PathBuf {
        self.named("old")
    }

    /// What takes the place of an instance of an older format; once it has, that instance.
    pub(crate) fn being_taken_over(&self) -> PathBuf {
        self.named("next")
    }

    fn named(&self, stage: &str) -> PathBuf {
        self.root().at(stage, self.netns.cookie())
    }

    /// The directory of all instances.
    pub(crate) fn root(&self) -> Root {
        Root::of(&self.bpffs)
    }

    /// The error that there is no instance.
    pub(crate) fn not_up(&self) -> Error {
        Error::State(StateError::NotUp { netns: self.netns.label().to_owned() })
    }

    /// Checks that the bpf filesystem is one.
    pub(crate) fn check_bpffs(&self) -> Result<()> {
        match statfs(&self.bpffs) {
            Ok(found) if found.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC => Ok(()),
            Err(rustix::io::Errno::ACCESS) => Err(Error::at("look at", &self.bpffs)(rustix::io::Errno::ACCESS)),
            _ => Err(Error::State(StateError::NoBpfFs(self.bpffs.clone()))),
        }
    }
}

/// The files of an instance in its directory.
#[derive(Clone, Debug)]
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    pub(crate) fn meta(&self) -> PathBuf {
        self.0.join("meta")
    }

    pub(crate) fn sockets(&self) -> PathBuf {
        self.0.join("sockets")
    }

    pub(crate) fn lanes(&self) -> PathBuf {
        self.0.join("lanes")
    }

    pub(crate) fn counters(&self) -> PathBuf {
        self.0.join("counters")
    }

    /// The key of the hash that chooses among sockets. Readers get no right to it: who knows it can aim at a socket.
    pub(crate) fn flow_key(&self) -> PathBuf {
        self.0.join("flow-key")
    }

    pub(crate) fn link(&self) -> PathBuf {
        self.0.join("link")
    }

    pub(crate) fn generation(&self, number: u64) -> GenerationFiles {
        GenerationFiles(self.0.join(format!("gen-{number}")))
    }

    pub(crate) fn binds(&self) -> PathBuf {
        self.0.join("binds")
    }

    /// A directory for the watcher to lock.
    pub(crate) fn watch(&self) -> PathBuf {
        self.0.join("watch")
    }

    pub(crate) fn described(&self) -> DescribedFiles {
        DescribedFiles(self.0.join("described"))
    }

    pub(crate) fn marks(&self) -> MarkFiles {
        MarkFiles(self.0.join("marks"))
    }

    pub(crate) fn answers(&self) -> AnswerFiles {
        AnswerFiles(self.0.join("answers"))
    }

    /// Answers by tables of another size, while these are being replaced.
    pub(crate) fn answers_before(&self) -> AnswerFiles {
        AnswerFiles(self.0.join("answers-before"))
    }

    /// How many flows fit, when that is not the usual number.
    pub(crate) fn max_flows(&self) -> PathBuf {
        self.0.join("max-flows")
    }

    pub(crate) fn sticky(&self) -> StickyFiles {
        StickyFiles(self.0.join("sticky"))
    }

    /// The numbers of the generations that are there, in no order.
    pub(crate) fn generations(&self) -> Result<Vec<u64>> {
        self.numbered("gen-")
    }

    /// A generation that was left by an interrupted commit and is not cleared away yet.
    pub(crate) fn left(&self, number: u64) -> GenerationFiles {
        GenerationFiles(self.0.join(format!("left-{number}")))
    }

    /// The numbers of those, in no order.
    pub(crate) fn all_left(&self) -> Result<Vec<u64>> {
        self.numbered("left-")
    }

    fn numbered(&self, prefix: &str) -> Result<Vec<u64>> {
        let entries = std::fs::read_dir(&self.0).map_err(Error::at("read", &self.0))?;
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::at("read", &self.0))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|n| n.parse::<u64>().ok());
            numbers.extend(number);
        }
        Ok(numbers)
    }
}

/// The files of one generation.
#[derive(Clone, Debug)]
pub(crate) struct GenerationFiles(pub(crate) PathBuf);

impl GenerationFiles {
    pub(crate) fn image(&self) -> PathBuf {
        self.0.join("image")
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.0.join("program")
    }

    /// A second pin of the image; that it is there says that Inlet keeps the local routes for this generation.
    pub(crate) fn routes(&self) -> PathBuf {
        self.0.join("routes")
    }

    /// Whether Inlet keeps the local routes for this generation.
    pub(crate) fn keeps_routes(&self) -> Result<bool> {
        is_there(&self.routes())
    }

    /// Whether the program of this generation notes where flows ask.
    pub(crate) fn notes_flows(&self) -> Result<bool> {
        is_there(&self.answers())
    }

    /// Another pin of the table of flows; that it is there says that the program notes where flows ask.
    pub(crate) fn answers(&self) -> PathBuf {
        self.0.join("answers")
    }

    /// Another pin of the table of flows that stay, which the program of this generation has.
    pub(crate) fn sticky(&self) -> PathBuf {
        self.0.join("sticky")
    }

    /// The ruleset before this generation.
    pub(crate) fn previous(&self) -> PathBuf {
        self.0.join("previous")
    }

    /// A second pin of that; that it is there says that Inlet kept the local routes of that ruleset.
    pub(crate) fn kept_routes(&self) -> PathBuf {
        self.0.join("kept-routes")
    }

    /// A directory for the process that waits for confirmation to lock; readers may not open it.
    pub(crate) fn waiting(&self) -> PathBuf {
        self.0.join("waiting")
    }

    /// By when the generation has to be confirmed.
    pub(crate) fn deadline(&self) -> PathBuf {
        self.0.join("deadline")
    }
}
