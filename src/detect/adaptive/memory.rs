//! What a signal is known by: how often it deviated by how much, and the values that it had. There are
//! millions of signals, so it is all in one allocation.

use serde::{Deserialize, Serialize};

use super::calibration::Calibrations;
use super::novelty::Novelty;
use super::rarity::Rarity;

/// Things whose values are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The signal's own.
    Value,
    /// Relative to the long-run level.
    Offset,
    /// Smoothed ones.
    Level,
    /// Differences from the usual at the time.
    ForTime,
    /// Those, smoothed.
    LevelForTime,
}

/// Counts and values in words of 16 bits: of the calibrations first, then of each novelty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    #[serde(with = "crate::model::raw")]
    words: Vec<u16>,
    calibrations: Calibrations,
    novelties: [Novelty; ALWAYS],
    /// Of the last ones of [`Of`], which only signals with a season have.
    for_time: Option<Box<[Novelty; ALL - ALWAYS]>>,
}

/// Things that are remembered of every signal, and all things.
const ALWAYS: usize = 3;
const ALL: usize = 5;

impl Memory {
    /// Reads what the next sample will need of it.
    pub(super) fn glance(&self) -> u64 {
        let novelties = self.novelties.iter().map(Novelty::words).sum::<usize>();
        (novelties + self.calibrations.words()) as u64 + self.calibrations.glance()
    }

    /// And of its words.
    pub(super) fn glance_beyond(&self) -> u64 {
        // One in each line of the cache.
        self.words.iter().step_by(32).map(|w| u64::from(*w)).sum()
    }

    /// How many deviations a channel has learned; 255 is as many or more.
    pub(super) fn seen(&self, channel: usize) -> u32 {
        self.calibrations.seen(channel)
    }

    /// The sigma of a deviation, as surprising as it is for the channel: see [`Calibrations::sigma`].
    pub(super) fn sigma(&self, channel: usize, deviation: f64) -> f64 {
        self.calibrations.sigma(channel, deviation, &self.words)
    }

    /// Half of the band's width, as a deviation of the channel.
    pub(super) fn reach(&self, channel: usize) -> f64 {
        self.calibrations.reach(channel)
    }

    /// Learns a deviation of a channel.
    pub(super) fn learn(&mut self, channel: usize, deviation: f64) {
        self.calibrations.learn(channel, deviation, &mut self.words);
    }

    /// Ends a sample of which deviations were learned; `band` is as rare as where the band ends.
    pub(super) fn settle(&mut self, band: Rarity) {
        self.calibrations.settle(band, &mut self.words);
    }

    /// Forgets the deviations of a channel.
    pub(super) fn forget_channel(&mut self, channel: usize) {
        self.calibrations.forget(channel, &mut self.words);
    }

    /// What is remembered of something, for questions that need no words.
    pub(super) fn novelty(&self, of: Of) -> Novelty {
        let of = of as usize;
        let found = match of.checked_sub(ALWAYS) {
            None => self.novelties.get(of),
            Some(of) => self.for_time.as_deref().and_then(|all| all.get(of)),
        };
        found.copied().unwrap_or_default()
    }

    fn novelty_mut(&mut self, of: Of) -> Option<&mut Novelty> {
        let of = of as usize;
        match of.checked_sub(ALWAYS) {
            None => self.novelties.get_mut(of),
            Some(of) => self.for_time.get_or_insert_default().get_mut(of),
        }
    }

    fn novelties(&self) -> impl Iterator<Item = &Novelty> {
        self.novelties
            .iter()
            .chain(self.for_time.as_deref().into_iter().flatten())
    }

    /// Where its words begin.
    fn start(&self, of: Of) -> usize {
        let before = self.novelties().take(of as usize);
        self.calibrations.words() + before.map(Novelty::words).sum::<usize>()
    }

    /// See [`Novelty::gap`].
    pub(super) fn gap(&self, of: Of, value: f64, floor: f64) -> f64 {
        let novelty = self.novelty(of);
        let start = self.start(of);
        let words = self.words.get(start..start + novelty.words());
        novelty.gap(value, floor, words.unwrap_or_default())
    }

    /// Remembers `value` if it is `gap` from all others.
    pub(super) fn remember(&mut self, of: Of, value: f64, gap: f64, floor: f64) {
        let distance = self.gap(of, value, floor);
        self.remember_at(of, value, distance, gap);
    }

    /// The same where its `distance` from all others is known already.
    pub(super) fn remember_at(&mut self, of: Of, value: f64, distance: f64, gap: f64) {
        let mut novelty = self.novelty(of);
        if novelty.covers(value, distance, gap) {
            return;
        }
        let start = self.start(of);
        novelty.learn(value, distance, gap, &mut self.words, start);
        if let Some(place) = self.novelty_mut(of) {
            *place = novelty;
        }
    }

    /// Forgets what is remembered of something.
    pub(super) fn forget(&mut self, of: Of) {
        let start = self.start(of);
        let end = (start + self.novelty(of).words()).min(self.words.len());
        self.words.drain(start.min(end)..end);
        if let Some(novelty) = self.novelty_mut(of) {
            *novelty = Novelty::default();
        }
    }

    /// Whether what was read back can have been made here.
    pub(super) fn is_sound(&self) -> bool {
        let words: usize = self.novelties().map(Novelty::words).sum();
        self.calibrations.is_sound(&self.words)
            && self.novelties().all(Novelty::is_sound)
            && self.words.len() == self.calibrations.words() + words
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        let for_time = self.for_time.as_deref().map_or(0, size_of_val);
        self.words.capacity() * size_of::<u16>() + for_time
    }
}
