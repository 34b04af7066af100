//! Traffic that changes as it does every day: nothing to tell, once it is known. And traffic that stays
//! away.

use super::watched::Watched;
use super::world::{Service, World};
use super::{AS_SHIPPED, HALF_AN_HOUR, learned};

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

/// Requests from outside until half an hour has passed, and again after `pause` ticks.
fn customers_leave(pause: i64) -> impl Fn(f64) -> f64 {
    let gone = 10.0 * HALF_AN_HOUR as f64;
    let back = gone + 10.0 * pause as f64;
    move |second| match (gone..back).contains(&second) {
        true => 0.0,
        false => 4.0,
    }
}

/// No request comes any more, to anybody. All processes live, and say so by a gauge and nothing else.
#[test]
fn nobody_asks_anything_any_more() {
    for seed in [57, 58] {
        let services = vec![
            Service::new("front", "GET /", 10.0)
                .traffic(customers_leave(30))
                .calls(&["pay"])
                .spans_only()
                .healthy_process(),
            Service::new("pay", "POST /pay", 30.0)
                .spans_only()
                .healthy_process(),
        ];
        let mut watched = learned(seed, AS_SHIPPED, services);
        watched.run(25);
        let told = watched.expect(&["ThroughputDrop"], "front", 8);
        assert!(told.says(&["Observed 0/s"], Some(8)), "{}", watched.log());
        watched.expect_still("ThroughputDrop", "front");
        watched.expect_one_incident("front");
        watched.run(25);
        watched.expect_all_resolved();
    }
}

/// The same, where what stands behind the front sends nothing but spans of what it is asked: its silence
/// is an effect.
#[test]
fn a_callee_that_nobody_calls_is_no_cause() {
    for seed in [59, 60] {
        let services = vec![
            Service::new("front", "GET /", 10.0)
                .traffic(customers_leave(40))
                .calls(&["pay"])
                .spans_only()
                .healthy_process(),
            Service::new("pay", "POST /pay", 30.0)
                .calls(&["ledger"])
                .spans_only(),
            Service::new("ledger", "POST /book", 5.0).spans_only(),
        ];
        let mut watched = learned(seed, AS_SHIPPED, services);
        watched.run(30);
        watched.expect(&["ThroughputDrop"], "front", 8);
        watched.expect(&["ServiceSilent"], "pay", 12);
        watched.expect_one_incident("front");
        for told in watched.told() {
            let blames = told.alert.grounds.origin.is_some();
            assert!(!blames, "{}\n{}", told.line(), watched.log());
        }
        watched.run(40);
        watched.expect_all_resolved();
    }
}

/// A callee that really dies takes what stands behind it along: that one is not called any more.
#[test]
fn behind_a_service_that_dies_it_is_silent_too() {
    for seed in [61, 62] {
        let services = vec![
            Service::new("front", "GET /", 10.0)
                .traffic(|_| 4.0)
                .calls(&["pay"])
                .spans_only()
                .healthy_process(),
            Service::new("pay", "POST /pay", 30.0)
                .calls(&["ledger"])
                .spans_only(),
            Service::new("ledger", "POST /book", 5.0).spans_only(),
        ];
        let mut watched = learned(seed, AS_SHIPPED, services);
        for instance in &mut watched.world.service("pay").instances {
            instance.up = false;
        }
        watched.run(30);
        watched.expect(&["ServiceSilent"], "ledger", 12);
        watched.expect_one_incident("pay");
        for told in watched.told() {
            let origin = told.alert.grounds.origin.as_ref();
            let blames = origin.is_some_and(|origin| origin.service() == "ledger");
            assert!(!blames, "{}\n{}", told.line(), watched.log());
        }
    }
}
