//! What a deployment changes for good.

use super::world::Service;
use super::{AS_SHIPPED, learned, learned_shop};

/// An hour and a bit, in ticks: what has lasted so long is how it is now.
const LASTING: i64 = 380;

/// `catalog` 1.5.0 takes 1.8 times as long, and stays so. Whoever is on call hears of it once, reads
/// which version it is, and after a while that this is the new normal; then never again.
#[test]
fn a_level_shift_by_a_deployment_becomes_the_new_normal() {
    for seed in [11, 12] {
        let services = vec![
            Service::new("search", "GET /search", 25.0)
                .traffic(|_| 6.0)
                .calls(&["catalog"])
                .healthy_process(),
            Service::new("catalog", "GET /products", 15.0).healthy_process(),
            Service::new("mailer", "POST /mails", 40.0).traffic(|_| 2.0),
        ];
        let mut shop = learned(seed, AS_SHIPPED, services);
        let now = shop.now();
        shop.world.service("catalog").deploy("1.5.0", now);
        shop.world.service("catalog").work *= 1.8;
        shop.run(LASTING);
        shop.expect(&["LatencyDeviation"], "catalog", 8);
        shop.expect_said("catalog", &["1.5.0"], 2);
        shop.expect_only(&["catalog", "search"]);
        shop.expect_one_incident("catalog");
        shop.expect_once_until("catalog", LASTING);
        shop.expect_said("catalog", &["normal"], LASTING);
        shop.mark();
        shop.run(200);
        shop.expect_silence();
    }
}

/// A version that changes nothing is nothing to tell, though every process starts anew.
#[test]
fn a_deployment_that_changes_nothing() {
    let mut shop = learned_shop(13, AS_SHIPPED);
    for service in ["payment", "catalog", "search"] {
        let now = shop.now();
        shop.world.service(service).deploy("1.5.0", now);
        shop.run(20);
    }
    shop.expect_silence();
}
