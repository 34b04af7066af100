//! Something breaks: who is told, how soon, and whether the text leads to the cause.

use super::watched::Watched;
use super::world::Service;
use super::{AS_SHIPPED, learned, learned_shop};

/// Whoever deviates critically is told to run degraded until it has been well for a minute.
const DEGRADE: &str = r#"
modes:
  policies:
    - {name: trouble, when: '{severity="critical"}', service: "{{ service }}", level: degraded, hold: 30s, recover: 1m}
"#;

/// A dependency three calls below the front door becomes eight times slower. Everybody above it waits,
/// so everybody above it is slow; the text on each must lead to the one that is to blame.
#[test]
fn a_slow_dependency_three_calls_deep() {
    for seed in [1, 2] {
        let mut shop = learned_shop(seed, DEGRADE);
        shop.world.service("bank-gateway").work *= 8.0;
        shop.run(20);
        let chain = ["frontend", "checkout", "payment", "bank-gateway"];
        for service in chain {
            shop.expect(&["LatencyDeviation"], service, 5);
        }
        for service in ["frontend", "checkout", "payment"] {
            shop.expect_said(service, &["likely_origin: bank-gateway"], 2);
        }
        shop.expect_only(&chain);
        shop.expect_one_incident("bank-gateway");
        for service in chain {
            shop.expect_still("LatencyDeviation", service);
        }
        assert_eq!(shop.mode("bank-gateway"), "degraded", "{}", shop.log());
        assert_eq!(shop.mode("catalog"), "normal", "{}", shop.log());

        shop.world.service("bank-gateway").work /= 8.0;
        // To degrade does not help here, which is told for a quarter of an hour.
        shop.run(130);
        shop.expect_all_resolved();
        assert_eq!(shop.mode("bank-gateway"), "normal", "{}", shop.log());
    }
}

/// `payment` 1.5.0 comes out and fails one request in four, so that its callers fail, too. The text
/// names the version; when it is rolled back, all is well.
#[test]
fn an_error_burst_after_a_new_version() {
    for seed in [3, 4] {
        let mut shop = learned_shop(seed, AS_SHIPPED);
        let now = shop.now();
        shop.world.service("payment").deploy("1.5.0", now);
        shop.world.service("payment").errors = 0.25;
        shop.run(20);
        for service in ["frontend", "checkout", "payment"] {
            shop.expect(&["ErrorRatioDeviation"], service, 5);
        }
        shop.expect_said("payment", &["1.5.0"], 2);
        shop.expect_said("frontend", &["likely_origin: payment"], 2);
        shop.expect_one_incident("payment");
        for service in ["frontend", "checkout", "payment"] {
            shop.expect_still("ErrorRatioDeviation", service);
        }
        shop.expect_only(&["frontend", "checkout", "payment"]);

        let now = shop.now();
        shop.world.service("payment").deploy("1.4.2", now);
        shop.world.service("payment").errors = 0.002;
        shop.run(20);
        shop.expect_all_resolved();
        shop.expect_only(&["frontend", "checkout", "payment"]);
    }
}

/// A gateway before a service of ten instances, at `per_second` requests.
fn ten_instances(seed: u64, per_second: f64) -> Watched {
    let services = vec![
        Service::new("gateway", "GET /items", 5.0)
            .traffic(move |_| per_second)
            .calls(&["api"]),
        Service::new("api", "GET /api/items", 30.0).instances(10),
        Service::new("search", "GET /search", 25.0)
            .traffic(|_| 6.0)
            .healthy_process(),
    ];
    learned(seed, AS_SHIPPED, services)
}

/// One of ten instances fails all it is asked. As a tenth of all requests it is easily seen; the text
/// must say that it is this one instance, since nothing else need be touched.
#[test]
fn one_failing_instance_of_ten() {
    for seed in [5, 6] {
        let mut watched = ten_instances(seed, 20.0);
        watched.world.service("api").instances[7].errors = 1.0;
        watched.run(15);
        watched.expect(&["ErrorRatioDeviation"], "api", 6);
        watched.expect_said("api", &["api-7"], 2);
        watched.expect_only(&["api", "gateway"]);
        watched.expect_one_incident("api");
        watched.expect_still("ErrorRatioDeviation", "api");
        watched.world.service("api").instances[7].errors = 0.0;
        watched.run(20);
        watched.expect_all_resolved();
    }
}

/// One of ten instances is six times slower than the others.
#[test]
fn one_slow_instance_of_ten() {
    for seed in [7, 8] {
        let mut watched = ten_instances(seed, 20.0);
        watched.world.service("api").instances[7].slower = 6.0;
        watched.run(15);
        watched.expect(&["LatencyDeviation"], "api", 5);
        watched.expect_said("api", &["api-7"], 2);
        watched.expect_only(&["api", "gateway"]);
        watched.expect_one_incident("api");
        watched.expect_still("LatencyDeviation", "api");
        watched.world.service("api").instances[7].slower = 1.0;
        watched.run(20);
        watched.expect_all_resolved();
    }
}
