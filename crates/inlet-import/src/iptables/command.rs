//! The commands of `iptables-restore`, a line each.

/// A command about a chain of the table at hand.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Declares or empties it, with its policy.
    Chain(String, Option<String>),
    Policy(String, String),
    Append(String, Vec<String>),
    /// The place counts from 1.
    Insert(String, usize, Vec<String>),
    Replace(String, usize, Vec<String>),
    Delete(String, Vec<String>),
    DeleteAt(String, usize),
    Flush(Option<String>),
    Remove(String),
    /// Sets counters.
    Zero,
}

impl Command {
    pub(super) fn read(line: &str) -> Option<Self> {
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (name, policy) = (words.next()?.to_owned(), words.next()?);
            return Some(Self::Chain(name, Some(policy.to_owned()).filter(|policy| policy != "-")));
        }
        // Counters of packets and bytes may stand before.
        let line = match line.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.1,
            None => line,
        };
        let words = shlex::split(line.trim())?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (words, chain) = match words.as_slice() {
            ["-t" | "--table", _, rest @ ..] => (rest.to_vec(), rest.get(1)),
            all => (all.to_vec(), all.get(1)),
        };
        let chain = chain.map(|chain| (*chain).to_owned());
        let number = |text: Option<&&str>| text.and_then(|text| text.parse::<usize>().ok());
        Some(match words.first().copied()? {
            "-A" | "--append" => Self::Append(chain?, owned(&words[2..])),
            "-I" | "--insert" => match number(words.get(2)) {
                Some(at) => Self::Insert(chain?, at, owned(&words[3..])),
                None => Self::Insert(chain?, 1, owned(&words[2..])),
            },
            "-R" | "--replace" => Self::Replace(chain?, number(words.get(2))?, owned(&words[3..])),
            "-D" | "--delete" => match number(words.get(2)) {
                Some(at) if words.len() == 3 => Self::DeleteAt(chain?, at),
                _ => Self::Delete(chain?, owned(&words[2..])),
            },
            "-F" | "--flush" => Self::Flush(chain),
            "-X" | "--delete-chain" => Self::Remove(chain?),
            "-N" | "--new-chain" | "--new" => Self::Chain(chain?, None),
            "-P" | "--policy" => Self::Policy(chain?, (*words.get(2)?).to_owned()),
            "-Z" | "--zero" => Self::Zero,
            _ => return None,
        })
    }
}

/// The options of a rule in an order and a spelling of their own, so that equal rules have equal ones.
pub(super) fn normal(words: &[String]) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    let mut not = "";
    for word in words {
        let long = match word.as_str() {
            "--protocol" | "--proto" => "-p",
            "--source" | "--src" => "-s",
            "--destination" | "--dst" => "-d",
            "--in-interface" => "-i",
            "--match" => "-m",
            "--jump" => "-j",
            "--goto" => "-g",
            "--destination-port" => "--dport",
            "--destination-ports" => "--dports",
            other => other,
        };
        match long {
            "!" => not = "! ",
            option if option.starts_with('-') => {
                options.push(format!("{not}{option}"));
                not = "";
            }
            value => {
                let value = value.strip_suffix("/32").or_else(|| value.strip_suffix("/128")).unwrap_or(value);
                match options.last_mut() {
                    Some(option) => *option = format!("{option} {value}"),
                    None => options.push(value.to_owned()),
                }
            }
        }
    }
    // Modules that options load by themselves are written by some and not by others.
    options.retain(|option| !matches!(option.as_str(), "-m tcp" | "-m udp"));
    options.sort();
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let words = |text: &str| shlex::split(text).unwrap();
        assert_eq!(
            Command::read(":PREROUTING ACCEPT [0:0]"),
            Some(Command::Chain("PREROUTING".into(), Some("ACCEPT".into())))
        );
        assert_eq!(Command::read(":WEB - [0:0]"), Some(Command::Chain("WEB".into(), None)));
        assert_eq!(Command::read("[1:2] -A A -j B"), Some(Command::Append("A".into(), words("-j B"))));
        assert_eq!(Command::read("-I A 2 -j B"), Some(Command::Insert("A".into(), 2, words("-j B"))));
        assert_eq!(Command::read("-I A -j B"), Some(Command::Insert("A".into(), 1, words("-j B"))));
        assert_eq!(Command::read("-D A 3"), Some(Command::DeleteAt("A".into(), 3)));
        assert_eq!(Command::read("-F"), Some(Command::Flush(None)));
        for wrong in ["hello world", "-A", "-R A", "[1:2", "-Q A", ""] {
            assert_eq!(Command::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn equal_rules_have_equal_options() {
        let of = |text: &str| normal(&shlex::split(text).unwrap());
        assert_eq!(
            of("-p tcp -m tcp --dport 80 -d 192.0.2.7/32 -j X"),
            of("-d 192.0.2.7 --protocol tcp --dport 80 -j X")
        );
        assert_ne!(of("! -d 192.0.2.7 -j X"), of("-d 192.0.2.7 -j X"));
    }
}
