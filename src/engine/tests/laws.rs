use proptest::prelude::*;

use super::*;

/// What a batch of the random stream holds.
#[derive(Debug, Clone)]
enum Part {
    Gauge(u8, u8, i64, f64),
    Delta(u8, u8, i64, f64),
    Span(u8, u8, u8, Option<u8>, i64),
}

fn part() -> impl Strategy<Value = Part> {
    // Times jitter backwards too: late points, and ticks closed early by newer ones.
    let back = 0..25i64;
    prop_oneof![
        (0..4u8, 0..4u8, back.clone(), -5.0..5.0f64)
            .prop_map(|(s, i, t, v)| Part::Gauge(s, i, t, v)),
        (0..4u8, 0..4u8, back.clone(), 0.0..50.0f64)
            .prop_map(|(s, i, t, v)| Part::Delta(s, i, t, v)),
        (0..4u8, 0..6u8, 1..9u8, prop::option::of(1..9u8), back)
            .prop_map(|(s, trace, id, parent, t)| Part::Span(s, trace, id, parent, t)),
    ]
}

fn batch(parts: &[Part], now: i64) -> Batch {
    let mut batch = Batch::default();
    for part in parts {
        match *part {
            Part::Gauge(s, i, back, value) => {
                let value = if value > 4.9 { 1e4 } else { value };
                let service = format!("s{s}");
                batch
                    .points
                    .push(gauge(&service, u32::from(i), now - back, value));
            }
            Part::Delta(s, i, back, value) => {
                let service = format!("s{s}");
                batch
                    .points
                    .push(delta(&service, u32::from(i), now - back, value));
            }
            Part::Span(s, trace, id, parent, back) => {
                // The same span id only ever in one place.
                let trace = u128::from(trace) + 1 + (now as u128) * 100;
                let (id, parent) = (u64::from(id), parent.map(u64::from));
                let service = format!("s{}", (s + id as u8) % 4);
                let (operation, span) = span(&service, trace, id, parent, now - back);
                batch.add_span(operation, span);
            }
        }
    }
    batch
}

/// Everything that can be seen of a run, as text.
async fn run(stream: &[Vec<Part>], shards: usize) -> Vec<String> {
    let settings = Settings {
        // Tight, so that the random stream reaches them.
        max_services: 3,
        max_series_per_service: 7,
        max_series: 18,
        ..settings(shards)
    };
    let mut threshold = rule("High", r#"{signal="rate"}"#);
    threshold.detector.name = "threshold".into();
    threshold.detector.upper = Some(1.0);
    let rules = [
        rule("Value", r#"{signal="value"}"#),
        rule("Any", "{}"),
        threshold,
    ];
    let (handle, telemetry) = start(settings, &rules);
    let mut seen = Vec::new();
    for (i, parts) in stream.iter().enumerate() {
        let now = (i as i64 + 1) * TICK / 2;
        let rejections = apply(&handle, now, batch(parts, now)).await;
        let counts: Vec<_> = rejections.iter().map(|(r, n, _)| (r, n)).collect();
        seen.push(format!("{counts:?}"));
        if i % 2 == 1 {
            seen.push(format!("{:?}", handle.tick(at(now)).await));
        }
    }
    for view in all_signals(&handle).await {
        let id = view.id.parse().unwrap();
        let samples = handle.samples(id, at(0), at(100_000)).await;
        seen.push(format!("{view:?} {samples:?}"));
    }
    seen.push(format!("{:?}", handle.services().await));
    seen.push(format!("{:?}", handle.edges().await));
    seen.push(format!(
        "{} {} {}",
        telemetry.points.get(),
        telemetry.spans.get(),
        telemetry.series.get()
    ));
    handle.stop().await;
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_number_of_shards_does_not_change_the_output(
        stream in prop::collection::vec(prop::collection::vec(part(), 0..25), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let one = runtime.block_on(run(&stream, 1));
        for shards in [2, 5] {
            let several = runtime.block_on(run(&stream, shards));
            for (a, b) in one.iter().zip(&several) {
                prop_assert_eq!(a, b, "{} shards", shards);
            }
            prop_assert_eq!(one.len(), several.len());
        }
    }
}

#[tokio::test]
async fn a_page_goes_on_where_the_last_one_ended() {
    let (handle, _) = start(settings(3), &[]);
    let batch = points((0..25).flat_map(|i| [gauge("a", i, 5, 1.0), delta("b", i, 5, 1.0)]));
    apply(&handle, 5, batch).await;
    handle.tick(at(10)).await;
    let all = all_signals(&handle).await;
    assert_eq!(all.len(), 50);
    assert!(all.is_sorted_by(|a, b| a.id < b.id));
    let (mut paged, mut cursor) = (Vec::new(), None);
    loop {
        let page = handle.signals(Selector::default(), cursor, 7).await;
        assert!(page.items.len() <= 7);
        paged.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
    let some = handle.signals(select(r#"{service="b"}"#), None, 25).await;
    assert_eq!((some.items.len(), some.next), (25, None));
    assert!(some.items.iter().all(|view| view.service == "b"));
    assert!(handle.watched(None, 100).await.items.is_empty());
}

#[tokio::test]
async fn watched_signals_come_in_pages_each_of_them_once() {
    for shards in [1, 2, 7] {
        let (handle, _) = start(settings(shards), &[rule("R", r#"{service="a"}"#)]);
        let batch = points((0..60).flat_map(|i| [gauge("a", i, 5, 1.0), gauge("b", i, 5, 1.0)]));
        apply(&handle, 5, batch).await;
        handle.tick(at(10)).await;
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let page = handle.watched(cursor, 9).await;
            assert!(page.items.len() <= 9);
            assert!(page.next.is_none() || !page.items.is_empty());
            paged.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut all = all_signals(&handle).await;
        all.retain(|view| view.service == "a");
        assert_eq!((all.len(), &paged), (60, &all), "{shards} shards");
    }
}

#[tokio::test]
async fn edges_and_rates_come_from_spans_of_any_shard() {
    let (handle, _) = start(settings(4), &[]);
    let calls = (0..20u128).flat_map(|trace| {
        [
            span("front", trace + 1, 1, None, 5),
            span("back", trace + 1, 2, Some(1), 4),
        ]
    });
    apply(&handle, 5, spans(calls)).await;
    handle.tick(at(10)).await;
    let edges = handle.edges().await;
    assert_eq!(edges.len(), 1);
    assert_eq!(
        (edges[0].caller.as_str(), edges[0].callee.as_str()),
        ("front", "back")
    );
    assert_eq!((edges[0].rate, edges[0].error_ratio), (2.0, 0.0));
    assert!((edges[0].p50.unwrap() - 0.102).abs() < 0.0011);
    assert_eq!(edges[0].last_seen, at(10));

    // In the next tick the front is alive without calls: a rate of zero, and no percentile. The back
    // says nothing: no sample.
    apply(&handle, 15, spans([span("front", 99, 7, None, 15)])).await;
    handle.tick(at(20)).await;
    let edge = handle.edges().await.remove(0);
    assert_eq!((edge.rate, edge.last_seen), (0.0, at(10)));
    let rate = handle.signals(select(r#"{service="back",signal="rate"}"#), None, 5);
    let rate = rate.await.items.remove(0);
    assert_eq!((rate.window.count, rate.last.unwrap().value), (1, 2.0));
}
