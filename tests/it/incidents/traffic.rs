//! Traffic that changes as it does every day: nothing to tell, once it is known.

use super::watched::Watched;
use super::world::{Service, World};

const DAY: f64 = 86_400.0;

/// Ticks of ten minutes, for stories of days.
const TEN_MINUTES: &str = "window: {tick: 10m, idle_after: 1d}";
const TICKS_A_DAY: i64 = 144;

/// A shop by the hour: quiet nights, a rise in the morning, and the peak at eight in the evening, four
/// times the night.
fn by_the_hour(second: f64) -> f64 {
    let hour = second.rem_euclid(DAY) / 3600.0;
    let bump = |at: f64, width: f64| {
        let distance = (hour - at + 12.0).rem_euclid(24.0) - 12.0;
        (-0.5 * (distance / width).powi(2)).exp()
    };
    0.06 + 0.08 * bump(11.0, 2.5) + 0.18 * bump(20.0, 1.2)
}

/// A front and what it calls, under `traffic`, in ticks of ten minutes.
fn front(seed: u64, traffic: impl Fn(f64) -> f64 + 'static) -> Watched {
    let services = vec![
        Service::new("front", "GET /", 40.0)
            .traffic(traffic)
            .calls(&["stock"])
            .spans_only(),
        Service::new("stock", "GET /stock", 20.0).spans_only(),
    ];
    Watched::new(
        seed,
        TEN_MINUTES,
        World::in_rhythm(seed, (60.0, 600.0), services),
    )
}

/// After two days the daily peak is known. What it is not: the same number of requests at night.
#[test]
fn a_daily_peak_is_known_after_two_days() {
    for seed in [51, 52] {
        let extra = 5.0 * DAY + 3.0 * 3600.0;
        let mut watched = front(seed, move |second| {
            let unusual = (extra..extra + 7200.0).contains(&second);
            by_the_hour(second) + if unusual { 0.3 } else { 0.0 }
        });
        watched.run(2 * TICKS_A_DAY);
        watched.mark();
        watched.run(3 * TICKS_A_DAY);
        watched.expect_silence();
        watched.run(18);
        watched.mark();
        watched.run(12);
        watched.expect(&["RateDeviation"], "front", 6);
    }
}

/// From nine to eleven every morning, in one step, a job doubles the traffic.
#[test]
fn traffic_that_doubles_every_morning() {
    for seed in [53, 54] {
        let mut watched = front(seed, |second| {
            let hour = second.rem_euclid(DAY) / 3600.0;
            if (9.0..11.0).contains(&hour) {
                0.3
            } else {
                0.15
            }
        });
        watched.run(2 * TICKS_A_DAY);
        watched.mark();
        watched.run(4 * TICKS_A_DAY);
        watched.expect_silence();
    }
}

/// A job at the full hour doubles the traffic for five minutes, all day long.
#[test]
fn traffic_that_doubles_every_hour() {
    for seed in [55, 56] {
        let services = vec![
            Service::new("front", "GET /", 40.0)
                .traffic(|second| {
                    if second.rem_euclid(3600.0) < 300.0 {
                        1.6
                    } else {
                        0.8
                    }
                })
                .calls(&["stock"])
                .spans_only(),
            Service::new("stock", "GET /stock", 20.0).spans_only(),
        ];
        let world = World::in_rhythm(seed, (15.0, 60.0), services);
        let mut watched = Watched::new(seed, "window: {tick: 1m}", world);
        watched.run(8 * 60);
        watched.mark();
        watched.run(8 * 60);
        watched.expect_silence();
    }
}
