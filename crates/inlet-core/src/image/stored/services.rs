//! The services of a stored ruleset.

use super::words::{SourceError, Words, push_text};
use crate::rule::{
    Answers, Confine, Description, OnMissing, Service, ServiceId, ServiceName, Services, Spread, Sticky, UserName,
};

const PASS_WHEN_MISSING: u32 = 1 << 16;
const DESCRIBED: u32 = 1 << 17;
const GROUP_CHOOSES: u32 = 1 << 18;
const ANSWERS_ASKED: u32 = 1 << 19;
const ANSWERS_BOUND: u32 = 1 << 20;
/// A word with the seconds comes behind.
const STICKY: u32 = 1 << 21;
const NO_MPTCP: u32 = 1 << 24;
const OWN_BINDS: u32 = 1 << 25;
/// Which control group a description gives.
const NOWHERE: u32 = 0;
const UNIT: u32 = 1;
const CGROUP: u32 = 2;
/// None, and sockets of any user are meant.
const ANYONE: u32 = 3;

/// A service: its number with what is asked of it above 16 bits, how long its flows stay, its name, its description.
pub(super) fn push_service(words: &mut Vec<u32>, id: ServiceId, service: &Service) {
    let policy = if service.on_missing == OnMissing::Pass { PASS_WHEN_MISSING } else { 0 };
    let described = if service.description.is_some() { DESCRIBED } else { 0 };
    let spread = if service.spread == Spread::Group { GROUP_CHOOSES } else { 0 };
    let plain = service.description.as_ref().is_some_and(|it| it.no_mptcp);
    let plain = if plain { NO_MPTCP } else { 0 };
    let own = service.description.as_ref().is_some_and(|it| it.own_binds);
    let own = if own { OWN_BINDS } else { 0 };
    let answers = match service.answers {
        None => 0,
        Some(Answers::Asked) => ANSWERS_ASKED,
        Some(Answers::Bound) => ANSWERS_BOUND,
    };
    let sticky = if service.sticky.is_on() { STICKY } else { 0 };
    words.push(u32::from(id.get()) | policy | described | spread | answers | sticky | plain | own);
    if service.sticky.is_on() {
        words.push(service.sticky.seconds().into());
    }
    push_text(words, service.name.as_str());
    if let Some(description) = &service.description {
        push_description(words, description);
    }
}

/// The count of addresses and their texts; the kind of control group and its text; the user, empty for any.
fn push_description(words: &mut Vec<u32>, description: &Description) {
    words.push(description.listen().len() as u32);
    description.listen().iter().for_each(|listen| push_text(words, &listen.to_string()));
    let (kind, text) = match &description.confine {
        None if description.anyone => (ANYONE, ""),
        None => (NOWHERE, ""),
        Some(Confine::Unit(unit)) => (UNIT, unit.as_str()),
        Some(Confine::Cgroup(path)) => (CGROUP, path.as_str()),
    };
    words.push(kind);
    push_text(words, text);
    push_text(words, description.user.as_ref().map_or("", UserName::as_str));
}

pub(super) fn read_services(words: &mut Words<'_>, count: usize) -> Result<Services, SourceError> {
    let damaged = || SourceError::Damaged("services");
    let mut services = Services::default();
    for _ in 0..count {
        let number = words.take(1, "services")?[0];
        let sticky = if number & STICKY != 0 { words.take(1, "services")?[0] } else { 0 };
        let sticky = u16::try_from(sticky).ok().and_then(Sticky::new).ok_or_else(damaged)?;
        let name: ServiceName = words.text("services")?.parse().map_err(|_| damaged())?;
        let id = ServiceId::new(number as u16).ok_or_else(damaged)?;
        if services.get(id).is_some() || services.id(name.as_str()).is_some() {
            return Err(damaged());
        }
        let on_missing = if number & PASS_WHEN_MISSING != 0 { OnMissing::Pass } else { OnMissing::Refuse };
        let spread = if number & GROUP_CHOOSES != 0 { Spread::Group } else { Spread::Inlet };
        let answers = match number & (ANSWERS_ASKED | ANSWERS_BOUND) {
            0 => None,
            ANSWERS_ASKED => Some(Answers::Asked),
            ANSWERS_BOUND => Some(Answers::Bound),
            _ => return Err(damaged()),
        };
        let described = number & DESCRIBED != 0;
        let mut description = described.then(|| read_description(words)).transpose()?;
        if let Some(description) = &mut description {
            description.no_mptcp = number & NO_MPTCP != 0;
            description.own_binds = number & OWN_BINDS != 0;
        }
        services.insert(id, Service { name, on_missing, spread, answers, sticky, description });
    }
    Ok(services)
}

fn read_description(words: &mut Words<'_>) -> Result<Description, SourceError> {
    let damaged = |_| SourceError::Damaged("descriptions");
    let count = words.take(1, "descriptions")?[0];
    let mut listen = Vec::new();
    for _ in 0..count {
        listen.push(words.text("descriptions")?.parse().map_err(damaged)?);
    }
    let mut description = Description::new(listen).map_err(damaged)?;
    let kind = words.take(1, "descriptions")?[0];
    let text = words.text("descriptions")?;
    description.anyone = kind == ANYONE;
    description.confine = match kind {
        UNIT => Some(Confine::Unit(text.parse().map_err(damaged)?)),
        CGROUP => Some(Confine::Cgroup(text.parse().map_err(damaged)?)),
        _ => None,
    };
    let user = words.text("descriptions")?;
    description.user = if user.is_empty() { None } else { Some(user.parse().map_err(damaged)?) };
    Ok(description)
}
