//! Nothing happens.

use super::{AS_SHIPPED, HALF_AN_HOUR, learned_shop};

/// An hour of an ordinary shop: 250 signals, among them percentiles of twenty requests in coarse
/// buckets, queues, heaps. While all is new, an odd quarter of a minute may be told; once half an hour is
/// known, nobody is called.
#[test]
fn an_ordinary_hour() {
    for seed in [61, 62] {
        let mut watched = learned_shop(seed, AS_SHIPPED);
        let early = watched.told_so_far();
        assert!(
            early <= 2,
            "{early} alerts while learning\n{}",
            watched.log()
        );
        watched.run(HALF_AN_HOUR);
        watched.expect_silence();
    }
}
