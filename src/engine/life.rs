//! Until when a service that has no request is known to have had none.
//!
//! A tick without a span of an operation is a rate of 0 only while the service lives, which whatever it
//! sends shows; and only once its spans of that tick would be here: metrics may come at once, and spans
//! half a minute later by way of a collector that waits for whole traces. So it is learned of each service
//! how late its spans come, and that long is waited.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::derive::SpanPartial;
use crate::model::{MetricKind, Timestamp};

/// Longer than this nobody waits for spans: what comes later is late.
const LONGEST: Duration = Duration::from_secs(60);
/// Ticks of which is remembered whether the service was heard, as bits of a word.
const REMEMBERED: u32 = u64::BITS;
/// After so many ticks with spans, none of which came as late as some did before, one tick less is waited.
const PATIENCE: u32 = 64;

/// All services that were heard lately.
#[derive(Default)]
pub(super) struct Lives {
    services: HashMap<Arc<str>, Life>,
    /// End of the last tick.
    closed: Option<Timestamp>,
}

/// One service.
#[derive(Default)]
struct Life {
    /// Whether it was heard: in the last tick (bit 0), in the one before (bit 1), and so on.
    heard: u64,
    /// End of the newest tick in which it had spans.
    spans_until: Option<Timestamp>,
    /// After how many ticks all spans of a tick are here. `None` before the first spans of this run.
    delay: Option<u32>,
    /// Ticks with spans since one of them came so late.
    prompt: u32,
}

impl Lives {
    /// Closes the tick that ends at `boundary`, since whose beginning the services `present` have sent
    /// something, spans in `gathered` among it. By service, the end of the tick of which it is known now
    /// that the service lived through it and that no more spans of it will come.
    pub(super) fn step(
        &mut self,
        boundary: Timestamp,
        tick: Duration,
        present: &[Arc<str>],
        gathered: &[SpanPartial],
    ) -> HashMap<Arc<str>, Timestamp> {
        let ticks = |time: Duration| {
            let whole = time.as_nanos() / tick.as_nanos().max(1);
            u32::try_from(whole).unwrap_or(u32::MAX)
        };
        let passed = match self.closed.replace(boundary) {
            Some(before) if before <= boundary => ticks(boundary.since(before)),
            // The clock was set back: nothing is known of these ticks.
            Some(_) => REMEMBERED,
            None => 0,
        };
        for life in self.services.values_mut() {
            life.heard = life.heard.checked_shl(passed).unwrap_or(0);
        }
        for service in present {
            self.services.entry(Arc::clone(service)).or_default().heard |= 1;
        }
        // How late the spans of this tick are, by service.
        let mut delays: HashMap<&Arc<str>, u32> = HashMap::new();
        for partial in gathered {
            if partial.identity.kind == MetricKind::Spans {
                let service = &partial.identity.resource.service;
                let life = self.services.entry(Arc::clone(service)).or_default();
                life.spans_until = life.spans_until.max(Some(partial.tick_end));
                let delay = ticks(boundary.since(partial.tick_end));
                let most = delays.entry(service).or_default();
                *most = delay.max(*most);
            }
        }
        let longest = ticks(LONGEST).min(REMEMBERED - 1);
        for (service, delay) in delays {
            if let Some(life) = self.services.get_mut(service) {
                life.learn(delay.min(longest));
            }
        }
        let until = |life: &Life| {
            if life.spans_until.is_some_and(|until| until >= boundary) {
                return Some(boundary);
            }
            let delay = life.delay.unwrap_or(longest);
            let lived = life.heard.checked_shr(delay).unwrap_or(0) & 1 == 1;
            lived.then(|| boundary.minus(tick.saturating_mul(delay)))
        };
        let lived = self
            .services
            .iter()
            .filter_map(|(service, life)| Some((Arc::clone(service), until(life)?)))
            .collect();
        self.services.retain(|_, life| {
            life.heard != 0 || life.spans_until.is_some_and(|until| until > boundary)
        });
        lived
    }
}

impl Life {
    /// Spans came `delay` ticks after they had ended.
    fn learn(&mut self, delay: u32) {
        match self.delay {
            Some(known) if delay < known => {
                self.prompt += 1;
                if self.prompt >= PATIENCE {
                    self.delay = Some(known - 1);
                    self.prompt = 0;
                }
            }
            _ => {
                self.delay = Some(delay);
                self.prompt = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::{SpanAggregator, SpanSettings};
    use crate::engine::tests::{at, span};

    const TICK: Duration = Duration::from_secs(10);

    /// What `shop` sends in one tick: whether anything, and at which seconds the spans in it ended.
    fn step(lives: &mut Lives, boundary: i64, heard: bool, spans: &[i64]) -> Option<i64> {
        let mut aggregator = SpanAggregator::new(SpanSettings::default());
        for (id, ended) in (0..).zip(spans) {
            let (operation, span) = span("shop", id, 1, None, *ended);
            aggregator.apply(&[operation], [&span], at(boundary), |_, _| {});
        }
        let present: Vec<Arc<str>> = heard.then(|| "shop".into()).into_iter().collect();
        let lived = lives.step(at(boundary), TICK, &present, &aggregator.take());
        let end = lived.get("shop")?;
        Some(end.seconds_since(at(0)) as i64)
    }

    #[test]
    fn whatever_a_service_sends_shows_that_it_lives() {
        let mut lives = Lives::default();
        assert_eq!(step(&mut lives, 10, true, &[8]), Some(10));
        assert_eq!(step(&mut lives, 20, true, &[]), Some(20));
        assert_eq!(step(&mut lives, 30, false, &[]), None);
        assert_eq!(step(&mut lives, 40, true, &[]), Some(40));
        // Its clock is ahead.
        assert_eq!(step(&mut lives, 50, true, &[58]), Some(50));
        assert_eq!(step(&mut lives, 60, false, &[]), Some(60));
        assert_eq!(step(&mut lives, 70, false, &[]), None);
        assert_eq!(lives.services.len(), 1);
        step(&mut lives, 70 + 640, false, &[]);
        assert_eq!(lives.services.len(), 0);
    }

    #[test]
    fn spans_that_come_late_are_waited_for() {
        let mut lives = Lives::default();
        // Of a service whose spans nobody has seen yet nothing is known for a minute.
        for boundary in (10..=60).step_by(10) {
            assert_eq!(step(&mut lives, boundary, true, &[]), None);
        }
        assert_eq!(step(&mut lives, 70, true, &[]), Some(10));
        // Twenty seconds late.
        assert_eq!(step(&mut lives, 80, true, &[58]), Some(60));
        assert_eq!(step(&mut lives, 90, true, &[]), Some(70));
        // Later ones are on time, which in the end is believed.
        let mut boundary = 90;
        let mut last = Some(70);
        while last < Some(boundary) {
            boundary += 10;
            step(&mut lives, boundary, true, &[boundary - 2]);
            boundary += 10;
            last = step(&mut lives, boundary, true, &[]);
            assert!(boundary < 5_000);
        }
        assert!(boundary > 1_000, "{boundary}");
    }
}
