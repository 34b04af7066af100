//! A landscape of services in virtual time. Requests come in at random, run through the services that
//! call each other, and leave spans; every instance also keeps metrics. What an instance has is exported
//! the way SDKs do it: in batches, each instance in a rhythm of its own, a little late, by way of a
//! collector.

use std::sync::Arc;

use tidewatch::model::{
    AttributeValue, Attributes, Batch, HistogramPoint, Instrument, MetricKind, MetricPoint,
    Operation, PointData, Resource, Scope, SeriesIdentity, SpanKind, SpanRecord, Temporality,
    Timestamp,
};

use super::noise::Noise;

/// Second 0 of every story: a Monday, at midnight.
pub const MONDAY: i64 = 1_800_230_400;

/// The histogram's buckets in seconds, as OpenTelemetry's conventions advise for durations.
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// So many seconds after second 0.
pub fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos(MONDAY * 1_000_000_000 + (seconds * 1e9) as i64)
}

/// What a gauge shows at a second.
pub type Level = Box<dyn FnMut(f64, &mut Noise) -> f64>;

/// A gauge of an instance.
pub struct Gauge {
    metric: &'static str,
    unit: &'static str,
    level: Level,
}

/// A copy of a service.
pub struct Instance {
    pub id: String,
    pub version: &'static str,
    /// What the service's own work is multiplied by here.
    pub slower: f64,
    /// Share of requests that fail here, besides those that fail everywhere.
    pub errors: f64,
    /// Its machine's clock is so many seconds ahead.
    pub clock: f64,
    /// Whether it sends anything, and takes requests.
    pub up: bool,
    pub gauges: Vec<Gauge>,
    /// Since when the process runs, by its own clock.
    started: f64,
    /// Durations of all requests since then.
    durations: HistogramPoint,
    /// Work units done since then, for a counter that does not tell its start.
    jobs: f64,
    next_spans: f64,
    next_metrics: f64,
    unsent: Vec<(Operation, SpanRecord)>,
}

impl Instance {
    /// Resource attributes as SDKs set them.
    fn resource(&self, service: &str) -> Arc<Resource> {
        let pair = |key: &str, value: &str| (key.into(), AttributeValue::from(value));
        Arc::new(Resource {
            service: service.into(),
            attributes: Attributes::from_pairs([
                pair("service.name", service),
                pair("service.version", self.version),
                pair("service.instance.id", &self.id),
                pair("telemetry.sdk.language", "rust"),
            ]),
        })
    }

    /// The process ends and another begins: totals start from zero.
    pub fn restart(&mut self, now: f64) {
        self.started = now + self.clock;
        self.durations = no_durations();
        self.jobs = 0.0;
    }
}

fn no_durations() -> HistogramPoint {
    HistogramPoint {
        count: 0,
        sum: Some(0.0),
        min: None,
        max: None,
        bounds: BOUNDS.to_vec(),
        counts: vec![0; BOUNDS.len() + 1],
    }
}

/// A service with one operation.
pub struct Service {
    pub name: &'static str,
    pub operation: &'static str,
    /// Requests a second from outside, by the second of the story.
    pub traffic: Box<dyn Fn(f64) -> f64>,
    /// The services it calls for each request, one after the other.
    pub calls: Vec<&'static str>,
    /// Median of the time its own work takes, in seconds.
    pub work: f64,
    /// Spread of the logarithm of that time.
    pub spread: f64,
    /// Share of requests that fail by themselves.
    pub errors: f64,
    pub instances: Vec<Instance>,
    /// Whether its instances report a histogram of durations and counters besides spans.
    pub metered: bool,
}

impl Service {
    /// A healthy service with two instances; `milliseconds` is the median of its own work.
    pub fn new(name: &'static str, operation: &'static str, milliseconds: f64) -> Self {
        Self {
            name,
            operation,
            traffic: Box::new(|_| 0.0),
            calls: Vec::new(),
            work: milliseconds / 1e3,
            spread: 0.4,
            errors: 0.002,
            instances: Vec::new(),
            metered: true,
        }
        .instances(2)
    }

