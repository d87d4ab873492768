//! What is pinned in the bpf filesystem: where it lies, who may read it, the maps that outlive generations, which
//! generation is in force and what is kept beside it. Nothing here knows what a writer or a reader does with it.

mod answer_files;
mod answers;
mod counters;
mod deadline;
mod described_files;
mod flow_key;
mod flow_table;
mod frozen;
mod hook;
mod in_force;
mod instances;
mod layout;
mod limits;
mod lock;
mod map;
mod maps;
mod mark_files;
mod older;
mod own_ports;
mod pins;
mod previous;
mod readers;
mod stay;
mod sticky;
mod sticky_files;

pub use self::answers::AnswerCounters;
pub use self::counters::Counters;
pub use self::deadline::Pending;
pub use self::flow_table::FlowTable;
pub use self::hook::{Hook, HookProgram, Steering};
pub use self::instances::{Listed, list};
pub use self::layout::{DEFAULT_BPFFS, Location};

pub(crate) use self::answer_files::AnswerFiles;
pub(crate) use self::answers::{AnswerMaps, answer_counters, answer_table, set_covered};
pub(crate) use self::deadline::{deadline, deadline_of, now, pending};
pub(crate) use self::described_files::DescribedFiles;
pub(crate) use self::flow_key::FlowKey;
pub(crate) use self::flow_table::map_id;
pub(crate) use self::frozen::{create_frozen, map_words, read_words};
pub(crate) use self::in_force::{generation_in_force, generations, open_link, read_ruleset, ruleset_in_force};
pub(crate) use self::layout::{Files, GenerationFiles};
pub(crate) use self::limits::{USUAL_FLOWS, max_flows, set_max_flows};
pub(crate) use self::lock::{Exclusive, Shared, Waiting, holders_of};
pub(crate) use self::map::{Access, create, create_keyed, open_map};
pub(crate) use self::maps::{LANES_PER_SERVICE, Maps, wait_for_packets};
pub(crate) use self::mark_files::MarkFiles;
pub(crate) use self::older::Older;
pub(crate) use self::own_ports::{OwnPorts, default_own_ports};
pub(crate) use self::pins::{is_there, remove_all};
pub(crate) use self::previous::{keep as keep_previous, open as open_previous};
pub(crate) use self::readers::Readers;
pub(crate) use self::stay::FlowEnds;
pub(crate) use self::sticky::{Stays, StickyMaps, flow_time, leaving_sockets};
