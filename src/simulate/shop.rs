use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::{SpanContext, SpanKind};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::follow;
use super::service::{Endpoints, Service, Transport, Work};
use crate::clock::Clock;
use crate::model::Timestamp;

/// Requests a second that come to the shop's front door. Enough for a stable 99th percentile in a
/// tick of half a second, little enough for a laptop.
const REQUESTS_PER_SECOND: f64 = 240.0;
/// How often a handful of requests is made.
const STEP: Duration = Duration::from_millis(25);
/// Of the customers' checkouts, so many are of low priority: they can wait when a service degrades.
const LOW_PRIORITY: f64 = 0.35;

/// Of the slowness of `payment`, so much is left while it refuses what can wait.
const RELIEF: f64 = 0.35;

/// What goes wrong: `payment` answers slower and fails more often, because it has more to do than it can.
#[derive(Debug, Clone, Copy)]
pub struct Incident {
    /// Durations are multiplied by this.
    pub slowdown: f64,
    /// Share of charges that fail.
    pub errors: f64,
}

impl Incident {
    /// What is left of it while what can wait is refused: the rest is served, if not as fast as ever.
    fn relieved(self) -> Self {
        Self {
            slowdown: 1.0 + (self.slowdown - 1.0) * RELIEF,
            errors: 0.0,
        }
    }
}

impl Default for Incident {
    fn default() -> Self {
        Self {
            slowdown: 6.0,
            errors: 0.15,
        }
    }
}

/// The services of the shop, by their place in the story.
struct Services {
    frontend: Service,
    catalog: Service,
    recommendation: Service,
    checkout: Service,
    inventory: Service,
    payment: Service,
}

impl Services {
    fn all(&self) -> [&Service; 6] {
        [
            &self.frontend,
            &self.catalog,
            &self.recommendation,
            &self.checkout,
            &self.inventory,
            &self.payment,
        ]
    }
}

/// The shop before it opens.
#[derive(Debug)]
pub struct Shop {
    /// Where the daemon is.
    pub endpoints: Endpoints,
    /// How often each service exports.
    pub export_every: Duration,
    /// Seed of everything random.
    pub seed: u64,
}

/// A running shop.
#[derive(Clone)]
pub struct ShopHandle {
    services: Arc<Services>,
    incident: Arc<AtomicBool>,
    shed: Arc<AtomicU64>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shop {
    /// The names of the services.
    pub const SERVICES: [&str; 6] = [
        "frontend",
        "catalog",
        "recommendation",
        "checkout",
        "inventory",
        "payment",
    ];

    /// Opens the shop: services report and follow their modes until [`ShopHandle::close`].
    ///
    /// # Errors
    /// An exporter cannot be built from the endpoints.
    pub fn open(self, clock: Clock) -> anyhow::Result<ShopHandle> {
        let start =
            |name, transport| Service::start(name, transport, &self.endpoints, self.export_every);
        let services = Arc::new(Services {
            frontend: start("frontend", Transport::Http)?,
            catalog: start("catalog", Transport::Grpc)?,
            recommendation: start("recommendation", Transport::Http)?,
            checkout: start("checkout", Transport::Grpc)?,
            inventory: start("inventory", Transport::Grpc)?,
            payment: start("payment", Transport::Http)?,
        });
        let handle = ShopHandle {
            services,
            incident: Arc::default(),
            shed: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for service in handle.services.all() {
            let api = self.endpoints.api.parse().context("the API's address")?;
            handle.tasks.spawn(follow::follow(
                crate::follow::Service::new(api, service.name)?,
                format!("{}-1", service.name),
                Arc::clone(&service.degraded),
                handle.stop.clone(),
            ));
        }
        handle.tasks.spawn(trade(
            handle.clone(),
            StdRng::seed_from_u64(self.seed),
            clock,
        ));
        handle.tasks.close();
        Ok(handle)
    }
}

impl ShopHandle {
    /// Begins the incident.
    pub fn break_payment(&self) {
        self.incident.store(true, Ordering::Relaxed);
    }

    /// Ends the incident.
    pub fn repair_payment(&self) {
        self.incident.store(false, Ordering::Relaxed);
    }

    /// How many requests were shed so far.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Services that were told to degrade and do.
    pub fn degraded(&self) -> Vec<&'static str> {
        self.services
            .all()
            .into_iter()
            .filter(|s| s.is_degraded())
            .map(|s| s.name)
            .collect()
    }

    /// Closes the shop and sends what is left.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        let services = Arc::clone(&self.services);
        let flushed = tokio::task::spawn_blocking(move || {
            for service in services.all() {
                service.stop();
            }
        });
        if let Err(error) = flushed.await {
            tracing::warn!(%error, "the shop did not close cleanly");
        }
    }
}

