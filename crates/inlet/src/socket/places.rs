//! Places: where in the lanes of its service a socket goes.

use std::collections::{BTreeSet, HashMap};
use std::io;

use inlet_core::ServiceId;

use super::lanes::{LANE_MAX, Lane, Lanes, Slot, cookie_in};
use super::room::Room;
use crate::error::{Error, Result, SocketError};
use crate::fault;
use crate::state::Maps;

/// Which empty slots of a lane sockets get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// The first ones, between those that are shown too.
    Gaps,
    /// Those behind all that are shown, so that no packet goes there yet.
    Behind,
}

/// Which slots of lanes have sockets now. Many sockets are planned for before the first one is moved in, so that what does not
/// fit changes nothing.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    maps: &'a Maps,
    lanes: &'a Lanes,
    fill: Fill,
    /// The cookie of the socket in each slot of a lane; 0 is somebody else's.
    known: HashMap<Lane, Vec<Option<u64>>>,
    /// How many sockets more are planned for.
    planned: HashMap<Lane, u32>,
}

/// A place in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lane: Lane,
    pub(crate) slot: Slot,
    /// Whether the socket is there already.
    pub(crate) is_known: bool,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The lane has as many sockets as fit.
    Lane(Lane),
    /// No slot is free.
    Map,
}

impl Full {
    /// The error, in the words of a service.
    pub(crate) fn of(self, service: &str, max_sockets: u32) -> Error {
        match self {
            Self::Lane(lane) => Error::Socket(SocketError::LaneFull {
                service: service.to_owned(),
                protocol: lane.protocol().as_str(),
                family: if lane.is_v6() { "IPv6" } else { "IPv4" },
                max: LANE_MAX as usize,
            }),
            Self::Map => Error::Socket(SocketError::TooManySockets(max_sockets)),
        }
    }
}

impl<'a> Places<'a> {
    /// Looks at all lanes.
    pub(crate) fn survey(maps: &'a Maps, lanes: &'a Lanes, fill: Fill) -> Result<Self> {
        let mut places = Self { maps, lanes, fill, known: HashMap::new(), planned: HashMap::new() };
        for (lane, word) in lanes.used().filter(|(_, word)| !word.is_retired()) {
            places.look_at(lane, word.shown())?;
        }
        Ok(places)
    }

    /// After those that are shown come those that a command that was killed did not show any more, and then empty ones.
    fn look_at(&mut self, lane: Lane, shown: u32) -> Result<()> {
        let (mut cookies, mut all_empty) = (Vec::new(), false);
        for (at, slot) in Slot::all(self.lanes.slots(lane)).enumerate() {
            let cookie = if all_empty { None } else { cookie_in(&self.maps.sockets, slot)? };
            all_empty |= at >= shown as usize && cookie.is_none();
            cookies.push(cookie);
        }
        self.known.insert(lane, cookies);
        Ok(())
    }

    /// The services that have a socket: one, and those that are gone and can come back.
    pub(crate) fn holders(&self, cookie: u64) -> impl Iterator<Item = ServiceId> {
        let has = move |cookies: &[Option<u64>]| cookies.contains(&Some(cookie));
        self.known.iter().filter(move |(_, cookies)| has(cookies)).filter_map(|(lane, _)| lane.service())
    }

    /// Whether a lane has a socket.
    pub(crate) fn has(&self, lane: Lane, cookie: u64) -> bool {
        self.known.get(&lane).is_some_and(|cookies| cookies.contains(&Some(cookie)))
    }

    /// Plans for a socket in a lane.
    pub(crate) fn plan(&mut self, lane: Lane, cookie: u64) -> std::result::Result<(), Full> {
        if self.has(lane, cookie) {
            return Ok(());
        }
        if self.needed(lane) >= LANE_MAX {
            return Err(Full::Lane(lane));
        }
        if self.of_family(lane.is_v6()) >= self.maps.max_sockets() {
            return Err(Full::Map);
        }
        *self.planned.entry(lane).or_default() += 1;
        Ok(())
    }

