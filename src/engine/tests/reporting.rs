use super::*;
use crate::model::{BaselineView, Observation, SeverityLabel, WindowSpec};

fn all(reports: Vec<TickReport>) -> Vec<Observation> {
    reports.into_iter().flat_map(|r| r.observations).collect()
}

/// Twenty calm values around 10, sigma about 1.
fn calm() -> Vec<f64> {
    (0..20).map(|i| 10.0 + f64::from(i % 3) - 1.0).collect()
}

#[tokio::test]
async fn quiet_signals_are_not_reported_but_after_a_deviation_until_it_can_resolve() {
    let (handle, telemetry) = start(settings(1), &[rule("Any", "{}")]);
    // The first samples after the start are reported: an alert of before may wait for them.
    let first = all(feed(&handle, 0, &calm()).await);
    assert!(first.len() <= 5, "{}", first.len());
    assert!(first.iter().all(|o| o.anomaly.is_none()));
    assert_eq!(all(feed(&handle, 200, &calm()).await).len(), 0);
    // One spike: itself, and then resolve_samples + 2 calm ones.
    let mut values = vec![20.0];
    values.extend(calm());
    let spike = all(feed(&handle, 400, &values).await);
    assert_eq!(spike.len(), 6);
    assert_eq!(spike[0].anomaly, Some(SeverityLabel::Critical));
    assert!(spike[1..].iter().all(|o| o.anomaly.is_none()));
    assert_eq!(telemetry.anomalies.with_label_values(&["zscore"]).get(), 1);
    assert_eq!(spike[0].sample.value, 20.0);
    assert_eq!(spike[0].sample.time, at(400));
    assert_eq!(spike[0].signal.service(), "shop");
}

#[tokio::test]
async fn as_many_samples_are_reported_as_a_rule_looks_back() {
    let mut patient = rule("Any", "{}");
    patient.hold = For::Samples { n: 3, of: 12 };
    let (handle, _) = start(settings(1), &[patient]);
    let mut values = calm();
    values.extend(calm());
    feed(&handle, 0, &values).await;
    let mut values = vec![20.0];
    values.extend(calm());
    assert_eq!(all(feed(&handle, 400, &values).await).len(), 13);
}

#[tokio::test]
async fn what_is_not_calm_yet_keeps_the_reports_coming() {
    let mut fixed = rule("Any", "{}");
    fixed.sigma.warning = 3.0;
    let (handle, _) = start(settings(1), &[fixed]);
    let base: Vec<f64> = (0..60)
        .map(|i| if i % 2 == 0 { 9.0 } else { 11.0 })
        .collect();
    feed(&handle, 0, &base).await;
    // About 4 sigma, then four calm, then 2.4 sigma (no anomaly, above 3 less 1), then calm.
    let mut values = vec![14.1, 9.0, 11.0, 9.0, 11.0, 12.6];
    values.extend(&base[..20]);
    let reported = all(feed(&handle, 600, &values).await);
    assert_eq!(reported.iter().filter(|o| o.anomaly.is_some()).count(), 1);
    assert_eq!(reported.len(), 6 + 5);
}

