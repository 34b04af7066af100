use proptest::prelude::*;

use super::*;
use crate::model::WindowSpec;

fn restart(settings: Settings, rules: &[Rule], chunks: Vec<Vec<u8>>) -> (Handle, Vec<String>) {
    Engine::start(settings, rules.into(), Telemetry::new(), chunks).unwrap()
}

fn rules() -> [Rule; 3] {
    let mut own_window = rule("Own", r#"{signal="value"}"#);
    own_window.detector.window = Some(WindowSpec::Samples(12));
    let mut robust = rule("Robust", "{}");
    robust.detector.name = "robust".into();
    [rule("Any", "{}"), own_window, robust]
}

/// One tick's worth of everything.
async fn step(handle: &Handle, tick: i64, noise: &[f64]) -> TickReport {
    let now = tick * TICK;
    let mut batch = Batch::default();
    for (i, value) in noise.iter().enumerate() {
        let i = i as u32;
        batch.points.push(gauge("a", i, now, *value));
        batch.points.push(delta("b", i, now, value.abs()));
        // Totals need what came before.
        let identity = identity(
            "c",
            i,
            MetricKind::Sum {
                monotonic: true,
                temporality: Temporality::Cumulative,
            },
        );
        let total = PointData::Number((tick * 10) as f64 + value.abs());
        batch.points.push(point(&identity, at(now), total));
        let trace = 1 + u128::from(i) + 100 * tick as u128;
        for (operation, span) in [
            span("a", trace, 1, None, now),
            span("b", trace, 2, Some(1), now),
        ] {
            batch.add_span(operation, span);
        }
    }
    apply(handle, now, batch).await;
    handle.tick(at(now)).await
}

async fn views(handle: &Handle) -> Vec<String> {
    let mut seen = Vec::new();
    for view in all_signals(handle).await {
        let id = view.id.parse().unwrap();
        let samples = handle.samples(id, at(-1000), at(100_000)).await;
        seen.push(format!("{view:?} {samples:?}"));
    }
    seen.push(format!("{:?}", handle.services().await));
    seen.push(format!("{:?}", handle.edges().await));
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The same views and anomalies as if nothing had happened. Only calm samples are reported for a
    /// while that were not before.
    #[test]
    fn a_restart_goes_on_as_if_nothing_had_happened(
        ticks in prop::collection::vec(prop::collection::vec(-5.0..5.0f64, 3), 2..40),
        cut in 0.0..1.0f64,
        before in 1..4usize,
        after in 1..4usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let cut = (ticks.len() as f64 * cut) as usize;
            let (mut handle, _) = restart(settings(before), &rules(), Vec::new());
            let (steady, _) = restart(settings(1), &rules(), Vec::new());
            for (tick, noise) in (1..).zip(&ticks) {
                if tick == cut {
                    let chunks = handle.snapshot().await;
                    let (restored, warnings) = restart(settings(after), &rules(), chunks);
                    prop_assert_eq!(warnings, Vec::<String>::new());
                    prop_assert_eq!(views(&restored).await, views(&steady).await);
                    handle.stop().await;
                    handle = restored;
                }
                let anomalies = |report: TickReport| {
                    let only = report.observations.into_iter().filter(|o| o.anomaly.is_some());
                    only.map(|o| format!("{o:?}")).collect::<Vec<_>>()
                };
                let restored = anomalies(step(&handle, tick as i64, noise).await);
                prop_assert_eq!(restored, anomalies(step(&steady, tick as i64, noise).await));
            }
            prop_assert_eq!(views(&handle).await, views(&steady).await);
            Ok(())
        })?;
    }

    #[test]
    fn damaged_chunks_are_reported_and_never_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (handle, _) = restart(settings(1), &rules(), Vec::new());
            for tick in 1..10 {
                step(&handle, tick, &[1.0, 2.0]).await;
            }
            let mut chunks = handle.snapshot().await;
            for chunk in &mut chunks {
                for (at, byte) in &damage {
                    let at = at.index(chunk.len());
                    chunk[at] = *byte;
                }
                chunk.truncate(cut.index(chunk.len()));
            }
            let (restored, _) = restart(settings(2), &rules(), chunks);
            step(&restored, 10, &[1.0, 2.0]).await;
            views(&restored).await;
            restored.stop().await;
        });
    }
}

