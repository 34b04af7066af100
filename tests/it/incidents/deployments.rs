//! What a deployment changes for good.

use super::{AS_SHIPPED, calm_shop};

/// `catalog` 1.5.0 takes 1.8 times as long, and stays so. Whoever is on call hears of it once, reads
/// which version it is, and after a while that this is the new normal; then never again.
#[test]
fn a_level_shift_by_a_deployment_becomes_the_new_normal() {
    for seed in [11, 12] {
        let mut shop = calm_shop(seed, AS_SHIPPED, 150);
        let now = shop.now();
        shop.world.service("catalog").deploy("1.5.0", now);
        shop.world.service("catalog").work *= 1.8;
        shop.run(100);
        shop.expect(&["LatencyDeviation"], "catalog", 8);
        shop.expect_said("catalog", &["1.5.0"], 2);
        shop.expect_only(&["catalog", "search"]);
        shop.expect_each_once_until(100);
        shop.expect_said("catalog", &["normal"], 100);
        shop.mark();
        shop.run(200);
        shop.expect_silence();
    }
}

/// A version that changes nothing is nothing to tell, though every process starts anew.
#[test]
fn a_deployment_that_changes_nothing() {
    let mut shop = calm_shop(13, AS_SHIPPED, 120);
    for service in ["payment", "catalog", "search"] {
        let now = shop.now();
        shop.world.service(service).deploy("1.5.0", now);
        shop.run(20);
    }
    shop.expect_silence();
}
