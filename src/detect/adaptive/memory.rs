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
    novelties: [Novelty; 5],
}

impl Memory {
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
        self.novelties.get(of as usize).copied().unwrap_or_default()
    }

    /// Where its words begin.
    fn start(&self, of: Of) -> usize {
        let before = self.novelties.iter().take(of as usize);
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
        let start = self.start(of);
        if let Some(novelty) = self.novelties.get_mut(of as usize) {
            novelty.learn(value, distance, gap, &mut self.words, start);
        }
    }

    /// Forgets what is remembered of something.
    pub(super) fn forget(&mut self, of: Of) {
        let start = self.start(of);
        if let Some(novelty) = self.novelties.get_mut(of as usize) {
            let end = (start + novelty.words()).min(self.words.len());
            self.words.drain(start.min(end)..end);
            *novelty = Novelty::default();
        }
    }

    /// Whether what was read back can have been made here.
    pub(super) fn is_sound(&self) -> bool {
        let words: usize = self.novelties.iter().map(Novelty::words).sum();
        self.calibrations.is_sound(&self.words)
            && self.novelties.iter().all(Novelty::is_sound)
            && self.words.len() == self.calibrations.words() + words
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        self.words.capacity() * size_of::<u16>()
    }
}