#[tokio::test]
async fn direction_and_smallest_change_decide_what_is_an_anomaly() {
    let any = rule("Any", "{}");
    let below = Rule {
        direction: Direction::Below,
        ..rule("Below", "{}")
    };
    let absolute = Rule {
        min_change: 15.0,
        ..rule("Absolute", "{}")
    };
    let relative = Rule {
        min_change_ratio: 1.5,
        ..rule("Relative", "{}")
    };
    let unmatched = rule("Unmatched", r#"{service="other"}"#);
    let rules = [unmatched, any, below, absolute, relative];
    let (handle, _) = start(settings(1), &rules);
    feed(&handle, 0, &calm()).await;
    let spike = all(feed(&handle, 200, &[20.0]).await);
    let anomalous: Vec<u32> = spike
        .iter()
        .filter(|o| o.anomaly.is_some())
        .map(|o| o.rule.0)
        .collect();
    assert_eq!(anomalous, [1]);
    let view = all_signals(&handle).await.remove(0);
    assert_eq!(view.rule.as_deref(), Some("Any"));
    assert_eq!(view.baseline, BaselineView::Ready);
    let last = view.last.unwrap();
    assert_eq!((last.value, last.time), (20.0, at(200)));
    assert!((last.expected.unwrap() - 10.0).abs() < 0.2 && last.sigma.unwrap() > 6.0);
}

#[tokio::test]
async fn the_samples_show_what_was_expected_of_each() {
    let mut small = rule("Any", "{}");
    small.detector.window = Some(WindowSpec::Samples(10));
    let short = Settings {
        window: WindowSpec::Samples(15),
        ..settings(2)
    };
    let (handle, _) = start(short, &[small]);
    let mut values = calm();
    values.push(30.0);
    feed(&handle, 0, &values).await;
    let view = all_signals(&handle).await.remove(0);
    assert_eq!((view.window.size, view.window.count), (15, 15));
    let id = view.id.parse().unwrap();
    let samples = handle.samples(id, at(0), at(1000)).await.unwrap();
    assert_eq!(samples.len(), 15);
    for (i, sample) in samples.iter().enumerate() {
        let n = i + 6;
        assert_eq!(
            (sample.time, sample.value),
            (at(n as i64 * TICK), values[n])
        );
        // The rule's own window of ten before it.
        let before = &values[n.saturating_sub(10)..n];
        let mean = before.iter().sum::<f64>() / before.len() as f64;
        assert!((sample.expected.unwrap() - mean).abs() < 1e-5);
        assert!(sample.lower.unwrap() < mean && sample.upper.unwrap() > mean);
    }
    assert!(samples[14].sigma.unwrap() > 6.0);
    let some = handle.samples(id, at(100), at(120)).await.unwrap();
    assert_eq!(some.len(), 3);
    let nobody = "00000000000000000000000000000000-p50".parse().unwrap();
    assert_eq!(handle.samples(nobody, at(0), at(1)).await, None);
}

#[tokio::test]
async fn learning_counts_down_to_ready() {
    let (handle, _) = start(settings(1), &[rule("Any", "{}")]);
    let mut seen = Vec::new();
    for i in 0..6 {
        feed(&handle, i * TICK, &[1.0]).await;
        seen.push(all_signals(&handle).await.remove(0).baseline);
    }
    let learning = |remaining| BaselineView::Learning { remaining };
    let expected = [4, 3, 2, 1].map(learning);
    assert_eq!(seen[..4], expected);
    assert_eq!(seen[4..], [BaselineView::Ready, BaselineView::Ready]);
}

#[tokio::test]
async fn our_own_telemetry_is_stored_and_not_judged() {
    let own = Settings {
        own_service: Some("tidewatch".into()),
        own_instance: Some("me".into()),
        ..settings(2)
    };
    let (handle, telemetry) = start(own, &[rule("Any", "{}")]);
    let of = |instance: &str| {
        let identity = Arc::new(SeriesIdentity {
            resource: resource("tidewatch", &[("tidewatch.instance", instance)]),
            ..(*identity("tidewatch", 0, MetricKind::Gauge)).clone()
        });
        point(&identity, at(5), PointData::Number(1.0))
    };
    let mut batch = points([of("me"), of("another")]);
    let (mut operation, span) = span("tidewatch", 1, 1, None, 5);
    operation.resource = resource("tidewatch", &[("tidewatch.instance", "me")]);
    batch.add_span(operation, span);
    assert!(apply(&handle, 5, batch).await.is_empty());
    handle.tick(at(10)).await;
    let judged = all_signals(&handle).await.into_iter().map(|view| {
        let instance = view.resource["tidewatch.instance"].clone();
        (instance, view.rule.is_some())
    });
    let mut judged: Vec<_> = judged.collect();
    judged.sort();
    assert_eq!(
        judged,
        [("another".to_owned(), true), ("me".to_owned(), false)]
    );
    assert_eq!(telemetry.spans.get(), 0);
}

#[tokio::test]
async fn an_ended_series_is_reported_once_its_last_sample_was() {
    let (handle, _) = start(settings(2), &[rule("Any", "{}")]);
    feed(&handle, 0, &calm()).await;
    let identity = identity("shop", 0, MetricKind::Gauge);
    let batch = points([
        gauge("shop", 0, 201, 50.0),
        point(&identity, at(202), PointData::End),
    ]);
    assert!(apply(&handle, 202, batch).await.is_empty());
    let report = handle.tick(at(203)).await;
    assert_eq!(report.end, at(200));
    assert_eq!(report.observations.len(), 1);
    assert_eq!(report.ended, [report.observations[0].signal.id]);
}

#[tokio::test]
async fn recorded_data_gives_a_sample_a_tick_without_waiting_for_one() {
    let (handle, _) = start(settings(2), &[rule("Any", "{}")]);
    let mut values = calm();
    values.push(99.0);
    values.push(10.0);
    let batch = values
        .iter()
        .enumerate()
        .map(|(i, value)| gauge("shop", 0, i as i64 * TICK, *value));
    assert!(apply(&handle, 300, points(batch)).await.is_empty());
    let report = handle.tick(at(300)).await;
    let anomalies: Vec<_> = report
        .observations
        .iter()
        .filter(|o| o.anomaly.is_some())
        .collect();
    assert_eq!(anomalies.len(), 1);
    assert_eq!(anomalies[0].sample.time, at(200));
    assert!(report.observations.is_sorted_by_key(|o| o.sample.time));
}
