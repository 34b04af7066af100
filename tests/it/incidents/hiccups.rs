//! What happens to telemetry itself, and to nobody's service: no reason to wake anybody.

use super::world::{Collector, Service};
use super::{AS_SHIPPED, learned, learned_shop};

/// The collector between the services and the daemon is replaced. For half a minute nothing comes;
/// what came in that time is lost, or sent late and all at once.
#[test]
fn a_collector_restart() {
    let mut shop = learned_shop(21, AS_SHIPPED);
    shop.world.collector = Collector::LosesUntil(shop.now() + 34.0);
    shop.run(40);
    shop.world.collector = Collector::KeepsUntil(shop.now() + 34.0);
    shop.run(40);
    shop.expect_silence();
}

/// Processes restart one after the other, so that all their counters begin at zero again. Some say
/// since when they count, others do not.
#[test]
fn a_counter_reset() {
    let mut shop = learned_shop(22, AS_SHIPPED);
    for service in ["frontend", "checkout", "payment", "catalog", "mailer"] {
        for instance in 0..2 {
            let now = shop.now() + 3.0;
            shop.world.service(service).instances[instance].restart(now);
            shop.run(2);
        }
    }
    shop.run(20);
    shop.expect_silence();
}

/// The daemon's own clock is set: forward, and some minutes later back.
#[test]
fn a_step_of_the_daemon_s_clock() {
    let mut shop = learned_shop(23, AS_SHIPPED);
    for step in [47.0, -47.0, -47.0, 47.0] {
        shop.set_clock(step);
        shop.run(25);
    }
    shop.expect_silence();
}

/// The clock of a machine that everything runs on is set, the daemon among it.
#[test]
fn a_step_of_everybody_s_clock() {
    let mut shop = learned_shop(24, AS_SHIPPED);
    for step in [13.0, -13.0] {
        shop.set_clock(step);
        for service in &mut shop.world.services {
            for instance in &mut service.instances {
                instance.clock += step;
            }
        }
        shop.run(25);
    }
    shop.expect_silence();
}

/// One machine's clock is half a minute wrong, until it is set right.
#[test]
fn a_step_of_one_instance_s_clock() {
    let services = vec![
        Service::new("api", "GET /items", 30.0)
            .instances(10)
            .traffic(|_| 15.0)
            .calls(&["stock"])
            .healthy_process(),
        Service::new("stock", "GET /stock", 30.0),
    ];
    let mut watched = learned(25, AS_SHIPPED, services);
    for step in [33.0, -33.0, -33.0, 33.0] {
        watched.world.service("api").instances[0].clock += step;
        watched.run(25);
    }
    watched.expect_silence();
}
