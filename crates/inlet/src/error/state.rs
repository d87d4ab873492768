//! What can be wrong with an instance and where it is kept.

use std::borrow::Cow;
use std::path::PathBuf;

use inlet_core::Remedy;
use inlet_core::image::SourceError;

use super::Error;
use super::texts::{by_whom, quoted_path, take_back, wait_for};

/// What is wrong with an instance, or with where it is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The directory is no bpf filesystem.
    #[error("no bpf filesystem at {0}")]
    NoBpfFs(PathBuf),
    /// The directory of all instances is not only ours to change.
    #[error("{path} belongs to user {owner} and has mode {mode:04o}, so that others can replace an instance")]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// Others kept the instance locked for longer than Inlet waits.
    #[error("{path} has been in use for {seconds} seconds{}", by_whom(holders))]
    Busy {
        /// The directory that is locked.
        path: PathBuf,
        /// How long Inlet waited.
        seconds: u64,
        /// The processes that have it locked, as far as we may see them.
        holders: Vec<u32>,
    },
    /// There is no instance for the namespace.
    #[error("inlet is not up in {netns}")]
    NotUp {
        /// The namespace.
        netns: String,
    },
    /// There is an instance already.
    #[error("inlet is already up in {netns}")]
    AlreadyUp {
        /// The namespace.
        netns: String,
    },
    /// The state was written by a newer version.
    #[error("{path}: state format {found} is newer than {known}, which this inlet reads")]
    Newer {
        /// The directory of the instance.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// The state was written by an older version.
    #[error("{path}: state format {found} is older than {known}, which this inlet reads")]
    Older {
        /// The directory of the instance.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// The link does not steer anything any more.
    #[error("{path}: the link is detached from its namespace, so no packet is steered")]
    Detached {
        /// The directory of the instance.
        path: PathBuf,
    },
    /// The pin of the link was removed, and the link with it unless a process has it open.
    #[error("{path} is gone, so {}", if *held { "packets are steered only until the process ends that has the link open" } else { "no packet is steered" })]
    LinkGone {
        /// The pin of the link.
        path: PathBuf,
        /// Whether a process has the link open.
        held: bool,
    },
    /// The link runs a program that no generation of this instance has.
    #[error("{path}: the link runs program {program}, which inlet did not put there")]
    ForeignProgram {
        /// The pin of the link.
        path: PathBuf,
        /// The number of the program.
        program: u32,
    },
    /// A commit was interrupted, and the caller may not see which generation is in force.
    #[error("{path}: a commit was interrupted")]
    Interrupted {
        /// The directory of the instance.
        path: PathBuf,
    },
    /// An image or what is kept of a previous ruleset cannot be read.
    #[error("{path}: {source}")]
    Damaged {
        /// The pin.
        path: PathBuf,
        /// What is wrong.
        source: SourceError,
    },
    /// Another map is pinned where one of the instance's belongs.
    #[error("{path} is another map than inlet pins there: {found}; expected: {expected}")]
    OtherMap {
        /// The pin.
        path: PathBuf,
        /// What the map is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The instance was made and is in force, and then it could not be opened.
    #[error("inlet is up ({path}), but the instance cannot be opened: {cause}")]
    UpUnopened {
        /// The directory of the instance.
        path: PathBuf,
        /// What failed.
        #[source]
        cause: Box<Error>,
    },
    /// There is no such group.
    #[error("unknown group {0:?}")]
    UnknownGroup(String),
    /// The number of flows is out of range.
    #[error("--max-flows {given} is out of range")]
    MaxFlows {
        /// What was given.
        given: u32,
        /// The fewest possible.
        min: u32,
        /// The most possible.
        max: u32,
    },
    /// The number of sockets is out of range.
    #[error("--max-sockets {given} is out of range")]
    MaxSockets {
        /// What was given.
        given: u32,
        /// The most possible.
        max: u32,
    },
}

/// How an instance gets its link back.
const BEGIN_ANEW: &str = "begin anew: inlet export > rules.json; inlet down; inlet up; inlet apply rules.json; \
    then register again what was registered by hand";

/// How an older version takes the place of a newer one.
const GO_BACK: &str = "use the newer inlet; or go back to this one: NEWER-INLET export > rules.json (or take \
    /var/lib/inlet/before-downgrade.json, where a package kept it); inlet down; inlet up; inlet apply rules.json; \
    then register again what was registered by hand";

impl StateError {
    pub(super) fn remedy(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::NoBpfFs(path) => format!("mount -t bpf -o mode=0755 bpf {}", quoted_path(path)).into(),
            Self::Untrusted { path, owner, .. } => take_back(path, *owner).into(),
            Self::Busy { path, holders, .. } => wait_for(path, holders),
            Self::NotUp { .. } => "inlet up".into(),
            Self::AlreadyUp { .. } => "look at it with: inlet status".into(),
            Self::Newer { .. } => GO_BACK.into(),
            Self::Older { .. } => "take it over, while packets go on being steered, with: inlet up".into(),
            Self::LinkGone { .. } => BEGIN_ANEW.into(),
            Self::Detached { .. } => "remove what is left with: inlet down".into(),
            Self::ForeignProgram { program, .. } => format!(
                "look at the program with: bpftool prog show id {program}; remove the instance with: inlet down"
            )
            .into(),
            Self::OtherMap { .. } => {
                "inlet down; then begin anew with: inlet up, and inlet apply FILE with the rules that you have".into()
            }
            Self::Interrupted { .. } => "finish it as root with: inlet up".into(),
            Self::UnknownGroup(_) => "list the groups with: getent group".into(),
            Self::MaxFlows { min, max, .. } => format!("give {min} to {max}").into(),
            Self::MaxSockets { max, .. } => format!("give 1 to {max}").into(),
            Self::UpUnopened { .. } => "look at it with: inlet status".into(),
            Self::Damaged { source, .. } => return source.remedy(),
        })
    }
}
