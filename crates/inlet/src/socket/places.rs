//! Places: where in the lanes of its service a socket goes.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use inlet_core::ServiceId;
use libbpf_rs::MapCore;

use super::lanes::{LANE_SLOTS, Lane, Lanes, Slot, cookie_in};
use crate::error::{Error, Result, SocketError};
use crate::fault;
use crate::state::Maps;

/// Which slots have sockets now, and which are free. It counts what it gives away, so that many sockets can be planned for
/// before the first one is moved in.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    maps: &'a Maps,
    lanes: &'a Lanes,
    stocks: HashMap<Lane, Stock>,
    /// Whether each slot belongs to a lane.
    owned: Vec<bool>,
    /// Those that may be free still.
    unseen: Range<u32>,
}

#[derive(Debug, Default)]
struct Stock {
    /// The cookie of the socket in each slot; 0 is kept for one that comes.
    slots: Vec<(Slot, Option<u64>)>,
}

/// A place in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lane: Lane,
    /// The place in the lane.
    at: usize,
    pub(crate) slot: Slot,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The socket is there.
    Known,
    /// An empty slot of the lane.
    Empty,
    /// A free slot, which the lane gets.
    New,
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
                max: LANE_SLOTS,
            }),
            Self::Map => Error::Socket(SocketError::TooManySockets(max_sockets)),
        }
    }
}

impl<'a> Places<'a> {
    /// Looks at all lanes.
    pub(crate) fn survey(maps: &'a Maps, lanes: &'a Lanes) -> Result<Self> {
        let max = maps.sockets.max_entries();
        let mut places = Self { maps, lanes, stocks: HashMap::new(), owned: vec![false; max as usize], unseen: 0..max };
        for lane in Lane::of_all_services() {
            let mut slots = Vec::new();
            let shown = lanes.count(lane);
            // After those that are shown come those that a command that was killed did not show any more, and then empty ones.
            let mut all_empty = false;
            for (at, slot) in lanes.stock(lane).into_iter().enumerate() {
                let cookie = if all_empty { None } else { cookie_in(&maps.sockets, slot)? };
                all_empty |= at >= shown && cookie.is_none();
                slots.push((slot, cookie));
                if let Some(owned) = places.owned.get_mut(slot.0 as usize) {
                    *owned = true;
                }
            }
            if !slots.is_empty() {
                places.stocks.insert(lane, Stock { slots });
            }
        }
        Ok(places)
    }

    /// The services that have a socket: one, and those that are gone and can come back.
    pub(crate) fn holders(&self, cookie: u64) -> impl Iterator<Item = ServiceId> {
        let has = move |stock: &Stock| stock.slots.iter().any(|(_, known)| *known == Some(cookie));
        self.stocks.iter().filter(move |(_, stock)| has(stock)).filter_map(|(lane, _)| lane.service())
    }

    /// How many slots belong to no lane.
    pub(crate) fn free(&self) -> usize {
        self.owned.iter().filter(|owned| !**owned).count()
    }

    /// How many slots a lane could have more.
    pub(crate) fn missing(&self, lane: Lane) -> usize {
        LANE_SLOTS - self.stocks.get(&lane).map_or(0, |stock| stock.slots.len())
    }

    /// Keeps a place for a socket in a lane.
    pub(crate) fn find(&mut self, lane: Lane, cookie: u64) -> std::result::Result<Place, Full> {
        let stock = self.stocks.entry(lane).or_default();
        let known = stock.slots.iter().position(|(_, known)| *known == Some(cookie));
        let empty = stock.slots.iter().position(|(_, known)| known.is_none());
        if let Some((at, kind)) = known.map(|at| (at, Kind::Known)).or(empty.map(|at| (at, Kind::Empty))) {
            stock.slots[at].1 = Some(cookie);
            return Ok(Place { lane, at, slot: stock.slots[at].0, kind });
        }
        let at = stock.slots.len();
        if at == LANE_SLOTS {
            return Err(Full::Lane(lane));
        }
        let slot = self.next_free().ok_or(Full::Map)?;
        self.stocks.entry(lane).or_default().slots.push((slot, Some(cookie)));
        Ok(Place { lane, at, slot, kind: Kind::New })
    }

    /// Keeps another place: somebody else's socket is in this one.
    pub(crate) fn find_another(&mut self, place: &Place, cookie: u64) -> std::result::Result<Place, Full> {
        let stock = self.stocks.entry(place.lane).or_default();
        if let Some((_, known)) = stock.slots.get_mut(place.at) {
            *known = Some(0);
        }
        self.find(place.lane, cookie)
    }

    fn next_free(&mut self) -> Option<Slot> {
        let free = self.unseen.find(|slot| !self.owned[*slot as usize])?;
        self.owned[free as usize] = true;
        Some(Slot(free))
    }

    /// Gives a lane all the slots that it can have, so that the kernel can put sockets into them by itself.
    pub(crate) fn stock_up(&mut self, lane: Lane) -> std::result::Result<(), Full> {
        while self.stocks.entry(lane).or_default().slots.len() < LANE_SLOTS {
            let slot = self.next_free().ok_or(Full::Map)?;
            self.give(lane, slot);
            self.stocks.entry(lane).or_default().slots.push((slot, None));
        }
        Ok(())
    }

    /// Makes a free slot one of a lane.
    fn give(&self, lane: Lane, slot: Slot) {
        // What a command that was killed left in it.
        let _ = self.maps.sockets.delete(&slot.0.to_ne_bytes());
        self.lanes.grow(lane, slot);
    }

    /// Prepares a place for its socket.
    pub(crate) fn prepare(&self, place: &Place) {
        if place.kind == Kind::New {
            self.give(place.lane, place.slot);
        }
    }

    /// Moves a socket in: `store` puts it into the slot, unless it is there already.
    pub(crate) fn settle(&self, place: &Place, store: impl FnOnce(Slot) -> io::Result<()>) -> io::Result<()> {
        if !place.is_known() {
            self.prepare(place);
            store(place.slot)?;
            fault::point("register:stored");
        }
        self.show(place);
        fault::point("register:lane");
        Ok(())
    }

    /// Shows what is in a place.
    pub(crate) fn show(&self, place: &Place) {
        self.lanes.show(place.lane, place.at);
    }
}

impl Place {
    /// Whether the socket is there already.
    pub(crate) fn is_known(&self) -> bool {
        self.kind == Kind::Known
    }
}