    pub fn instances(mut self, count: usize) -> Self {
        self.instances = (0..count)
            .map(|n| Instance {
                id: format!("{}-{n}", self.name),
                version: "1.4.2",
                slower: 1.0,
                errors: 0.0,
                clock: 0.0,
                up: true,
                gauges: Vec::new(),
                started: -3600.0,
                durations: no_durations(),
                jobs: 0.0,
                next_spans: 0.0,
                next_metrics: 0.0,
                unsent: Vec::new(),
            })
            .collect();
        self
    }

    pub fn calls(mut self, callees: &[&'static str]) -> Self {
        self.calls = callees.to_vec();
        self
    }

    pub fn traffic(mut self, per_second: impl Fn(f64) -> f64 + 'static) -> Self {
        self.traffic = Box::new(per_second);
        self
    }

    /// Only spans: for stories of many days.
    pub fn spans_only(mut self) -> Self {
        self.metered = false;
        self
    }

    /// A gauge on the first instance.
    pub fn gauge(
        mut self,
        metric: &'static str,
        unit: &'static str,
        level: impl FnMut(f64, &mut Noise) -> f64 + 'static,
    ) -> Self {
        if let Some(first) = self.instances.first_mut() {
            first.gauges.push(Gauge {
                metric,
                unit,
                level: Box::new(level),
            });
        }
        self
    }

    /// What a process reports of itself, all in order: processor, memory with its collections of
    /// garbage, connections.
    pub fn healthy_process(self) -> Self {
        let mut heap = 0.4;
        self.gauge("process.cpu.utilization", "1", |_, noise| {
            (0.3 + 0.05 * noise.normal()).clamp(0.0, 1.0)
        })
        .gauge("process.memory.usage", "By", move |_, noise| {
            heap += 0.03 * noise.uniform();
            if heap > 0.9 {
                heap = 0.4;
            }
            heap * 1e9
        })
        .gauge("db.client.connection.count", "{connection}", |_, noise| {
            noise.poisson(8.0) as f64
        })
    }

    /// All instances are replaced by those of another version.
    pub fn deploy(&mut self, version: &'static str, now: f64) {
        for instance in &mut self.instances {
            instance.version = version;
            instance.restart(now);
        }
    }
}

/// What stands between the services and the daemon.
#[derive(Clone, Copy, PartialEq)]
pub enum Collector {
    Up,
    /// What comes before this second is lost.
    LosesUntil(f64),
    /// What comes before this second is kept, and sent then.
    KeepsUntil(f64),
}

/// A batch on its way to the daemon.
struct Delivery {
    /// When it arrives.
    time: f64,
    batch: Batch,
}

/// All services, and what is on its way from them.
pub struct World {
    pub services: Vec<Service>,
    pub noise: Noise,
    pub collector: Collector,
    /// How often instances send spans and metrics, in seconds.
    rhythm: (f64, f64),
    /// Seconds since the beginning.
    pub now: f64,
    spans: u64,
    on_the_way: Vec<Delivery>,
}

impl World {
    /// Services that send spans every 5 s, as SDKs do, and metrics every 10 s, as is usual.
    pub fn new(seed: u64, services: Vec<Service>) -> Self {
        Self::in_rhythm(seed, (5.0, 10.0), services)
    }

    /// Services that send (spans, metrics) every so many seconds: for stories of days.
    pub fn in_rhythm(seed: u64, rhythm: (f64, f64), services: Vec<Service>) -> Self {
        let mut world = Self {
            services,
            noise: Noise::new(seed),
            collector: Collector::Up,
            rhythm,
            now: 0.0,
            spans: 0,
            on_the_way: Vec::new(),
        };
        // Nobody starts in step with anybody.
        for service in &mut world.services {
            for instance in &mut service.instances {
                instance.next_spans = rhythm.0 * world.noise.uniform();
                instance.next_metrics = rhythm.1 * world.noise.uniform();
            }
        }
        world
    }

    /// The service of this name.
    pub fn service(&mut self, name: &str) -> &mut Service {
        let found = self
            .services
            .iter_mut()
            .find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("there is no service {name}"))
    }

