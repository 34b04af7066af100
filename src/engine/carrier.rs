//! Which attribute values carry a change: those of the series that moved, where no other series has
//! them.

use std::collections::BTreeMap;

use crate::derive::PartMoves;
use crate::model::{Carrier, SeriesIdentity};

/// Carriers named of one alert.
const MOST_CARRIERS: usize = 3;
/// Values named of one attribute.
const MOST_VALUES: usize = 5;
/// Pairs of attribute and value that are counted; series beyond count only where theirs are known.
const MOST_PAIRS: usize = 20_000;

/// Siblings of a signal, by each of their attributes.
#[derive(Default)]
pub(super) struct Tally {
    moved: u32,
    still: u32,
    /// By attribute and value: how many moved, how many did not.
    pairs: BTreeMap<(Box<str>, String), (u32, u32)>,
}

impl Tally {
    /// Counts one sibling, the signal itself among them.
    pub(super) fn add(&mut self, identity: &SeriesIdentity, moved: bool) {
        let one = (u32::from(moved), u32::from(!moved));
        self.moved += one.0;
        self.still += one.1;
        let resource = identity.resource.attributes.iter();
        let resource = resource.filter(|(key, _)| *key != "service.name");
        for (key, value) in identity.attributes.iter().chain(resource) {
            self.count(key.into(), value.as_text().into_owned(), one);
        }
    }

    /// Whether anything was counted.
    pub(super) fn knows(&self) -> bool {
        self.moved + self.still > 0
    }

    fn count(&mut self, key: Box<str>, value: String, (moved, still): (u32, u32)) {
        let full = self.pairs.len() >= MOST_PAIRS;
        let pair = (key, value);
        if full && !self.pairs.contains_key(&pair) {
            return;
        }
        let counts = self.pairs.entry(pair).or_default();
        counts.0 += moved;
        counts.1 += still;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.moved += other.moved;
        self.still += other.still;
        for ((key, value), counts) in other.pairs {
            self.count(key, value, counts);
        }
    }
}

/// How one value did.
struct Seen {
    value: String,
    /// `None`: some of its series moved and some did not, or too little is known.
    moved: Option<bool>,
}

/// What separates what moved from what did not, the most telling first.
pub(super) fn find(tally: Tally, parts: Vec<PartMoves>) -> Vec<Carrier> {
    let mut found = Vec::new();
    for PartMoves {
        attribute,
        parts,
        sampled,
    } in parts
    {
        let seen = parts.into_iter().map(|part| Seen {
            value: part.value.to_string(),
            moved: part.moved,
        });
        found.extend(separates(attribute, seen.collect(), sampled, Unclear::Few));
    }
    let all_moved = tally.moved;
    let mut by_key: BTreeMap<Box<str>, (u32, Vec<Seen>)> = BTreeMap::new();
    for ((key, value), (moved, still)) in tally.pairs {
        let (all, seen) = by_key.entry(key).or_default();
        *all += moved;
        let most = |part: u32| part * 5 >= (moved + still) * 4;
        seen.push(Seen {
            value,
            moved: (most(moved) || most(still)).then_some(moved > still),
        });
    }
    for (key, (moved, seen)) in by_key {
        // Where some that moved do not have the attribute, it is not what they have in common.
        if moved == all_moved {
            found.extend(separates(&key, seen, false, Unclear::None));
        }
    }
    found.sort_by_key(|carrier| {
        let rank = rank(&carrier.attribute);
        (carrier.values.len(), rank, carrier.attribute.clone())
    });
    let mut told: Vec<Carrier> = Vec::new();
    for carrier in found {
        // A pod, its host and its container are one thing under three names.
        let again = told.iter().any(|other| {
            other.attribute == carrier.attribute
                || rank(&other.attribute) >= INSTANCE
                    && (other.values.len(), other.of) == (carrier.values.len(), carrier.of)
        });
        if !again && told.len() < MOST_CARRIERS {
            told.push(carrier);
        }
    }
    told
}

/// How many values may be unclear.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unclear {
    None,
    /// Fewer than are clear.
    Few,
}

/// The values that moved, if they are few among those that did not.
fn separates(attribute: &str, seen: Vec<Seen>, sampled: bool, unclear: Unclear) -> Option<Carrier> {
    let count = |what: Option<bool>| seen.iter().filter(|seen| seen.moved == what).count();
    let (moved, still, open) = (count(Some(true)), count(Some(false)), count(None));
    let clear = match unclear {
        Unclear::None => open == 0,
        Unclear::Few => open < moved + still,
    };
    let few = moved <= MOST_VALUES && moved <= (seen.len() / 3).max(1);
    if moved == 0 || still == 0 || !clear || !few {
        return None;
    }
    let of = u32::try_from(seen.len()).unwrap_or(u32::MAX);
    let mut values: Vec<String> = seen
        .into_iter()
        .filter(|seen| seen.moved == Some(true))
        .map(|seen| seen.value)
        .collect();
    values.sort_unstable();
    Some(Carrier {
        attribute: attribute.to_owned(),
        values,
        of,
        sampled,
    })
}

/// From here on attributes say where something runs.
const INSTANCE: u8 = 2;

/// Of attributes that separate equally well the one is told that says most: a version explains why, a
/// route what, an instance where.
fn rank(attribute: &str) -> u8 {
    match attribute {
        "service.version" => 0,
        "service.instance.id" => INSTANCE,
        "k8s.pod.name" => INSTANCE + 1,
        "host.name" | "k8s.node.name" => INSTANCE + 2,
        _ if [
            "k8s.",
            "host.",
            "container.",
            "process.",
            "os.",
            "telemetry.",
            "service.",
            "cloud.",
        ]
        .iter()
        .any(|prefix| attribute.starts_with(prefix)) =>
        {
            INSTANCE + 3
        }
        _ => 1,
    }
}