/// Customers come and go until the shop closes.
async fn trade(shop: ShopHandle, mut rng: StdRng, clock: Clock) {
    let mut timer = tokio::time::interval(STEP);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut owed = 0.0;
    loop {
        tokio::select! {
            () = shop.stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        // Arrivals vary a little from step to step, as they do in life.
        owed += REQUESTS_PER_SECOND * STEP.as_secs_f64() * rng.random_range(0.8..1.2);
        let incident = shop
            .incident
            .load(Ordering::Relaxed)
            .then(Incident::default);
        while owed >= 1.0 {
            owed -= 1.0;
            customer(&shop, &mut rng, clock.now(), incident);
        }
        for service in shop.services.all() {
            let base = if incident.is_some() && service.name == "payment" {
                40
            } else {
                4
            };
            service.record_queue(base + rng.random_range(0..4));
        }
    }
}

/// One customer: looks at the catalogue, and every second one checks out.
fn customer(shop: &ShopHandle, rng: &mut StdRng, now: Timestamp, incident: Option<Incident>) {
    let s = &shop.services;
    let mut trace = Trace { rng, now };
    if trace.rng.random_bool(0.5) {
        let advice = trace.took(12.0);
        let products = trace.took(25.0) + advice;
        let page = trace.took(10.0) + products;
        let root = trace.serve(&s.frontend, "GET /shop", None, page, false);
        let list = trace.serve(&s.catalog, "GET /products", Some(&root), products, false);
        if !s.catalog.is_degraded() {
            trace.serve(
                &s.recommendation,
                "GET /recommendations",
                Some(&list),
                advice,
                false,
            );
        }
        return;
    }
    // A degraded checkout or payment answers what can wait with "we will send you a mail".
    let shedding = s.checkout.is_degraded() || s.payment.is_degraded();
    let shed = shedding && trace.rng.random_bool(LOW_PRIORITY);
    let incident = incident.map(|incident| match shedding {
        true => incident.relieved(),
        false => incident,
    });
    let slowdown = incident.map_or(1.0, |incident| incident.slowdown);
    let charge = trace.took(60.0 * slowdown);
    let failed = !shed && incident.is_some_and(|incident| trace.rng.random_bool(incident.errors));
    let reserve = trace.took(15.0);
    let work = trace.took(20.0) + reserve + if shed { Duration::ZERO } else { charge };
    let page = trace.took(8.0) + work;
    let root = trace.serve(&s.frontend, "POST /checkout", None, page, failed);
    let order = trace.serve(&s.checkout, "POST /order", Some(&root), work, failed);
    trace.serve(&s.inventory, "POST /reserve", Some(&order), reserve, false);
    if shed {
        shop.shed.fetch_add(1, Ordering::Relaxed);
        let shedder = if s.checkout.is_degraded() {
            &s.checkout
        } else {
            &s.payment
        };
        shedder.record_shed();
    } else {
        trace.serve(&s.payment, "POST /charge", Some(&order), charge, failed);
    }
}

/// The work of one customer, all of it ending now.
struct Trace<'a> {
    rng: &'a mut StdRng,
    now: Timestamp,
}

impl Trace<'_> {
    /// A log-normal duration around `milliseconds`.
    fn took(&mut self, milliseconds: f64) -> Duration {
        // Sum of twelve uniforms less six: near enough to a standard normal for a demo.
        let normal: f64 = (0..12).map(|_| self.rng.random::<f64>()).sum::<f64>() - 6.0;
        Duration::from_secs_f64(milliseconds / 1e3 * (0.15 * normal).exp())
    }

    fn serve(
        &mut self,
        service: &Service,
        operation: &'static str,
        parent: Option<&SpanContext>,
        duration: Duration,
        error: bool,
    ) -> SpanContext {
        let start = self.now.minus(duration);
        service.record(&Work {
            operation,
            kind: SpanKind::Server,
            parent,
            start,
            duration,
            error,
        })
    }
}
