//! Systemd units, paths of control groups (cgroup v2) and users.

use std::str::FromStr;

use super::{DescriptionError, MAX_DEPTH, MAX_NAME};

/// The name of a systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnitName(Box<str>);

/// The path of a control group below the cgroup v2 root: `/system.slice/nginx.service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CgroupPath(Box<str>);

/// The name or number of a user, as it was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserName(Box<str>);

impl UnitName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CgroupPath {
    /// The path. It begins with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of its levels, from the root on.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// Whether `other` is this group or below it.
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.names();
        self.names().all(|name| theirs.next() == Some(name))
    }
}

impl UserName {
    /// The name, or the number in decimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether these are certainly two users. A name may be that of any number.
    pub(super) fn apart(&self, other: &Self) -> bool {
        let number = |user: &Self| user.0.parse::<u32>().ok();
        self != other && number(self).is_some() == number(other).is_some()
    }
}

impl FromStr for UnitName {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let kind = text.rsplit_once('.').filter(|(name, _)| !name.is_empty()).map(|(_, kind)| kind);
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        match matches!(kind, Some("service" | "scope" | "slice")) && text.chars().all(plain) && text.len() <= MAX_NAME {
            true => Ok(Self(text.into())),
            false => Err(DescriptionError::Unit(text.to_owned())),
        }
    }
}

impl FromStr for CgroupPath {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let given = || text.to_owned();
        let path = text.strip_prefix('/').ok_or_else(|| DescriptionError::Cgroup(given()))?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let bad = |name: &str| name.is_empty() || name == "." || name == ".." || name.chars().any(char::is_control);
        let names: Vec<&str> = path.split('/').collect();
        if names.iter().any(|name| bad(name)) {
            return Err(DescriptionError::Cgroup(given()));
        }
        if names.len() > MAX_DEPTH {
            return Err(DescriptionError::Deep(given()));
        }
        if names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(DescriptionError::LongName(given()));
        }
        Ok(Self(format!("/{path}").into()))
    }
}

impl FromStr for UserName {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        let bad = |c: char| c.is_control() || c.is_whitespace() || c == ':' || c == '/';
        match text.is_empty() || text.len() > 255 || text.contains(bad) {
            true => Err(DescriptionError::User(text.to_owned())),
            false => Ok(Self(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!("nginx".parse::<UnitName>().is_err() && ".service".parse::<UnitName>().is_err());
        assert!("getty@tty1.service".parse::<UnitName>().is_ok());
        for path in ["", "a", "/", "//a", "/a//b", "/a/../b", "/a/./b"] {
            assert_eq!(path.parse::<CgroupPath>(), Err(DescriptionError::Cgroup(path.into())), "{path}");
        }
        assert_eq!("/a/b/".parse::<CgroupPath>().unwrap().as_str(), "/a/b");
        assert!(matches!("/1/2/3/4/5/6/7/8/9".parse::<CgroupPath>(), Err(DescriptionError::Deep(_))));
        assert!("a b".parse::<UserName>().is_err());
    }
}
