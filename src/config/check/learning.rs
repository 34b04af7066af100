//! What is kept: storage, windows, limits.

use std::time::Duration;

use crate::config::units::ByteSize;
use crate::config::yaml::Node;
use crate::config::{Config, Period};
use crate::model::WindowSpec;

use super::Checker;

impl Checker<'_> {
    pub(super) fn learning(&mut self, config: &Config) {
        let second = Period::secs(1);
        let hour = Period::secs(3600);
        let decade = Period::secs(10 * 365 * 86_400);
        self.period(
            "storage.snapshot_interval",
            config.storage.snapshot_interval,
            second,
            hour,
        );
        if config.storage.path.as_os_str().is_empty() {
            self.error(
                "storage.path",
                "must not be empty",
                "the default is ./tidewatch-data",
            );
        }
        let window = &config.window;
        let shortest = Period(Duration::from_millis(100));
        self.period("window.tick", window.tick, shortest, hour);
        self.window("window", window.samples, window.duration, window.tick);
        let ten_ticks = Period(window.tick.0.saturating_mul(10));
        self.period("window.idle_after", window.idle_after, ten_ticks, decade);
        let (minute, day) = (Period::secs(60), Period::secs(86_400));
        self.period("flapping.within", config.flapping.within, minute, day);
        self.period("flapping.hold", config.flapping.hold, minute, day);
        if !matches!(config.flapping.fires, 0 | 2..=64) {
            self.error(
                "flapping.fires",
                format!("must be 0, or from 2 to 64, is {}", config.flapping.fires),
                "0 switches it off",
            );
        }
        let limits = &config.limits;
        for (path, value) in [
            ("limits.series", limits.series),
            ("limits.series_per_service", limits.series_per_service),
            ("limits.services", limits.services),
        ] {
            if value == 0 {
                self.error(
                    path,
                    "must be at least 1",
                    "leave the key out for the default",
                );
            }
        }
        let least = ByteSize(64 << 20);
        if limits.memory < least {
            self.error(
                "limits.memory",
                format!("must be at least {least}, is {}", limits.memory),
                "the default is 2GiB",
            );
        }
        if self.node("rules").is_some_and(Node::is_null) {
            self.warn(
                "rules",
                "stands there without rules, so the built-in ones apply",
                "write `rules: []` for none, or leave the key out",
            );
        }
    }

    pub(super) fn window(
        &mut self,
        path: &str,
        samples: Option<u32>,
        duration: Option<Period>,
        tick: Period,
    ) {
        let most = WindowSpec::MAX_SAMPLES;
        match (samples, duration) {
            (Some(_), Some(_)) => self.error(
                &format!("{path}.duration"),
                "a window has `samples` or a `duration`, not both",
                "leave one of them out",
            ),
            (Some(samples), None) if !(2..=most).contains(&samples) => self.error(
                &format!("{path}.samples"),
                format!("must be from 2 to {most}, is {samples}"),
                "the default is 100",
            ),
            (None, Some(duration)) if duration.0 < tick.0.saturating_mul(2) => self.error(
                &format!("{path}.duration"),
                format!("must be at least two ticks of {tick}, is {duration}"),
                "a window of a single sample has no spread",
            ),
            (Some(_) | None, None) | (None, Some(_)) => {}
        }
    }
}
