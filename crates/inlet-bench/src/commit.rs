//! What a commit costs: the `inlet` program as a whole, and the library step by step.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use inlet::rules::config::Source;
use inlet::rules::{Plan, image};
use inlet::{CommitOptions, Instance, Location, Netns, UpOptions};
use inlet_testkit::World;
use libbpf_rs::{MapHandle, MapType};
use serde::Serialize;

use crate::Result;
use crate::args::Cli;
use crate::baseline::map_memory;
use crate::budget::Budget;
use crate::launch::{Inlet, Took};
use crate::raw;
use crate::rules::{self, Families, RuleSet, SERVICES, service_name};
use crate::stats::{Spread, median};
use crate::table;

/// Milliseconds of each step in the library.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Steps {
    /// Reading the text, sorting and looking for conflicts.
    pub(crate) parse: f64,
    /// The difference to what was in force.
    pub(crate) plan: f64,
    pub(crate) compile: f64,
    pub(crate) fill: f64,
    /// What is left of a whole commit: loading the program, pinning, swapping.
    pub(crate) load_and_swap: f64,
}

impl Steps {
    /// Compile, fill, load and swap.
    pub(crate) fn in_force(&self) -> f64 {
        self.compile + self.fill + self.load_and_swap
    }
}

/// What was measured with one ruleset; milliseconds of whole processes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) rules: usize,
    pub(crate) apply: Spread,
    pub(crate) apply_peak_mb: f64,
    pub(crate) one_more: Spread,
    pub(crate) unchanged: Spread,
    pub(crate) list: Spread,
    pub(crate) list_bytes: u64,
    pub(crate) steps: Steps,
    /// Bytes of kernel memory a rule: the image alone, and all maps and programs of the instance.
    pub(crate) image_per_rule: f64,
    pub(crate) kernel_per_rule: f64,
    /// Peak bytes of the process a rule.
    pub(crate) process_per_rule: f64,
}

/// Measures the sizes, in this time.
pub(crate) fn run(cli: &Cli, time: Budget<'_>) -> Result<Vec<Row>> {
    let program = Inlet::find(cli.inlet.as_deref())?;
    let world = World::try_new()?;
    let inlet = Inlet { program, bpffs: world.bpffs.path().to_owned() };
    let mut sizes = vec![10, 100, 1_000, 10_000, 100_000];
    sizes.extend((!cli.quick).then_some(1_000_000));
    sizes.extend(cli.huge.then_some(10_000_000));
    let each = |(number, size): (usize, &usize)| measure(&inlet, *size, time.first_of(&sizes[number..]));
    let rows = sizes.iter().enumerate().map(each).collect::<Result<Vec<_>>>()?;
    print(&rows)?;
    Ok(rows)
}

fn measure(inlet: &Inlet, size: usize, time: Budget<'_>) -> Result<Row> {
    table::progress(format_args!("commit: {size} rules"));
    let repeats = if size > 1_000_000 {
        1
    } else if size > 100_000 {
        3
    } else {
        7
    };
    let file = std::env::temp_dir().join(format!("inlet-bench-{}.json", std::process::id()));
    write(&rules::mix(size, Families::Both), &file)?;
    let outcome = whole(inlet, &file, size, repeats, time);
    let removed = fs::remove_file(&file);
    let row = outcome?;
    removed?;
    Ok(row)
}

fn whole(inlet: &Inlet, file: &Path, size: usize, repeats: usize, time: Budget<'_>) -> Result<Row> {
    let name = file.as_os_str();
    let mut times: [Vec<Took>; 4] = Default::default();
    let (mut image, mut kernel) = (0, 0);
    time.share(0.5).samples(1, repeats, |repeat| {
        inlet.run(&["up"])?;
        times[0].push(inlet.run(&["apply".as_ref(), name])?);
        times[1].push(inlet.run(&["apply".as_ref(), name])?);
        times[2].push(inlet.run(&["rules"])?);
        (image, kernel) = kernel_memory(&inlet.bpffs)?;
        let prefix = format!("192.88.99.{}/32", repeat + 1);
        times[3].push(inlet.run(&["bind", service_name(0).as_str(), "tcp", &prefix, "4321"])?);
        inlet.run(&["down"])?;
        Ok(())
    })?;
    let spread = |times: &[Took]| Spread::of(&times.iter().map(|took| took.ms).collect::<Vec<_>>());
    let [apply, unchanged, list, one_more] = &times;
    let apply_peak_mb = median(apply.iter().map(|took| took.peak_mb));
    let per_rule = |bytes: f64| bytes / size as f64;
    Ok(Row {
        rules: size,
        apply: spread(apply),
        apply_peak_mb,
        one_more: spread(one_more),
        unchanged: spread(unchanged),
        list: spread(list),
        list_bytes: list[0].written,
        steps: steps(inlet, &fs::read_to_string(file)?, repeats, time)?,
        image_per_rule: per_rule(image as f64),
        kernel_per_rule: per_rule(kernel as f64),
        process_per_rule: per_rule(apply_peak_mb * 1024.0 * 1024.0),
    })
}

