use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::engine::plan::Plan;
use crate::engine::series::Series;
use crate::engine::shard::Shard;
use crate::engine::signal::Signal;

/// As an HTTP server reports it, with a resource that says what agents and the kubelet add.
fn typical(number: usize, kind: MetricKind) -> Arc<SeriesIdentity> {
    let text = |key: &str, value: &str| (key.into(), AttributeValue::from(value));
    let more: Vec<String> = (0..9).map(|n| format!("resource.attribute.{n}")).collect();
    let more: Vec<(&str, &str)> = more
        .iter()
        .map(|key| (&**key, "some value of it"))
        .collect();
    Arc::new(SeriesIdentity {
        resource: resource(&format!("service-{}", number / 1000), &more),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope {
                name: "io.opentelemetry.http".into(),
                version: "1.2.3".into(),
                attributes: Attributes::default(),
            }),
            metric: "http.server.active_requests".into(),
            unit: "{request}".into(),
            kind,
        }),
        attributes: Attributes::from_pairs([
            text("http.request.method", "GET"),
            text("http.route", &format!("/api/v1/orders/{{id}}/{number}")),
            ("http.response.status_code".into(), AttributeValue::Int(200)),
            text("url.scheme", "https"),
            text("server.address", "shop.example.com"),
            text("network.protocol.name", "http"),
            text("network.protocol.version", "1.1"),
        ]),
    })
}

fn bytes(shard: &Shard) -> usize {
    let (mut position, mut sum) = (0, 0);
    loop {
        if let ControlFlow::Break(all) = shard.bytes(&mut position, &mut sum) {
            return all;
        }
    }
}

/// What one of 20,000 series costs beside its signals: state, identity, and what finds it.
fn bytes_of_one(kind: MetricKind) -> usize {
    let plan = Plan::new(settings(1), [].into(), Telemetry::new()).unwrap();
    let mut shard = Shard::new(Arc::new(plan));
    let empty = bytes(&shard);
    for number in 0..20_000 {
        let identity = typical(number, kind);
        let series = Series::new(Arc::clone(&identity), at(0), &shard.plan);
        shard.insert(identity.id(), series);
    }
    // The first signal lies in the series.
    (bytes(&shard) + shard.plan.common.bytes() - empty) / 20_000 - size_of::<Signal>()
}

#[test]
fn a_typical_series_is_small() {
    let gauge = bytes_of_one(MetricKind::Gauge);
    let counter = bytes_of_one(MetricKind::Sum {
        monotonic: true,
        temporality: Temporality::Cumulative,
    });
    let (state, kept) = (size_of::<crate::derive::SeriesState>(), size_of::<Series>());
    println!("state {state}, series {kept}");
    println!("bytes a series without signals: gauge {gauge}, counter {counter}");
    assert!(gauge <= 400, "{gauge}");
    assert!(counter <= 400, "{counter}");
}

#[tokio::test]
async fn each_service_is_told_what_it_takes() {
    let (handle, _) = start(settings(3), &[]);
    let of =
        |service: &'static str, series: u32| (0..series).map(move |i| gauge(service, i, 5, 1.0));
    apply(
        &handle,
        5,
        points(of("small", 10).chain(of("large", 1_000))),
    )
    .await;
    handle.tick(at(10)).await;
    let bytes = handle.state_bytes().await;
    let all: u64 = bytes.values().sum();
    assert!(bytes["large"] > 50 * bytes["small"], "{bytes:?}");
    assert!(bytes["small"] > 2_000, "{bytes:?}");
    let whole = handle.bytes().await as u64;
    assert!(all <= whole && all > whole / 2, "{all} of {whole}");
    // Within a tick it is not counted again.
    apply(&handle, 12, points(of("new", 10))).await;
    assert_eq!(handle.state_bytes().await, bytes);
    handle.tick(at(30)).await;
    assert!(handle.state_bytes().await.contains_key("new"));
}

#[tokio::test]
async fn series_that_come_and_go_leave_nothing_behind() {
    let short = Settings {
        idle_after: Duration::from_secs(60),
        window: crate::model::WindowSpec::Samples(6),
        ..settings(2)
    };
    let (handle, telemetry) = start(short, &[rule("Any", "{}")]);
    let mut sizes = BTreeMap::new();
    for round in 0..120_i64 {
        let now = round * TICK;
        // Pods of which each lives for five minutes, beside ten that stay.
        let pods = (0..30).map(|pod| (round / 30 * 30 + pod, pod));
        let stay = (0..10).map(|i| gauge("stays", i, now, (round % 7) as f64));
        let come = pods.flat_map(|(pod, value)| {
            let service = format!("service-{}", pod % 5);
            [
                gauge(&service, 1_000 + pod as u32, now, value as f64),
                delta(&service, 1_000 + pod as u32, now, (value + round) as f64),
            ]
        });
        apply(&handle, now, points(stay.chain(come))).await;
        handle.tick(at(now)).await;
        sizes.insert(round, handle.bytes().await);
    }
    let most = |rounds| sizes.range(rounds).map(|(_, bytes)| *bytes).max();
    let (then, now) = (most(30..60).unwrap(), most(90..120).unwrap());
    assert!(now < then + then / 4, "{sizes:?}");
    for tick in 120..140 {
        handle.tick(at(tick * TICK)).await;
    }
    assert_eq!(telemetry.series.get(), 0);
    let left = handle.bytes().await;
    assert!(left < 200_000, "{left}");
}
