use super::*;
use crate::model::{AbsenceSpec, Measure, Observation, OwnSettings};

/// Silence of whatever `selector` selects, told after a minute.
fn silent(selector: &str, after: Option<u64>) -> Rule {
    let mut rule = rule("Silent", selector);
    rule.detector.name = "absence".into();
    rule.detector.own = OwnSettings::Absence(AbsenceSpec {
        after: after.map(Duration::from_secs),
    });
    rule
}

/// Services and what they send.
struct Shop {
    handle: Handle,
    now: i64,
    /// Service, seconds between its exports, and how many series it has.
    services: Vec<(&'static str, i64, u32)>,
}

impl Shop {
    fn new(rule: Rule, services: &[(&'static str, i64, u32)]) -> Self {
        Self {
            handle: start(settings(2), &[rule]).0,
            now: 0,
            services: services.to_vec(),
        }
    }

    /// So many ticks; what is an anomaly, as (seconds since the beginning, service, metric).
    async fn run(&mut self, ticks: i64, sends: impl Fn(&str) -> bool) -> Vec<Observation> {
        let mut found = Vec::new();
        for _ in 0..ticks {
            self.now += TICK;
            let mut batch = Batch::default();
            for (service, every, series) in &self.services {
                if self.now % every == 0 && sends(service) {
                    let points = (0..*series).map(|n| gauge(service, n, self.now, 1.0));
                    batch.points.extend(points);
                }
            }
            apply(&self.handle, self.now, batch).await;
            let report = self.handle.tick(at(self.now)).await;
            found.extend(
                report
                    .observations
                    .into_iter()
                    .filter(|o| o.anomaly.is_some()),
            );
        }
        found
    }
}

fn told(found: &[Observation]) -> Vec<(i64, &str, &str)> {
    let seconds = |time: Timestamp| time.seconds_since(at(0)) as i64;
    let tell = |o| -> (i64, &str, &str) {
        let o: &Observation = o;
        (
            seconds(o.sample.time),
            o.signal.service(),
            o.signal.metric(),
        )
    };
    found.iter().map(tell).collect()
}

const SHOP: [(&str, i64, u32); 3] = [("cart", 10, 200), ("front", 10, 3), ("bank", 60, 5)];

#[tokio::test]
async fn a_service_that_dies_is_told_once_and_not_for_each_of_its_series() {
    let mut shop = Shop::new(silent("{}", None), &SHOP);
    assert_eq!(told(&shop.run(120, |_| true).await), []);
    let found = shop.run(10, |service| service != "cart").await;
    let expected: Vec<_> = (126..=130)
        .map(|n| (n * TICK, "cart", "telemetry"))
        .collect();
    assert_eq!(told(&found), expected);
    let first = &found[0];
    assert_eq!(first.sample.value, 60.0);
    assert_eq!(first.judged.expected, 10.0);
    assert_eq!(first.judged.evidence.measure, Measure::Silence);
    // It is back: calm at once, and reported until an alert can end.
    assert_eq!(told(&shop.run(40, |_| true).await), []);
    // One that exports once a minute, the last time two ticks ago, may miss some.
    let found = shop.run(60, |service| service != "bank").await;
    assert_eq!(
        told(&found)[0],
        ((170 - 2 + 30) * TICK, "bank", "telemetry")
    );
}

#[tokio::test]
async fn what_silences_everybody_is_no_services_silence() {
    let mut shop = Shop::new(silent("{}", None), &SHOP);
    shop.run(120, |_| true).await;
    // The collector is away for ten minutes, and then they come back one after the other.
    assert_eq!(told(&shop.run(60, |_| false).await), []);
    assert_eq!(told(&shop.run(3, |service| service == "front").await), []);
    assert_eq!(told(&shop.run(60, |_| true).await), []);
    // The clock jumps an hour ahead, and back.
    shop.now += 3600;
    assert_eq!(told(&shop.run(2, |service| service == "front").await), []);
    assert_eq!(told(&shop.run(60, |_| true).await), []);
    shop.now -= 600;
    assert_eq!(told(&shop.run(2, |service| service == "front").await), []);
    assert_eq!(told(&shop.run(60, |_| true).await), []);
    // Of one that dies meanwhile, it is told when the others are back.
    assert_eq!(told(&shop.run(30, |_| false).await), []);
    let found = shop.run(20, |service| service != "cart").await;
    assert!(!found.is_empty() && found.iter().all(|o| o.signal.service() == "cart"));
}

#[tokio::test]
async fn one_service_alone_is_told_too() {
    let mut shop = Shop::new(silent("{}", None), &[("cart", 10, 2)]);
    assert_eq!(told(&shop.run(120, |_| true).await), []);
    let found = shop.run(8, |_| false).await;
    assert_eq!(told(&found)[0], (1260, "cart", "telemetry"));
}

#[tokio::test]
async fn a_rule_that_names_a_metric_watches_each_signal() {
    let mut shop = Shop::new(
        silent(r#"{metric="m"}"#, Some(120)),
        &[("cart", 10, 2), ("front", 10, 1)],
    );
    assert_eq!(told(&shop.run(20, |_| true).await), []);
    let found = shop.run(12, |service| service != "cart").await;
    assert_eq!(told(&found), [(320, "cart", "m"), (320, "cart", "m")]);
}

#[tokio::test]
async fn silence_goes_on_over_a_restart_and_ends_with_the_service() {
    let rule = silent("{}", None);
    let mut shop = Shop::new(rule.clone(), &SHOP);
    shop.run(120, |_| true).await;
    shop.run(4, |service| service != "cart").await;
    let saved = shop.handle.snapshot().await;
    let (handle, warnings) =
        Engine::start(settings(3), [rule].into(), Telemetry::new(), saved).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    shop.handle = handle;
    // Down for half an hour, and forty seconds of silence before it.
    shop.now += 1800;
    let found = shop.run(4, |service| service != "cart").await;
    assert_eq!(told(&found)[0], (1240 + 1800 + 20, "cart", "telemetry"));
    // After an hour it is no more silent, but gone.
    let mut ended = Vec::new();
    for _ in 0..400 {
        shop.now += TICK;
        let points = [gauge("front", 0, shop.now, 1.0)];
        apply(&shop.handle, shop.now, super::points(points)).await;
        ended.extend(shop.handle.tick(at(shop.now)).await.ended);
    }
    assert!(ended.contains(&found[0].signal.id));
}

#[tokio::test]
async fn output_does_not_depend_on_the_number_of_shards() {
    let mut outputs = Vec::new();
    for shards in [1, 4] {
        let mut shop = Shop::new(silent("{}", None), &SHOP);
        shop.handle = start(settings(shards), &[silent("{}", None)]).0;
        shop.run(120, |_| true).await;
        let found = shop.run(40, |service| service == "front").await;
        outputs.push(format!("{found:?}"));
    }
    assert_eq!(outputs[0], outputs[1]);
}