/// Writes a file with one object a rule, in no order.
fn write(set: &RuleSet, path: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let services: Vec<String> = (0..SERVICES).map(|at| format!("{:?}: {{}}", service_name(at).as_str())).collect();
    write!(out, "{{\"services\": {{{}}},\n \"rules\": [", services.join(", "))?;
    let mut separator = "";
    for rule in &set.rules {
        let rules::Steer { protocol, local, ports, source, service } = rule;
        let to = service_name(*service);
        write!(
            out,
            "{separator}\n  {{\"to\": \"{}\", \"protocol\": \"{protocol}\", \"local\": \"{local}\", \"ports\": \"{ports}\"",
            to.as_str()
        )?;
        match source {
            Some(source) => write!(out, ", \"from\": \"{source}\"}}")?,
            None => write!(out, "}}")?,
        }
        separator = ",";
    }
    out.write_all(b"]}\n")?;
    Ok(out.flush()?)
}

/// The image, and all that is pinned: what the kernel says it takes.
fn kernel_memory(bpffs: &Path) -> Result<(u64, u64)> {
    let dir = Location::new(bpffs, Netns::own()?).dir();
    let (mut image, mut all) = (0, 0);
    let mut left = vec![dir];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else if entry.file_name() != "link" {
                let bytes = map_memory(raw::open_pin(&entry.path())?.as_fd())?;
                all += bytes;
                image += if entry.file_name() == "image" { bytes } else { 0 };
            }
        }
    }
    Ok((image, all))
}

fn ms_since(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

/// The medians of the steps.
fn steps(inlet: &Inlet, text: &str, repeats: usize, time: Budget<'_>) -> Result<Steps> {
    let mut all: Vec<Steps> = Vec::new();
    time.samples(1, repeats, |_| {
        all.push(one_commit(inlet, text)?);
        Ok(())
    })?;
    let middle = |step: fn(&Steps) -> f64| median(all.iter().map(step));
    Ok(Steps {
        parse: middle(|steps| steps.parse),
        plan: middle(|steps| steps.plan),
        compile: middle(|steps| steps.compile),
        fill: middle(|steps| steps.fill),
        load_and_swap: middle(|steps| steps.load_and_swap),
    })
}

fn one_commit(inlet: &Inlet, text: &str) -> Result<Steps> {
    let location = || -> Result<Location> { Ok(Location::new(&inlet.bpffs, Netns::own()?)) };
    let mut instance = Instance::up(location()?, &UpOptions::default())?;
    let file = || Source::new("bench", text.to_owned());
    let read = file();
    let started = Instant::now();
    let ruleset = instance.parse(read)?.ruleset;
    let parse = ms_since(started);
    let started = Instant::now();
    let planned = Plan::between(instance.ruleset()?, &ruleset);
    let plan = ms_since(started);
    let started = Instant::now();
    let compiled = image::compile(&ruleset)?;
    let compile = ms_since(started);
    let started = Instant::now();
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: libbpf_sys::BPF_F_MMAPABLE,
        ..Default::default()
    };
    let bytes = u32::try_from(compiled.words() * size_of::<u32>())?;
    let map = MapHandle::create(MapType::Array, Some("bench_image"), 4, bytes, 1, &opts)?;
    raw::fill(map.as_fd(), compiled.words(), |words| compiled.write(words))?;
    map.freeze()?;
    let fill = ms_since(started);
    drop((map, compiled));
    drop((planned, ruleset));

    let ruleset = instance.parse(file())?.ruleset;
    let started = Instant::now();
    let committed = instance.commit(ruleset, &CommitOptions::default())?;
    let whole = ms_since(started);
    drop((committed, instance));
    Instance::down(&location()?)?;
    let load_and_swap = (whole - plan - compile - fill).max(0.0);
    Ok(Steps { parse, plan, compile, fill, load_and_swap })
}

fn print(rows: &[Row]) -> Result<()> {
    let row = |row: &Row| {
        let times = [row.apply, row.one_more, row.unchanged, row.list].map(|spread| spread.median);
        let Steps { parse, plan, compile, fill, load_and_swap } = row.steps;
        let steps = [parse, plan, compile, fill, load_and_swap];
        let memory = [row.apply_peak_mb, row.process_per_rule, row.image_per_rule, row.kernel_per_rule];
        let mut cells = vec![row.rules.to_string()];
        cells.extend(times.iter().chain(&steps).chain(&memory).map(|number| format!("{number:.1}")));
        cells
    };
    let head = [
        "rules",
        "apply",
        "one more",
        "unchanged",
        "list",
        "parse",
        "plan",
        "compile",
        "fill",
        "load+swap",
        "peak MB",
        "peak B/r",
        "image B/r",
        "kernel B/r",
    ];
    let title = "Commit: ms of the whole process (apply .. list), ms of the library's steps (parse .. swap), memory";
    table::print(title, &head, &rows.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}
