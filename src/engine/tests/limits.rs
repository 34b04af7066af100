use super::*;
use crate::model::Reject;

fn counts(rejections: &Rejections) -> Vec<(Reject, u64)> {
    rejections.iter().map(|(r, n, _)| (r, n)).collect()
}

#[tokio::test]
async fn known_series_go_on_beyond_the_limit_and_others_are_not_touched() {
    let limited = Settings {
        max_series_per_service: 3,
        max_series: 5,
        ..settings(2)
    };
    let (handle, telemetry) = start(limited, &[]);
    let all = |t| points((0..10).map(move |i| gauge("a", i, t, 1.0)));
    let rejections = apply(&handle, 5, all(5)).await;
    assert_eq!(counts(&rejections), [(Reject::SeriesLimit, 7)]);
    // Known series are applied, the same others refused again.
    let rejections = apply(&handle, 15, all(15)).await;
    assert_eq!(counts(&rejections), [(Reject::SeriesLimit, 7)]);
    assert_eq!(telemetry.points.get(), 6);
    // Another service has room for two up to the limit of all.
    let more = points((0..3).map(|i| gauge("b", i, 15, 1.0)));
    assert_eq!(
        counts(&apply(&handle, 15, more).await),
        [(Reject::SeriesLimit, 1)]
    );
    let services = handle.services().await;
    assert_eq!((services[0].series, services[0].refused_series), (3, 14));
    assert_eq!((services[1].series, services[1].refused_series), (2, 1));
    assert_eq!(telemetry.series.get(), 5);
}

#[tokio::test]
async fn delta_sums_beyond_the_limit_add_up_in_one_series_that_is_not_judged() {
    let limited = Settings {
        max_series_per_service: 1,
        ..settings(3)
    };
    let (handle, _) = start(limited, &[rule("Any", "{}")]);
    for round in 1..=3 {
        let now = round * TICK;
        // The first of the ten becomes a series; each reports 20 in 10 s.
        let batch = points((0..10).map(|i| delta("a", i, now, 20.0)));
        assert!(apply(&handle, now, batch).await.is_empty());
        handle.tick(at(now)).await;
    }
    let signals = all_signals(&handle).await;
    assert_eq!(signals.len(), 2);
    let (mut overflow, known): (Vec<_>, Vec<_>) = signals.into_iter().partition(|s| s.overflow);
    assert_eq!(known[0].last.as_ref().unwrap().value, 2.0);
    assert_eq!(known[0].rule.as_deref(), Some("Any"));
    let overflow = overflow.remove(0);
    let rate = overflow.last.unwrap().value;
    assert!((rate - 18.0).abs() < 1e-3, "{rate}");
    assert_eq!((overflow.window.count, overflow.rule), (3, None));
    assert_eq!(overflow.attributes["otel.metric.overflow"], "true");
    assert_eq!(handle.services().await[0].series, 2);
}