#[tokio::test]
async fn one_unreadable_record_costs_one_series() {
    let (handle, _) = restart(settings(1), &rules(), Vec::new());
    for tick in 1..3 {
        step(&handle, tick, &[1.0, 2.0, 3.0]).await;
    }
    let mut chunks = handle.snapshot().await;
    assert_eq!(chunks.len(), 2);
    let before = all_signals(&handle).await.len();
    // The first byte of the first series' record, behind version, time and names: a kind that does not exist.
    let names = u32::from_le_bytes(chunks[1][9..13].try_into().unwrap()) as usize;
    chunks[1][13 + names + 4] = 0xff;
    chunks.push(vec![9, 9, 9]);
    chunks.push(vec![77; 100]);
    let (restored, warnings) = restart(settings(3), &rules(), chunks);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let after = all_signals(&restored).await.len();
    assert!(after < before && after > 0);
}

#[tokio::test]
async fn series_whose_names_are_lost_are_left_out() {
    let (handle, _) = restart(settings(1), &rules(), Vec::new());
    for tick in 1..3 {
        step(&handle, tick, &[1.0, 2.0, 3.0]).await;
    }
    let whole = handle.snapshot().await;
    let before = views(&handle).await;
    let names = u32::from_le_bytes(whole[1][9..13].try_into().unwrap()) as usize;
    assert!(names > 50);
    let mut damaged = whole.clone();
    damaged[1][13..13 + names].fill(0xff);
    let (restored, warnings) = restart(settings(2), &rules(), damaged);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(all_signals(&restored).await.is_empty());
    let (other, warnings) = restart(settings(2), &rules(), whole);
    assert_eq!((warnings, views(&other).await), (Vec::new(), before));
}

#[tokio::test]
async fn what_series_share_is_saved_once() {
    let (handle, _) = restart(settings(1), &[], Vec::new());
    let long = "x".repeat(100_000);
    let series = (0..500).map(|i| {
        let mut identity = (*identity("a", i, MetricKind::Gauge)).clone();
        let mut instrument = (*identity.instrument).clone();
        instrument.metric = long.as_str().into();
        identity.instrument = Arc::new(instrument);
        point(&Arc::new(identity), at(5), PointData::Number(1.0))
    });
    apply(&handle, 5, points(series)).await;
    let bytes: usize = handle.snapshot().await.iter().map(Vec::len).sum();
    assert!(bytes < 300_000, "{bytes}");
}

#[tokio::test]
async fn a_night_off_is_no_silence() {
    let (handle, _) = restart(settings(1), &rules(), Vec::new());
    for tick in 1..40 {
        step(&handle, tick, &[1.0]).await;
    }
    let chunks = handle.snapshot().await;
    let (restored, _) = restart(settings(1), &rules(), chunks);
    let night = 10 * 360;
    let report = restored.tick(at(night * TICK)).await;
    assert_eq!(report.ended, []);
    let signals = all_signals(&restored).await;
    assert!(!signals.is_empty());
    assert!(signals.iter().all(|view| view.window.count > 30));
    // From then on time counts again.
    let report = restored.tick(at((night + 400) * TICK)).await;
    assert_eq!(report.ended.len(), signals.len());
}