    /// Lets so many seconds pass; what reaches the daemon by then, in order of arrival.
    pub fn pass(&mut self, seconds: f64) -> Vec<(f64, Batch)> {
        let until = self.now + seconds;
        let mut arrivals = Vec::new();
        for (index, service) in self.services.iter().enumerate() {
            let rate = (service.traffic)(self.now + seconds / 2.0);
            for _ in 0..self.noise.poisson(rate * seconds) {
                arrivals.push((self.now + seconds * self.noise.uniform(), index));
            }
        }
        arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (time, service) in arrivals {
            self.spans += 1;
            let trace = u128::from(self.spans) << 64 | 0x7157;
            self.serve(service, time, trace, None);
        }
        self.export(until);
        self.now = until;
        let arrived = |delivery: &mut Delivery| delivery.time <= until;
        let mut due: Vec<Delivery> = self.on_the_way.extract_if(.., arrived).collect();
        due.sort_by(|a, b| a.time.total_cmp(&b.time));
        due.into_iter().map(|d| (d.time, d.batch)).collect()
    }

    /// A request reaches a service at second `start`. Returns when it was answered, and whether with
    /// an error.
    fn serve(
        &mut self,
        index: usize,
        start: f64,
        trace: u128,
        parent: Option<u64>,
    ) -> Option<(f64, bool)> {
        let service = &self.services[index];
        let up: Vec<usize> = (0..service.instances.len())
            .filter(|n| service.instances[*n].up)
            .collect();
        if up.is_empty() {
            return None;
        }
        let chosen = up[self.noise.below(up.len())];
        let instance = &service.instances[chosen];
        let own = service.work * instance.slower * self.noise.lognormal(service.spread);
        let own_errors = service.errors + instance.errors;
        let mut failed = self.noise.happens(own_errors);
        let callees = service.calls.clone();
        let span = self.id();
        let mut time = start + own / 2.0;
        for callee in callees {
            let (end, error) = self.call(index, chosen, callee, time, trace, span);
            time = end;
            failed |= error;
            if error {
                break;
            }
        }
        let end = time + own / 2.0;
        let operation = self.services[index].operation;
        let own_span = Spoken {
            name: operation.into(),
            kind: SpanKind::Server,
            start,
            end,
            error: failed,
            trace,
            span,
            parent,
        };
        self.speak(index, chosen, own_span);
        let instance = &mut self.services[index].instances[chosen];
        record(&mut instance.durations, end - start);
        instance.jobs += 1.0 + (self.spans % 3) as f64;
        Some((end, failed))
    }

    /// A call of another service, with the client's span around it.
    fn call(
        &mut self,
        caller: usize,
        instance: usize,
        callee: &'static str,
        start: f64,
        trace: u128,
        parent: u64,
    ) -> (f64, bool) {
        let span = self.id();
        let network = 0.0005 * self.noise.lognormal(0.3);
        let index = self.services.iter().position(|s| s.name == callee);
        let index = index.unwrap_or_else(|| panic!("there is no service {callee}"));
        let (end, error) = match self.serve(index, start + network, trace, Some(span)) {
            Some((answered, error)) => (answered + network, error),
            // The connection is refused.
            None => (start + network, true),
        };
        let name = format!("call {}", self.services[index].operation);
        self.speak(
            caller,
            instance,
            Spoken {
                name,
                kind: SpanKind::Client,
                start,
                end,
                error,
                trace,
                span,
                parent: Some(parent),
            },
        );
        (end, error)
    }

    fn id(&mut self) -> u64 {
        self.spans += 1;
        self.spans
    }

    /// An instance finishes a span, with the times of its own clock.
    fn speak(&mut self, service: usize, instance: usize, spoken: Spoken) {
        let name = self.services[service].name;
        let instance = &mut self.services[service].instances[instance];
        let resource = match instance.unsent.last() {
            Some((last, _)) if is_of(&last.resource, instance) => Arc::clone(&last.resource),
            _ => instance.resource(name),
        };
        let operation = Operation {
            resource,
            name: spoken.name.into(),
            kind: spoken.kind,
        };
        let span = SpanRecord {
            trace_id: spoken.trace,
            span_id: spoken.span,
            parent_id: spoken.parent,
            start: at(spoken.start + instance.clock),
            end: at(spoken.end + instance.clock),
            operation: 0,
            error: spoken.error,
        };
        instance.unsent.push((operation, span));
    }

