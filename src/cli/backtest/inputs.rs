//! The files, and the pace at which they are run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::app::Pace;
use crate::config::{Loaded, Period};
use crate::ingest::replay::{Input, Naming, RecordFormat, Spacing};

use super::BacktestArgs;

/// A tick is not made shorter than this to tell two samples apart.
const SHORTEST_TICK: Duration = Duration::from_secs(1);

/// The files as they were given.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) files: Vec<(PathBuf, Naming)>,
    format: Option<RecordFormat>,
}

impl Inputs {
    pub(super) fn new(args: &BacktestArgs) -> Self {
        // Files of one name are told apart by their folders.
        let mut stems: BTreeMap<String, usize> = BTreeMap::new();
        for path in &args.inputs {
            *stems.entry(stem(path)).or_default() += 1;
        }
        let files = args.inputs.iter().map(|path| {
            let stem = stem(path);
            let own = match stems.get(&stem) {
                Some(1) => stem,
                _ => without_ending(path),
            };
            let naming = Naming {
                service: args.service.clone().unwrap_or(own),
                metric: args.metric.clone(),
            };
            (path.clone(), naming)
        });
        Self {
            files: files.collect(),
            format: args.format.map(Into::into),
        }
    }

    /// Whether reading twice gives the same.
    pub(super) fn can_be_read_again(&self) -> bool {
        let files = self.files.iter();
        let mut pipes = files.filter(|(path, _)| {
            path == Path::new("-") || std::fs::metadata(path).is_ok_and(|about| !about.is_file())
        });
        pipes.next().is_none()
    }

    /// Opens all.
    pub(super) fn open(&self) -> Result<Vec<Input>> {
        let files = self.files.iter();
        let open = |(path, naming): &(PathBuf, Naming)| Input::open(path, self.format, naming);
        Ok(files.map(open).collect::<Result<_, _>>()?)
    }
}

/// The path without `.csv`, `.json.gz`, …
fn without_ending(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.trim_end_matches(".gz").trim_end_matches(".zst");
    match text.rsplit_once('.') {
        Some((start, end)) if !start.is_empty() && !end.contains('/') => start.into(),
        _ => text.into(),
    }
}

fn stem(path: &Path) -> String {
    if path == Path::new("-") {
        return "stdin".into();
    }
    let whole = without_ending(path);
    let name = whole.rsplit('/').next().unwrap_or_default();
    if name.is_empty() { whole } else { name.into() }
}

/// How the data is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speed {
    /// In place of the configuration's tick.
    pub(super) pace: Option<Pace>,
    /// Why, for people.
    pub(super) spacing: Option<Duration>,
}

/// Data that comes more rarely than the tick is run at its own pace, unless somebody has said what a tick
/// is: each row is to be a sample, and no pause between two is to pass for silence.
pub(super) fn speed(inputs: &[Input], loaded: &Loaded, tick: Option<Period>) -> Speed {
    if let Some(Period(tick)) = tick {
        let pace = Pace {
            tick,
            spacing: tick,
        };
        return Speed {
            pace: Some(pace),
            spacing: None,
        };
    }
    let own = Speed {
        pace: None,
        spacing: None,
    };
    let usual = loaded.config.window.tick.0;
    let spacings: Option<Vec<Spacing>> = inputs.iter().map(Input::spacing).collect();
    let Some(spacings) = spacings.filter(|all| !all.is_empty() && !loaded.sets_tick) else {
        return own;
    };
    let Some(rarest) = spacings.iter().map(|s| s.usual).max() else {
        return own;
    };
    if spacings.iter().any(|spacing| spacing.usual <= usual) {
        return own;
    }
    let grid = spacings.iter().fold(0, |grid, spacing| {
        gcd(
            grid,
            u64::try_from(spacing.grid.as_nanos()).unwrap_or(u64::MAX),
        )
    });
    // Not longer than the usual gap: times may all be multiples of a day by chance, such as one time.
    let shortest = spacings.iter().map(|s| s.usual).min().unwrap_or(rarest);
    let tick = Duration::from_nanos(grid).min(shortest).max(SHORTEST_TICK);
    Speed {
        pace: Some(Pace {
            tick,
            spacing: rarest.max(tick),
        }),
        spacing: Some(rarest),
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_their_names() {
        for (path, expected) in [
            ("cpu.csv", "cpu"),
            ("data/cpu.csv", "cpu"),
            ("/data/cpu.json.gz", "cpu"),
            ("cpu", "cpu"),
            ("a.b/cpu", "cpu"),
            ("-", "stdin"),
            (".csv", ".csv"),
        ] {
            assert_eq!(stem(Path::new(path)), expected, "{path}");
        }
        assert_eq!(without_ending(Path::new("a/cpu.csv.zst")), "a/cpu");
    }
}
