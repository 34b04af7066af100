//! Something fills up.

use super::watched::Watched;
use super::world::{Service, World};
use super::{AS_SHIPPED, HALF_AN_HOUR, learned, shop};

/// Consumers fall behind: a queue that held a handful grows by three a second.
#[test]
fn a_queue_that_builds_up() {
    for seed in [31, 32] {
        let begin = HALF_AN_HOUR as f64 * 10.0;
        let (grow, over) = (begin, begin + 300.0);
        let mut services = shop();
        services.push(
            Service::new("orders", "CONSUME orders", 50.0)
                .traffic(|_| 3.0)
                .gauge(
                    "messaging.queue.depth",
                    "{message}",
                    move |second, noise| {
                        let behind = if second < over {
                            3.0 * (second - grow).max(0.0)
                        } else {
                            0.0
                        };
                        (behind + noise.poisson(6.0) as f64).round()
                    },
                ),
        );
        let mut watched = learned(seed, AS_SHIPPED, services);
        watched.run(30);
        let told = watched.expect(&["QueueDepthSpike"], "orders", 6);
        assert!(
            told.says(&["messaging.queue.depth"], Some(1)),
            "{}",
            watched.log()
        );
        watched.expect_only(&["orders"]);
        watched.run(20);
        watched.expect_all_resolved();
    }
}

/// What a rule about memory looks like.
const MEMORY: &str = r#"
rules:
  - alert: MemoryRunsOut
    match: '{metric="process.memory.usage"}'
    detector: forecast
    upper: 2GiB
    horizon: 1h
"#;

/// A process of 600 MB leaks 12 MB a minute under its collections of garbage, and would be killed at
/// 2 GiB after two hours. Whoever is on call hears of it at least ten minutes before.
#[test]
fn a_memory_leak_is_predicted() {
    for seed in [33, 34] {
        let leak_from = 3600.0;
        let per_second = 12e6 / 60.0;
        let full = leak_from + (2f64.powi(31) - 700e6) / per_second;
        let mut garbage = 0.0;
        let services = vec![
            Service::new("images", "POST /resize", 80.0)
                .traffic(|_| 1.0)
                .gauge("process.memory.usage", "By", move |second, noise| {
                    garbage += 4e6 * noise.uniform();
                    if garbage > 100e6 {
                        garbage = 0.0;
                    }
                    600e6 + garbage + per_second * (second - leak_from).max(0.0)
                }),
            Service::new("search", "GET /search", 25.0)
                .traffic(|_| 1.0)
                .healthy_process(),
        ];
        let mut watched = Watched::new(seed, MEMORY, World::new(seed, services));
        watched.run((leak_from / 10.0) as i64);
        watched.expect_silence();
        watched.mark();
        watched.run(((full - leak_from) / 10.0) as i64);
        let ahead = |tick: i64| (full - tick as f64 * 10.0) / 60.0;
        let told = watched.expect(&["MemoryRunsOut"], "images", i64::MAX / 2);
        let minutes = ahead(told.fired);
        assert!(
            minutes >= 10.0,
            "{minutes} minutes ahead\n{}",
            watched.log()
        );
        // Too early would be a guess: what it says is then not true.
        assert!(
            minutes <= 75.0,
            "{minutes} minutes ahead\n{}",
            watched.log()
        );
        watched.expect_only(&["images"]);
    }
}