#[tokio::test]
async fn spans_beyond_the_limit_add_up_in_one_series() {
    let limited = Settings {
        max_series_per_service: 2,
        ..settings(3)
    };
    let (handle, _) = start(limited, &[]);
    for round in 1..=2 {
        let now = round * TICK;
        let batch = spans((0..30u64).map(|i| {
            let id = i + 1 + 1000 * now as u64;
            let (mut operation, span) = span("a", u128::from(i + 1), id, None, now);
            operation.name = format!("op {}", i % 10).into();
            (operation, span)
        }));
        assert!(apply(&handle, now, batch).await.is_empty());
        handle.tick(at(now)).await;
    }
    let rates = handle
        .signals(select(r#"{signal="rate"}"#), None, 100)
        .await
        .items;
    let of = |overflow: bool| {
        let rates = rates.iter().filter(move |view| view.overflow == overflow);
        rates
            .map(|view| view.last.as_ref().unwrap().value)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(false), [0.3, 0.3]);
    assert_eq!(of(true), [2.4]);
    assert_eq!(handle.services().await[0].refused_series, 16);
}

#[tokio::test]
async fn services_beyond_the_limit_are_refused_points_and_spans_alike() {
    let limited = Settings {
        max_services: 2,
        ..settings(2)
    };
    let (handle, telemetry) = start(limited, &[]);
    let mut batch = points((0..4).map(|i| gauge(&format!("s{i}"), 0, 5, 1.0)));
    for (operation, span) in [span("s0", 1, 1, None, 5), span("s9", 1, 2, None, 5)] {
        batch.add_span(operation, span);
    }
    let rejections = apply(&handle, 5, batch).await;
    assert_eq!(counts(&rejections), [(Reject::ServiceLimit, 3)]);
    assert_eq!((telemetry.services.get(), telemetry.series.get()), (2, 2));
    assert_eq!(telemetry.spans.get(), 1);
}

#[tokio::test]
async fn idle_series_and_services_leave_and_make_room() {
    let limited = Settings {
        max_series: 2,
        idle_after: Duration::from_secs(2000),
        ..settings(2)
    };
    let (handle, telemetry) = start(limited, &[]);
    apply(
        &handle,
        5,
        points([gauge("a", 0, 5, 1.0), gauge("b", 0, 5, 1.0)]),
    )
    .await;
    handle.tick(at(10)).await;
    let ids: Vec<String> = all_signals(&handle)
        .await
        .into_iter()
        .map(|s| s.id)
        .collect();
    for now in (TICK..2000).step_by(TICK as usize) {
        apply(&handle, now, points([gauge("a", 0, now, 1.0)])).await;
        assert_eq!(handle.tick(at(now)).await.ended, []);
    }
    let ended = handle.tick(at(2010)).await.ended;
    assert_eq!(ended.len(), 1);
    assert!(ids.contains(&ended[0].to_string()));
    assert_eq!(telemetry.series.get(), 1);
    // `b` was last heard of at 5 s.
    let services = handle.services().await;
    assert_eq!((services.len(), services[0].service.as_str()), (1, "a"));
    let batch = points([gauge("c", 0, 2015, 1.0), gauge("d", 0, 2015, 1.0)]);
    assert_eq!(apply(&handle, 2015, batch).await.total(), 1);
}

#[tokio::test]
async fn two_requests_with_the_same_new_series_count_it_once() {
    let (handle, telemetry) = start(settings(1), &[]);
    let (first, second) = tokio::join!(
        apply(&handle, 5, points([gauge("a", 0, 4, 1.0)])),
        apply(&handle, 5, points([gauge("a", 0, 5, 1.0)])),
    );
    assert!(first.is_empty() && second.is_empty());
    assert_eq!(
        (telemetry.series.get(), handle.services().await[0].series),
        (1, 1)
    );
}

#[tokio::test]
async fn a_full_queue_refuses_the_whole_batch_and_applies_nothing() {
    let small = Settings {
        queue: NonZeroUsize::MIN,
        ..settings(2)
    };
    let (handle, telemetry) = start(small, &[]);
    // Shard 1 is held up, and its queue has one job in it.
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let (started, is_started) = tokio::sync::oneshot::channel();
    let shard = handle.0.shards[1].clone();
    let holding = tokio::spawn(async move {
        let hold = move |_: &mut crate::engine::shard::Shard| {
            started.send(()).unwrap();
            held.recv().unwrap();
        };
        shard.run(hold).await
    });
    is_started.await.unwrap();
    let waiting = handle.0.shards[1]
        .try_reserve()
        .unwrap_or_else(|_| panic!("full"));

    let all = || points((0..20).map(|i| gauge("a", i, 5, 1.0)));
    let busy = handle.apply(all(), at(5)).await.unwrap_err();
    assert!(busy.retry_after >= Duration::from_secs(1));
    assert_eq!(telemetry.series.get(), 0);
    assert_eq!(telemetry.points.get(), 0);

    drop(waiting);
    release.send(()).unwrap();
    holding.await.unwrap().unwrap();
    assert!(apply(&handle, 5, all()).await.is_empty());
    assert_eq!(telemetry.points.get(), 20);
}

#[tokio::test]
async fn a_panic_in_a_shard_is_counted_and_answered_and_spares_the_others() {
    let (handle, telemetry) = start(settings(2), &[]);
    assert!(handle.is_whole());
    let panicked: Result<(), _> = handle.0.shards[0].run(|_| panic!("on purpose")).await;
    assert!(panicked.is_err());
    while handle.is_whole() {
        tokio::task::yield_now().await;
    }
    assert_eq!(telemetry.panics.get(), 1);
    let all = points((0..20).map(|i| gauge("a", i, 5, 1.0)));
    assert!(handle.apply(all, at(5)).await.is_err());
    // The other shard's series and every question are still answered.
    let on_the_other = (0..20)
        .map(|i| gauge("a", i, 6, 1.0))
        .find(|point| point.series.0 as u64 % 2 == 1);
    assert!(apply(&handle, 6, points(on_the_other)).await.is_empty());
    handle.tick(at(10)).await;
    assert_eq!(all_signals(&handle).await.len(), 1);
    // What was saved before is worth more than a part of it.
    let (sender, _chunks) = tokio::sync::mpsc::channel(100);
    assert_eq!(handle.save(sender).await, None);
    handle.stop().await;
}
