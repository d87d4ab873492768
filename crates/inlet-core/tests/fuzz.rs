//! Texts and images that are nearly right, made from the corpus by small changes: reading them ends, with a result or
//! an error. Each run tries others for a few seconds, and names the seed; FUZZ_SECONDS and FUZZ_SEED change that.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use inlet_core::config::{self, NoInterface, Source};
use inlet_core::image::{Header, Previous, compile, decode};
use inlet_core::{
    CgroupPath, Endpoint, InterfaceName, Listen, OnMissing, Plan, PortRange, Prefix, Protocol, Ruleset, ServiceName,
    UnitName, UserName,
};

/// So long one target runs.
const SECONDS: u64 = 3;

/// Numbers that are as good as random (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The files beside a ruleset are those of the corpus, and no others.
struct Corpus;

impl config::Host for Corpus {
    fn real_path(&mut self, path: &Path) -> Result<PathBuf, String> {
        Ok(path.to_owned())
    }

    fn read(&mut self, path: &Path) -> Result<String, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ["prefixes.txt", "all.toml", "all.json"].contains(&name.as_str()) {
            Ok(text(&name))
        } else {
            Err("none".into())
        }
    }

    fn interface(&mut self, _: &InterfaceName) -> Result<u32, NoInterface> {
        Ok(7)
    }
}

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// A few small changes: bytes that are others, come twice, go, or come from elsewhere in the text.
fn changed(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    const WORDS: [&str; 12] =
        ["[", "{", "\"", "]]", "9999999999999999999", "-1", "/33", "\u{0}", "\u{202e}", "*", ":", "@home"];
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = random.next() as u8,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => bytes.splice(at..at, WORDS[random.below(WORDS.len())].bytes()).for_each(drop),
            4 => {
                let (from, len) = (random.below(bytes.len() + 1), random.below(40));
                let part = bytes[from..(from + len).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                bytes.splice(at..at, WORDS[random.below(WORDS.len())].repeat(random.below(300)).bytes()).for_each(drop)
            }
        }
    }
    bytes
}

/// Tries a target for its time, and says what it was given when it panics.
fn fuzz(target: &str, mut once: impl FnMut(&mut Random) -> (Vec<u8>, Box<dyn FnOnce()>)) {
    let from = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = from("FUZZ_SEED").unwrap_or(now | 1);
    let mut random = Random(seed);
    let until = Instant::now() + Duration::from_secs(from("FUZZ_SECONDS").unwrap_or(SECONDS));
    let mut count = 0_u64;
    while Instant::now() < until {
        let (input, run) = once(&mut random);
        let begun = Instant::now();
        let ran = catch_unwind(AssertUnwindSafe(run));
        let shown = String::from_utf8_lossy(&input).into_owned();
        assert!(ran.is_ok(), "{target} with seed {seed}, input {count}: {shown:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{target} with seed {seed} took long: {shown:?}");
        count += 1;
    }
    let _ = writeln!(std::io::stdout(), "{target}: {count} inputs, seed {seed}");
}

#[test]
fn files_that_are_nearly_right() {
    let seeds = ["all.toml", "all.json"].map(|name| (name, text(name)));
    fuzz("files", |random| {
        let (name, seed) = &seeds[random.below(seeds.len())];
        let input = changed(seed.as_bytes(), random);
        let (text, name) = (String::from_utf8_lossy(&input).into_owned(), *name);
        let run =
            Box::new(move || drop(config::parse(Source::file(Path::new(name), text), &Ruleset::empty(), &mut Corpus)));
        (input, run)
    });
}

#[test]
fn values_that_are_nearly_right() {
    fn all(text: &str) {
        drop((text.parse::<Prefix>(), text.parse::<PortRange>(), text.parse::<Listen>(), text.parse::<Endpoint>()));
        drop((
            text.parse::<ServiceName>(),
            text.parse::<UnitName>(),
            text.parse::<CgroupPath>(),
            text.parse::<UserName>(),
        ));
        drop((text.parse::<InterfaceName>(), text.parse::<OnMissing>(), text.parse::<Protocol>()));
    }
    let values = text("values.txt");
    let seeds: Vec<&str> = values.lines().collect();
    fuzz("values", |random| {
        let input = changed(seeds[random.below(seeds.len())].as_bytes(), random);
        let text = String::from_utf8_lossy(&input).into_owned();
        (input, Box::new(move || all(&text)))
    });
}

/// Images and previous rulesets lie in maps that only root can write, and are read with care even so.
#[test]
fn images_that_are_nearly_right() {
    let parsed = |text: &str| {
        config::parse(Source::new("test", text.to_owned()), &Ruleset::empty(), &mut Corpus).unwrap().ruleset
    };
    let json = text("all.json").replace(", \"iface\": \"if2\"", "");
    let (old, new) = (parsed(r#"{"services": {"web": {}}, "rules": []}"#), parsed(&json));
    let image = compile(&new).unwrap().to_words();
    let previous = Previous::between(&old, &new, &Plan::between(&old, &new)).unwrap().to_words();
    fuzz("images", |random| {
        let is_image = random.below(2) == 0;
        let mut words = if is_image { image.clone() } else { previous.clone() };
        for _ in 0..=random.below(4) {
            let at = random.below(words.len());
            match random.below(4) {
                0 => words[at] = random.next() as u32,
                1 => words[at] ^= 1 << random.below(32),
                2 => words[at] = u32::MAX - random.below(3) as u32,
                _ => words.truncate(at.max(1)),
            }
        }
        let input: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let run = move || match is_image {
            true => drop((Header::decode(&words), decode(&words))),
            false => drop((Previous::decode(&words), Previous::decode_services(&words))),
        };
        (input, Box::new(run))
    });
}
