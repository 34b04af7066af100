use super::*;
use crate::model::{
    Carrier, Moved, MovedQuestion, Movement, SeriesId, SignalId, SignalKind, Subject,
};

const CALM: i64 = 40;
const BAD: i64 = 4;

/// A gauge of one of the ten pods of `shop`.
fn of_pod(metric: &str, pod: u32, version: &str, seconds: i64, value: f64) -> MetricPoint {
    let usual = identity("shop", 0, MetricKind::Gauge);
    let identity = Arc::new(SeriesIdentity {
        resource: resource(
            "shop",
            &[
                ("service.instance.id", &format!("pod-{pod}")),
                ("service.version", version),
            ],
        ),
        instrument: Arc::new(Instrument {
            metric: metric.into(),
            ..(*usual.instrument).clone()
        }),
        ..(*usual).clone()
    });
    point(&identity, at(seconds), PointData::Number(value))
}

/// A wave without a pattern, within ±1.
fn noise(step: i64, seed: u32) -> f64 {
    ((step * 37 + i64::from(seed) * 101) % 19) as f64 / 9.5 - 1.0
}

/// Ten pods; after 40 ticks pod 7 uses more memory and answers more slowly, and all have fewer calls.
async fn story(shards: usize) -> Handle {
    let (handle, _) = start(settings(shards), &[rule("Memory", "{metric=\"memory\"}")]);
    for step in 1..=CALM + BAD {
        let now = step * TICK;
        let bad = step > CALM;
        let mut batch = Batch::default();
        for pod in 0..10 {
            let up = if bad && pod == 7 { 40.0 } else { 0.0 };
            let version = if pod == 7 { "2.0" } else { "1.0" };
            let memory = 100.0 + noise(step, pod) + up;
            batch
                .points
                .push(of_pod("memory", pod, version, now, memory));
            // Nobody watches these.
            let calls = if bad { 20.0 } else { 50.0 } + noise(step, pod + 20);
            batch.points.push(of_pod("calls", pod, version, now, calls));
            batch.points.push(of_pod(
                "calm",
                pod,
                version,
                now,
                5.0 + noise(step, pod + 40),
            ));
            for id in 0..5u64 {
                let trace = (step as u128) << 16 | u128::from(pod) << 8 | (u128::from(id) + 1);
                let (mut operation, mut span) = span("shop", trace, id + 1, None, now - 5);
                let millis = if bad && pod == 7 { 900 } else { 100 + id };
                span.start = span.end.minus(Duration::from_millis(millis));
                operation.resource = resource(
                    "shop",
                    &[
                        ("service.instance.id", &format!("pod-{pod}")),
                        ("service.version", version),
                    ],
                );
                batch.add_span(operation, span);
            }
        }
        apply(&handle, now, batch).await;
        handle.tick(at(now)).await;
    }
    handle
}

async fn id_of(handle: &Handle, selector: &str) -> String {
    let page = handle.signals(select(selector), None, 10).await;
    page.items.first().expect("a signal").id.clone()
}

async fn ask(handle: &Handle, id: &str, metric: &str, after: i64) -> Movement {
    let question = MovedQuestion {
        service: "shop".into(),
        since: at(after * TICK),
        subjects: vec![Subject {
            signal_id: id.into(),
            metric: metric.into(),
            above: true,
        }],
    };
    handle.moved(vec![question]).await.remove(0)
}

fn named(moved: &Moved) -> (String, String, u32, Timestamp) {
    (
        moved.metric.clone(),
        moved.signal.clone(),
        moved.series,
        moved.since,
    )
}

