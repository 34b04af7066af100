//! The same incident is told the same, whatever the daemon goes through.

use std::num::NonZeroUsize;

use super::watched::Watched;
use super::world::World;
use super::{AS_SHIPPED, calm_shop, shop};

/// `payment` is slow and fails for two minutes, and recovers.
fn incident(shop: &mut Watched, in_the_middle: impl FnOnce(&mut Watched)) {
    shop.world.service("payment").work *= 6.0;
    shop.world.service("payment").errors = 0.3;
    shop.run(6);
    in_the_middle(shop);
    shop.run(6);
    shop.world.service("payment").work /= 6.0;
    shop.world.service("payment").errors = 0.002;
    shop.run(20);
}

/// The daemon restarts while it is bad: what fires goes on firing, is not told anew, and ends when it
/// is over.
#[test]
fn after_a_restart_in_the_middle() {
    let mut straight = calm_shop(71, AS_SHIPPED, 100);
    incident(&mut straight, |_| {});
    let mut restarted = calm_shop(71, AS_SHIPPED, 100);
    incident(&mut restarted, Watched::restart);
    for told in [&straight, &restarted] {
        told.expect_each_once_until(32);
    }
    let heard = |watched: &Watched| -> Vec<_> {
        let told = watched.told();
        let mut heard: Vec<_> = told
            .map(|told| (told.fired, told.resolved, told.alert.fingerprint))
            .collect();
        heard.sort_unstable();
        heard
    };
    assert!(
        heard(&straight) == heard(&restarted),
        "{}\n{}",
        straight.log(),
        restarted.log()
    );
}

/// No thread of its own, one or four: not a word is different.
#[test]
fn on_any_number_of_threads() {
    let logs = [0, 1, 4].map(|threads| {
        let threads = NonZeroUsize::new(threads);
        let mut watched = Watched::on_threads(threads, 72, AS_SHIPPED, World::new(72, shop()));
        watched.run(60);
        incident(&mut watched, |_| {});
        watched.log()
    });
    assert!(logs[0].contains("LatencyDeviation payment"), "{}", logs[0]);
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0], logs[2]);
}
