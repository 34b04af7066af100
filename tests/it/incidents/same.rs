//! The same incident is told the same, whatever the daemon goes through.

use std::num::NonZeroUsize;

use super::watched::{Told, Watched};
use super::world::World;
use super::{AS_SHIPPED, learned_shop, shop};

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
    let mut straight = learned_shop(71, AS_SHIPPED);
    incident(&mut straight, |_| {});
    let mut restarted = learned_shop(71, AS_SHIPPED);
    incident(&mut restarted, Watched::restart);
    for told in [&straight, &restarted] {
        told.expect_once_until("payment", 32);
    }
    let heard = |watched: &Watched| -> Vec<_> {
        // Of a call whose ends are reported before and after the restart nobody knows that it is one.
        let of_calls = |told: &&Told| told.alert.labels.get("metric") == Some("edge.duration");
        let told = watched.told().filter(|told| !of_calls(told));
        let mut heard: Vec<_> = told.map(Told::line).collect();
        heard.sort_unstable();
        heard
    };
    assert_eq!(heard(&straight), heard(&restarted));
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