/// Only the first tick forgives a night; who is stopped again before that has forgiven nothing yet.
#[tokio::test]
async fn a_stop_before_the_first_tick_costs_nothing() {
    let (handle, _) = restart(settings(1), &rules(), Vec::new());
    for tick in 1..40 {
        step(&handle, tick, &[1.0, 2.0]).await;
    }
    let chunks = handle.snapshot().await;
    let night = 10 * 360;
    for heard in [false, true] {
        let (short, _) = restart(settings(2), &rules(), chunks.clone());
        let known = all_signals(&short).await.len();
        if heard {
            let one = points([gauge("a", 0, night * TICK, 1.0)]);
            apply(&short, night * TICK, one).await;
        }
        let again = short.snapshot().await;
        for second_night in [5, night] {
            let (restored, _) = restart(settings(3), &rules(), again.clone());
            let report = restored.tick(at((night + second_night) * TICK)).await;
            assert_eq!(report.ended, []);
            assert_eq!(all_signals(&restored).await.len(), known);
        }
    }
}

#[tokio::test]
async fn while_nothing_comes_it_is_enough_to_save_that() {
    let (handle, _) = restart(settings(2), &rules(), Vec::new());
    let series = |tick: i64| points((0..9).map(move |i| gauge("a", i, tick * TICK, 1.0)));
    let mut known = handle.changes();
    for tick in 1..40 {
        apply(&handle, tick * TICK, series(tick)).await;
        handle.tick(at(tick * TICK)).await;
        assert!(handle.changes() > known);
        known = handle.changes();
    }
    let mut chunks = handle.snapshot().await;
    handle.tick(at(300 * TICK)).await;
    assert_eq!(handle.changes(), known);
    let silence = handle.save_silence().await;
    // The series leave 360 ticks after the last of them, less those in which nobody could have heard them.
    for (added, leaves) in [(false, false), (true, true)] {
        if added {
            chunks.push(silence.clone());
        }
        let (restored, warnings) = restart(settings(3), &rules(), chunks.clone());
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(restored.tick(at(400 * TICK)).await.ended, []);
        let report = restored.tick(at(510 * TICK)).await;
        assert_eq!(report.ended.len(), if leaves { 9 } else { 0 });
        restored.tick(at(800 * TICK)).await;
        assert!(all_signals(&restored).await.is_empty());
    }
}

#[tokio::test]
async fn a_new_rule_finds_the_window_already_full() {
    let (handle, _) = restart(settings(1), &[], Vec::new());
    for tick in 1..40 {
        step(&handle, tick, &[1.0]).await;
    }
    let chunks = handle.snapshot().await;
    let mut own_window = rule("Own", r#"{signal="value"}"#);
    own_window.detector.window = Some(WindowSpec::Samples(12));
    let shorter = Settings {
        window: WindowSpec::Samples(20),
        ..settings(1)
    };
    let (restored, _) = restart(shorter, &[own_window], chunks);
    let report = step(&restored, 40, &[500.0]).await;
    let judged = report
        .observations
        .iter()
        .find(|o| o.anomaly.is_some())
        .unwrap();
    assert_eq!(judged.judged.evidence.samples, 12);
    let id = judged.signal.id;
    let samples = restored.samples(id, at(0), at(1000)).await.unwrap();
    assert_eq!(samples.len(), 20);
    assert!(samples[18].sigma.is_none() && samples[19].sigma.is_some());
}

#[tokio::test]
async fn a_large_engine_is_saved_in_many_chunks() {
    let (handle, _) = restart(settings(2), &[], Vec::new());
    let long = "x".repeat(1000);
    for batch in 0..20u32 {
        let series = (0..500).map(|i| {
            let mut identity = (*identity("a", batch * 500 + i, MetricKind::Gauge)).clone();
            let mut instrument = (*identity.instrument).clone();
            instrument.metric = format!("{long}{i}").into();
            identity.instrument = Arc::new(instrument);
            point(&Arc::new(identity), at(5), PointData::Number(1.0))
        });
        apply(&handle, 5, points(series)).await;
    }
    let chunks = handle.snapshot().await;
    assert!(chunks.len() >= 5, "{}", chunks.len());
    assert!(chunks.iter().all(|chunk| chunk.len() <= 1 << 19));
    let telemetry = Telemetry::new();
    let (restored, warnings) =
        Engine::start(settings(5), [].into(), telemetry.clone(), chunks).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(telemetry.series.get(), 10_000);
    assert_eq!(restored.services().await[0].series, 10_000);
}
