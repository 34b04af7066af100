//! Incidents end to end, in virtual time: services as they are run, what goes wrong with them, and what
//! the person on call should have been told. And what must not wake anybody.
//!
//! Each story goes through the same engine, alerts, explanations and modes as in the daemon, with the
//! built-in rules unless it says which others. `watched` is the daemon, `world` the services.

mod noise;
mod watched;
mod world;

mod deployments;
mod failures;
mod hiccups;
mod quiet;
mod same;
mod saturation;
mod silence;
mod traffic;

use watched::Watched;
use world::{Service, World};

/// The built-in rules with the settings as they are shipped.
const AS_SHIPPED: &str = "{}";

/// A shop of eight services:
///
/// ```text
/// frontend ─▶ checkout ─▶ payment ─▶ bank-gateway
///                     └─▶ stock
/// search ─▶ catalog          mailer (alone)
/// ```
fn shop() -> Vec<Service> {
    vec![
        Service::new("frontend", "POST /checkout", 8.0)
            .traffic(|_| 4.0)
            .calls(&["checkout"]),
        Service::new("checkout", "POST /orders", 20.0).calls(&["stock", "payment"]),
        Service::new("stock", "POST /reservations", 10.0),
        Service::new("payment", "POST /charges", 30.0).calls(&["bank-gateway"]),
        Service::new("bank-gateway", "POST /transfers", 60.0),
        Service::new("search", "GET /search", 25.0)
            .traffic(|_| 6.0)
            .calls(&["catalog"])
            .healthy_process(),
        Service::new("catalog", "GET /products", 15.0).healthy_process(),
        Service::new("mailer", "POST /mails", 40.0).traffic(|_| 2.0),
    ]
}

/// Ticks of ten seconds that a daemon has watched before a story begins: half an hour. What it says
/// before that is the story of `quiet`.
const HALF_AN_HOUR: i64 = 180;

/// `services` after half an hour.
fn learned(seed: u64, configuration: &str, services: Vec<Service>) -> Watched {
    let mut watched = Watched::new(seed, configuration, World::new(seed, services));
    watched.run(HALF_AN_HOUR);
    watched.mark();
    watched
}

/// The shop after half an hour.
fn learned_shop(seed: u64, configuration: &str) -> Watched {
    learned(seed, configuration, shop())
}
