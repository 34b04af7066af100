//! How far a run is, on standard error.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::clock;
use crate::ingest::replay::Merged;
use crate::model::Timestamp;

/// A run that is done before needs no progress.
const FIRST: Duration = Duration::from_secs(1);
/// Time between two lines: on a terminal, where one is written over the other, and elsewhere.
const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Says how far it is.
pub(super) struct Progress {
    /// `None`: nobody wants to know.
    every: Option<Duration>,
    is_terminal: bool,
    state: RefCell<State>,
}

struct State {
    began: Instant,
    next: Duration,
    is_shown: bool,
}

impl Progress {
    /// `wanted`: also where standard error is no terminal.
    pub(super) fn new(wanted: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self {
            every: match is_terminal {
                true => Some(ON_TERMINAL),
                false => wanted.then_some(ELSEWHERE),
            },
            is_terminal,
            state: RefCell::new(State {
                began: clock::instant(),
                next: FIRST,
                is_shown: false,
            }),
        }
    }

    /// Shows how far `merged` is, if it is time to.
    pub(super) fn show(&self, merged: &Merged, now: Timestamp, samples: u64) {
        let Some(every) = self.every else { return };
        let mut state = self.state.borrow_mut();
        let elapsed = state.began.elapsed();
        if elapsed < state.next {
            return;
        }
        state.next = elapsed + every;
        let (mut read, mut all) = (0, Some(0));
        for input in merged.inputs() {
            let (position, bytes) = input.progress();
            read += position;
            all = all.zip(bytes).map(|(all, bytes)| all + bytes);
        }
        let share = match all {
            Some(all) if all > 0 => format!("{:.0} %", read as f64 * 100.0 / all as f64),
            _ => format!("{:.0} MB", read as f64 / 1e6),
        };
        let text = format!("{share} read, {samples} samples, at {now}");
        let mut stderr = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to stop.
        drop(if self.is_terminal {
            state.is_shown = true;
            write!(stderr, "\r\x1b[K{text}")
        } else {
            writeln!(stderr, "{text}")
        });
    }

    /// Takes it off the terminal, so that something else can be written.
    pub(super) fn clear(&self) {
        let mut state = self.state.borrow_mut();
        if std::mem::take(&mut state.is_shown) {
            drop(write!(std::io::stderr().lock(), "\r\x1b[K"));
        }
    }
}