#[tokio::test]
async fn what_moved_is_told_with_its_time_whether_a_rule_watches_it_or_not() {
    let handle = story(2).await;
    let id = id_of(&handle, r#"{metric="memory",service_instance_id="pod-7"}"#).await;
    let movement = ask(&handle, &id, "memory", CALM + 1).await;
    let began = at((CALM + 1) * TICK);
    let mut seen: Vec<_> = movement.moved.iter().map(named).collect();
    seen.sort();
    let expected =
        |metric: &str, signal: &str, series| (metric.to_owned(), signal.to_owned(), series, began);
    let [calls, memory, spans] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert_eq!(*calls, expected("calls", "value", 10));
    assert_eq!(*memory, expected("memory", "value", 1));
    assert_eq!(
        (spans.0.as_str(), spans.2, spans.3),
        ("span.duration", 1, began)
    );
    let calls = movement
        .moved
        .iter()
        .find(|m| m.metric == "calls")
        .expect("calls");
    assert!(calls.sigma < -3.0 && !calls.watched, "{calls:?}");
    assert!(
        calls
            .change()
            .is_some_and(|change| (change + 0.6).abs() < 0.03),
        "{calls:?}"
    );
    assert_eq!(
        movement
            .moved
            .iter()
            .find(|m| m.metric == "memory")
            .map(|m| m.watched),
        Some(true)
    );
    // Before it began nothing had moved.
    let quiet = handle.moved(vec![MovedQuestion {
        service: "shop".into(),
        since: at((CALM - 10) * TICK),
        subjects: Vec::new(),
    }]);
    assert_eq!(quiet.await.remove(0).moved, []);
}

#[tokio::test]
async fn one_bad_instance_of_ten_carries_the_change() {
    let handle = story(2).await;
    let carrier = |attribute: &str, value: &str, of| Carrier {
        attribute: attribute.into(),
        values: vec![value.into()],
        of,
        sampled: false,
    };
    let id = id_of(&handle, r#"{metric="memory",service_instance_id="pod-7"}"#).await;
    let movement = ask(&handle, &id, "memory", CALM + 1).await;
    assert_eq!(
        movement.carriers.get(&id).map(Vec::as_slice),
        Some(
            &[
                carrier("service.version", "2.0", 2),
                carrier("service.instance.id", "pod-7", 10)
            ][..]
        )
    );
    // Series of spans carry no instance; it is known all the same.
    let id = id_of(&handle, r#"{metric="span.duration",signal="p99"}"#).await;
    let movement = ask(&handle, &id, "span.duration", CALM + 1).await;
    assert_eq!(
        movement.carriers.get(&id).map(Vec::as_slice),
        Some(
            &[
                carrier("service.version", "2.0", 2),
                carrier("service.instance.id", "pod-7", 10)
            ][..]
        )
    );
    // What all have in common separates nothing.
    let id = id_of(&handle, r#"{metric="calls",service_instance_id="pod-7"}"#).await;
    let question = MovedQuestion {
        service: "shop".into(),
        since: at((CALM + 1) * TICK),
        subjects: vec![Subject {
            signal_id: id.clone(),
            metric: "calls".into(),
            above: false,
        }],
    };
    let movement = handle.moved(vec![question]).await.remove(0);
    assert_eq!(movement.carriers.get(&id).map(Vec::as_slice), Some(&[][..]));
}

#[tokio::test]
async fn the_answer_does_not_depend_on_shards_nor_on_a_restart() {
    let handle = story(1).await;
    let id = id_of(&handle, r#"{metric="span.duration",signal="p99"}"#).await;
    let expected = ask(&handle, &id, "span.duration", CALM + 1).await;
    assert!(!expected.moved.is_empty() && !expected.carriers.is_empty());
    let other = story(3).await;
    assert_eq!(ask(&other, &id, "span.duration", CALM + 1).await, expected);
    let chunks = handle.snapshot().await;
    let rules = [rule("Memory", "{metric=\"memory\"}")];
    let (again, warnings) = Engine::start(
        settings(2),
        rules.as_slice().into(),
        Telemetry::new(),
        chunks,
    )
    .unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(ask(&again, &id, "span.duration", CALM + 1).await, expected);
}

#[tokio::test]
async fn nonsense_is_answered() {
    let (handle, _) = start(settings(2), &[]);
    let id = SignalId {
        series: SeriesId(7),
        kind: SignalKind::P99,
    };
    for id in [id.to_string(), "what".into()] {
        let movement = ask(&handle, &id, "m", 0).await;
        assert_eq!((movement.moved.len(), movement.carriers.len()), (0, 0));
    }
}

#[tokio::test]
async fn a_version_appears_only_to_those_who_knew_the_service_before() {
    let (handle, _) = start(settings(1), &[]);
    let send = async |handle: &Handle, seconds, version: &str| {
        let batch = points([of_pod("memory", 1, version, seconds, 1.0)]);
        handle.apply(batch, at(seconds)).await.unwrap();
    };
    let seen = async |handle: &Handle| -> Vec<(String, Timestamp, bool)> {
        let services = handle.services().await;
        let versions = services.into_iter().flat_map(|service| service.versions);
        versions
            .map(|v| (v.version, v.first_seen, v.appeared))
            .collect()
    };
    // A new service has the versions that it has.
    send(&handle, 0, "1.0").await;
    send(&handle, 100, "1.1").await;
    send(&handle, 500, "1.2").await;
    let expected = vec![
        ("1.0".into(), at(0), false),
        ("1.1".into(), at(100), false),
        ("1.2".into(), at(500), true),
    ];
    assert_eq!(seen(&handle).await, expected);
    // What came while we were down is nothing that we saw appear.
    let chunks = handle.snapshot().await;
    let restart = || Engine::start(settings(2), [].into(), Telemetry::new(), chunks.clone());
    let (again, _) = restart().unwrap();
    send(&again, 900, "1.3").await;
    send(&again, 1_300, "1.2").await;
    send(&again, 1_300, "1.4").await;
    let mut expected = expected;
    expected.push(("1.3".into(), at(900), false));
    expected.push(("1.4".into(), at(1_300), true));
    assert_eq!(seen(&again).await, expected);
    // As many as you like take no more room than sixteen, and are no news any more.
    for n in 0..100 {
        send(&again, 2_000 + n, &format!("2.{n}")).await;
    }
    let versions = seen(&again).await;
    assert_eq!(versions.len(), 16);
    assert!(versions.iter().all(|(_, _, appeared)| !appeared));
}
