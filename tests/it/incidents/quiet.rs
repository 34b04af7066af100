//! Nothing happens.

use super::watched::Watched;
use super::world::World;
use super::{AS_SHIPPED, shop};

/// An hour of an ordinary shop: 250 signals, among them percentiles of twenty requests in coarse
/// buckets, queues, heaps. Nobody is called.
#[test]
fn an_ordinary_hour() {
    for seed in [61, 62] {
        let mut watched = Watched::new(seed, AS_SHIPPED, World::new(seed, shop()));
        watched.run(360);
        watched.expect_silence();
    }
}