    /// How many sockets of a family there are and are planned for.
    fn of_family(&self, v6: bool) -> u32 {
        let lanes: BTreeSet<Lane> = self.known.keys().chain(self.planned.keys()).copied().collect();
        lanes.into_iter().filter(|lane| lane.is_v6() == v6).map(|lane| self.needed(lane)).sum()
    }

    /// How many slots a lane needs for what it has and what is planned for.
    fn needed(&self, lane: Lane) -> u32 {
        let has = self.known.get(&lane).map_or(0, |cookies| cookies.iter().flatten().count());
        has as u32 + self.planned.get(&lane).copied().unwrap_or(0)
    }

    /// How long the range of a lane has to be for that.
    fn length(&self, lane: Lane) -> u32 {
        match self.fill {
            Fill::Gaps => self.needed(lane),
            Fill::Behind => {
                let used = self.known.get(&lane).and_then(|cookies| cookies.iter().rposition(Option::is_some));
                let behind = self.first_hidden(lane).max(used.map_or(0, |last| last + 1)) as u32;
                behind + self.planned.get(&lane).copied().unwrap_or(0)
            }
        }
    }

    /// Where the slots of a lane begin that are not shown.
    fn first_hidden(&self, lane: Lane) -> usize {
        self.lanes.word(lane).shown() as usize
    }

    /// Makes room for all that is planned for.
    pub(crate) fn make_room(&mut self) -> Result<std::result::Result<(), Full>> {
        let planned: Vec<Lane> = self.planned.keys().copied().collect();
        let short = |lane: &Lane| self.length(*lane) as usize > self.lanes.slots(*lane).len();
        let short: Vec<Lane> = planned.into_iter().filter(short).collect();
        if short.is_empty() {
            return Ok(Ok(()));
        }
        let mut room = Room::of(self.maps, self.lanes)?;
        for lane in &short {
            if room.enlarge(*lane, self.length(*lane).min(LANE_MAX))?.is_err() {
                return Ok(Err(Full::Map));
            }
        }
        // Lanes may have moved, others too.
        let planned = std::mem::take(&mut self.planned);
        *self = Self { planned, ..Self::survey(self.maps, self.lanes, self.fill)? };
        Ok(Ok(()))
    }

    /// The place of a socket in a lane: where it is, or the first empty slot.
    pub(crate) fn place(&mut self, lane: Lane, cookie: u64) -> std::result::Result<Place, Full> {
        let first = self.lanes.slots(lane).start;
        let behind = if self.fill == Fill::Behind { self.first_hidden(lane) } else { 0 };
        let cookies = self.known.entry(lane).or_default();
        let known = cookies.iter().position(|known| *known == Some(cookie));
        let is_empty = |(at, known): (usize, &Option<u64>)| (at >= behind && known.is_none()).then_some(at);
        let at = known.or_else(|| cookies.iter().enumerate().find_map(is_empty)).ok_or(Full::Lane(lane))?;
        cookies[at] = Some(cookie);
        Ok(Place { lane, slot: Slot(first + at as u32), is_known: known.is_some() })
    }

    /// Another place: somebody else's socket is in this one.
    pub(crate) fn another(&mut self, place: &Place, cookie: u64) -> std::result::Result<Place, Full> {
        let first = self.lanes.slots(place.lane).start;
        if let Some(known) = self.known.get_mut(&place.lane).and_then(|it| it.get_mut((place.slot.0 - first) as usize))
        {
            *known = Some(0);
        }
        self.place(place.lane, cookie)
    }

    /// Moves a socket in: `store` puts it into the slot, unless it is there already.
    pub(crate) fn settle(&self, place: &Place, store: impl FnOnce(Slot) -> io::Result<()>) -> io::Result<()> {
        if !place.is_known {
            store(place.slot)?;
            fault::point("register:stored");
        }
        self.show(place);
        fault::point("register:lane");
        Ok(())
    }

    /// Shows what is in a place.
    pub(crate) fn show(&self, place: &Place) {
        self.lanes.show(place.lane, place.slot);
    }
}