    /// Sends all that is due until second `until`.
    fn export(&mut self, until: f64) {
        let mut sent = Vec::new();
        for service in &mut self.services {
            for instance in &mut service.instances {
                let instance_is_up = instance.up;
                while instance.next_spans <= until {
                    let time = instance.next_spans;
                    instance.next_spans += self.rhythm.0 + 0.02 * self.noise.uniform();
                    let finished = at(time + instance.clock);
                    let mut batch = Batch::default();
                    let spans = &mut instance.unsent;
                    for (operation, span) in spans.extract_if(.., |(_, span)| span.end <= finished)
                    {
                        batch.add_span(operation, span);
                    }
                    if instance_is_up && !batch.spans.is_empty() {
                        sent.push((time, batch));
                    }
                }
                while instance.next_metrics <= until {
                    let time = instance.next_metrics;
                    instance.next_metrics += self.rhythm.1 + 0.02 * self.noise.uniform();
                    let points = metrics(
                        service.name,
                        service.operation,
                        service.metered,
                        instance,
                        time,
                        &mut self.noise,
                    );
                    if instance_is_up && !points.is_empty() {
                        let batch = Batch {
                            points,
                            ..Batch::default()
                        };
                        sent.push((time, batch));
                    }
                }
            }
        }
        for (time, batch) in sent {
            let time = time + 0.02 + 0.3 * self.noise.uniform();
            let time = match self.collector {
                Collector::LosesUntil(end) if time < end => continue,
                Collector::KeepsUntil(end) if time < end => end + 2.0 * self.noise.uniform(),
                _ => time,
            };
            self.on_the_way.push(Delivery { time, batch });
        }
    }
}

/// A finished span in the story's time.
struct Spoken {
    name: String,
    kind: SpanKind,
    start: f64,
    end: f64,
    error: bool,
    trace: u128,
    span: u64,
    parent: Option<u64>,
}

/// Whether `resource` still names the instance as it is: a deployment changes its version.
fn is_of(resource: &Resource, instance: &Instance) -> bool {
    let is = |key: &str, value: &str| {
        resource
            .attributes
            .get(key)
            .is_some_and(|found| found.as_text() == value)
    };
    is("service.version", instance.version) && is("service.instance.id", &instance.id)
}

fn record(durations: &mut HistogramPoint, seconds: f64) {
    durations.count += 1;
    durations.sum = durations.sum.map(|sum| sum + seconds);
    let bucket = BOUNDS.iter().position(|bound| seconds <= *bound);
    durations.counts[bucket.unwrap_or(BOUNDS.len())] += 1;
}

/// What an instance reports at second `time`.
fn metrics(
    service: &str,
    operation: &'static str,
    metered: bool,
    instance: &mut Instance,
    time: f64,
    noise: &mut Noise,
) -> Vec<MetricPoint> {
    let resource = instance.resource(service);
    let scope = Arc::new(Scope {
        name: "simulated".into(),
        ..Scope::default()
    });
    let route = (
        Box::from("http.route"),
        AttributeValue::from(operation.split(' ').next_back().unwrap_or(operation)),
    );
    let stamp = at(time + instance.clock);
    let point = |metric: &str, unit: &str, kind, attributes, start, data| {
        let identity = Arc::new(SeriesIdentity {
            resource: Arc::clone(&resource),
            instrument: Arc::new(Instrument {
                scope: Arc::clone(&scope),
                metric: metric.into(),
                unit: unit.into(),
                kind,
            }),
            attributes,
        });
        MetricPoint {
            series: identity.id(),
            identity: identity.into(),
            start,
            time: stamp,
            data,
            exemplar: None,
        }
    };
    let mut points = Vec::new();
    if metered {
        points.push(point(
            "http.server.request.duration",
            "s",
            MetricKind::Histogram(Temporality::Cumulative),
            Attributes::from_pairs([route]),
            Some(at(instance.started)),
            PointData::Histogram(Box::new(instance.durations.clone())),
        ));
        // Prometheus clients do not say since when they count.
        points.push(point(
            "jobs.done",
            "{job}",
            MetricKind::Sum {
                monotonic: true,
                temporality: Temporality::Cumulative,
            },
            Attributes::default(),
            None,
            PointData::Number(instance.jobs),
        ));
    }
    for gauge in &mut instance.gauges {
        let level = (gauge.level)(time, noise);
        points.push(point(
            gauge.metric,
            gauge.unit,
            MetricKind::Gauge,
            Attributes::default(),
            None,
            PointData::Number(level),
        ));
    }
    points
}
