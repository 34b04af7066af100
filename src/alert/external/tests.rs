use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_767_225_600 + seconds)
}

fn posted(name: &str, starts: Option<i64>, ends: Option<i64>) -> PostedAlert {
    PostedAlert {
        labels: [
            ("alertname", name),
            ("job", "checkout"),
            ("severity", "page"),
        ]
        .into_iter()
        .collect(),
        annotations: [("summary", "it is down")].into_iter().collect(),
        starts_at: starts.map(at),
        ends_at: ends.map(at),
        generator_url: "http://prometheus/graph".into(),
    }
}

fn external() -> External {
    External::new(ExternalSettings::default())
}

fn states(transitions: &[Transition]) -> Vec<&'static str> {
    let states = transitions.iter().map(|t| t.alert.state.name());
    states.collect()
}

/// Posts one alert and says what happened.
fn post(external: &mut External, now: i64, alert: PostedAlert) -> Vec<&'static str> {
    let (transitions, received) = external.post(at(now), vec![alert]);
    assert_eq!((received.invalid, received.refused), (Vec::new(), 0));
    states(&transitions)
}

#[test]
fn an_alert_fires_while_it_is_reported() {
    let mut external = external();
    // As Prometheus does: an end that moves along, then one that has come.
    assert_eq!(
        post(&mut external, 0, posted("Down", Some(-5), Some(240))),
        ["firing"]
    );
    assert!(post(&mut external, 60, posted("Down", Some(-5), Some(300))).is_empty());
    assert_eq!(external.next_deadline(), Some(at(300)));
    let alerts = external.snapshot();
    let alert = alerts.values().next().expect("it fires");
    assert_eq!(alert.fingerprint, alert.labels.fingerprint());
    assert_eq!(
        (
            alert.service.as_str(),
            alert.severity,
            alert.since,
            alert.updated_at
        ),
        ("checkout", SeverityLabel::Critical, at(-5), at(60))
    );
    assert_eq!(
        alert.generator_url("http://tidewatch"),
        "http://prometheus/graph"
    );
    assert_eq!(
        post(&mut external, 90, posted("Down", Some(-5), Some(85))),
        ["resolved"]
    );
    let alerts = external.snapshot();
    let alert = alerts.values().next().expect("it is still known");
    assert_eq!(alert.resolved_at, Some(at(85)));
    assert_eq!(alert.annotations.get("resolved_reason"), None);
    // What is over already is no news, and in the end forgotten.
    assert!(post(&mut external, 91, posted("Down", Some(-5), Some(85))).is_empty());
    assert!(external.expire(at(390)).is_empty());
    assert!(external.is_quiet());
}

#[test]
fn an_alert_that_is_not_reported_again_is_over() {
    for (ends, over) in [(None, 300), (Some(100), 100)] {
        let mut external = external();
        assert_eq!(
            post(&mut external, 0, posted("Down", None, ends)),
            ["firing"]
        );
        assert!(external.expire(at(over - 1)).is_empty());
        let ended = external.expire(at(over));
        assert_eq!(states(&ended), ["resolved"]);
        let reason = ended[0].alert.annotations.get("resolved_reason");
        assert_eq!(reason, Some("not reported since 2026-01-01T00:00:00Z"));
        assert_eq!(ended[0].alert.resolved_at, Some(at(over)));
        assert!(ended[0].alert.grounds.silent);
        // Reported anew it is not silent, nor when it is said to be over.
        post(&mut external, over, posted("Down", None, None));
        let said = posted("Down", None, Some(over + 1));
        post(&mut external, over + 1, said);
        let alerts = external.snapshot();
        let alert = alerts.values().next().expect("it is still known");
        assert_eq!(
            (alert.state, alert.grounds.silent),
            (AlertState::Resolved, false)
        );
    }
}

#[test]
fn times_are_merged_as_alertmanager_does() {
    // (first, second: starts and ends; when the second comes; start and end afterwards)
    type Said = (Option<i64>, Option<i64>);
    let cases: [(Said, Said, i64, (i64, i64)); 7] = [
        ((Some(-9), Some(240)), (Some(-9), Some(300)), 60, (-9, 300)),
        // Reported without a start: that is at the end then, and within what is known.
        ((Some(-9), Some(240)), (None, Some(200)), 60, (-9, 240)),
        // An explicit end stands against an earlier one, and against a timeout.
        ((Some(-9), Some(500)), (Some(-9), Some(300)), 60, (-9, 500)),
        ((Some(-9), Some(500)), (Some(-9), None), 60, (-9, 500)),
        // A timeout does not.
        ((Some(-9), None), (Some(-9), Some(200)), 60, (-9, 200)),
        ((Some(-9), None), (None, None), 60, (-9, 360)),
        // An earlier start.
        (
            (Some(-9), Some(240)),
            (Some(-50), Some(240)),
            60,
            (-50, 240),
        ),
    ];
    for (first, second, when, expected) in cases {
        let mut external = external();
        assert_eq!(
            post(&mut external, 0, posted("Down", first.0, first.1)),
            ["firing"]
        );
        assert!(post(&mut external, when, posted("Down", second.0, second.1)).is_empty());
        let alert = external.snapshot().into_values().next().expect("it fires");
        let ends_at = alert.reported().expect("reported").ends_at;
        let expected = (at(expected.0), at(expected.1));
        assert_eq!((alert.since, ends_at), expected, "{first:?} {second:?}");
    }
}

#[test]
fn only_what_is_wrong_is_refused() {
    let with = |labels: &[(&str, &str)], annotations: &[(&str, &str)]| PostedAlert {
        labels: labels.iter().copied().collect(),
        annotations: annotations.iter().copied().collect(),
        ..PostedAlert::default()
    };
    let long = "x".repeat(70_000);
    let (transitions, received) = external().post(
        at(0),
        vec![
            with(&[], &[]),
            with(&[("a", "")], &[]),
            with(&[("a-b", "x")], &[]),
            with(&[("a", "x")], &[("a b", "x")]),
            with(&[("a", "x")], &[("b", &long)]),
            posted("Down", Some(10), Some(5)),
            posted("Down", Some(600), None),
            with(&[("a", "x"), ("b", "")], &[]),
        ],
    );
    assert_eq!(
        received,
        Received {
            firing: 1,
            resolved: 0,
            invalid: [
                "at least one label pair required",
                "at least one label pair required",
                "invalid label set: invalid name \"a-b\"",
                "invalid annotations: invalid name \"a b\"",
                "alert of 70003 bytes, at most 65536 are taken",
                "start time must be before end time",
                "start time must be before end time",
            ]
            .map(String::from)
            .to_vec(),
            refused: 0,
        }
    );
    let labels: Labels = [("a", "x")].into_iter().collect();
    assert_eq!(transitions[0].alert.labels, labels);
    assert_eq!(transitions[0].alert.service, "");
}

#[test]
fn what_finds_no_room_is_refused_and_what_fires_stays() {
    for settings in [
        ExternalSettings {
            max_alerts: 2,
            ..ExternalSettings::default()
        },
        ExternalSettings {
            max_bytes: 200,
            ..ExternalSettings::default()
        },
    ] {
        let mut external = External::new(settings);
        let three = ["A", "B", "C"]
            .map(|name| posted(name, None, None))
            .to_vec();
        let (transitions, received) = external.post(at(0), three);
        assert_eq!(
            (transitions.len(), received.firing, received.refused),
            (2, 2, 1)
        );
        assert!(post(&mut external, 1, posted("B", None, None)).is_empty());
        assert_eq!(
            post(&mut external, 2, posted("A", None, Some(1))),
            ["resolved"]
        );
        assert_eq!(post(&mut external, 3, posted("C", None, None)), ["firing"]);
    }
}

#[test]
fn annotations_come_back_when_they_change() {
    let mut external = external();
    let (mut transitions, _) = external.post(at(0), vec![posted("Down", None, None)]);
    let explain = |alert: &mut Alert| alert.annotations.set("explanation", "why");
    external.annotate(&mut transitions, explain);
    assert_eq!(
        transitions[0].alert.annotations.get("explanation"),
        Some("why")
    );
    let said = |external: &External| {
        let alert = external.snapshot().into_values().next().expect("it fires");
        let text = |name: &str| alert.annotations.get(name).unwrap_or_default().to_owned();
        (text("summary"), text("explanation"))
    };
    assert!(!external.is_touched());
    // The same again changes nothing.
    assert!(post(&mut external, 1, posted("Down", None, None)).is_empty());
    assert!(!external.is_touched());
    assert_eq!(said(&external), ("it is down".into(), "why".into()));
    let mut other = posted("Down", None, None);
    other.annotations.set("summary", "it is on fire");
    assert!(post(&mut external, 2, other).is_empty());
    assert!(external.is_touched());
    external.annotate(&mut [], explain);
    assert_eq!(said(&external), ("it is on fire".into(), "why".into()));
}

#[test]
fn after_a_restart_there_is_time_to_report_again() {
    let mut external = external();
    assert_eq!(
        post(&mut external, 0, posted("Soon", Some(-5), Some(240))),
        ["firing"]
    );
    assert_eq!(
        post(&mut external, 0, posted("Late", Some(-5), Some(7_200))),
        ["firing"]
    );
    let entries = |external: &mut External| -> Vec<_> {
        let changes = external.changes().into_iter();
        changes
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    };
    let mut written = entries(&mut external);
    assert_eq!(written.len(), 2);
    // Reported again: written only once the end has moved by much.
    assert!(post(&mut external, 60, posted("Soon", Some(-5), Some(300))).is_empty());
    assert!(entries(&mut external).is_empty());
    assert!(post(&mut external, 660, posted("Soon", Some(-5), Some(900))).is_empty());
    assert_eq!(entries(&mut external).len(), 1);

    written.push(("junk".into(), b"{}".to_vec()));
    let (mut restored, warnings) =
        External::restore(ExternalSettings::default(), at(7_000), written);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(restored.changes(), vec![("junk".into(), None)]);
    let ends = |restored: &External, name: &str| {
        let alerts = restored.snapshot();
        let alert = alerts.values().find(|alert| alert.name() == name);
        alert.and_then(|alert| Some(alert.reported()?.ends_at))
    };
    assert_eq!(ends(&restored, "Soon"), Some(at(7_000 + 240)));
    assert_eq!(ends(&restored, "Late"), Some(at(7_000 + 300)));
    assert_eq!(states(&restored.expire(at(7_300))), ["resolved"; 2]);
}

proptest! {
    #[test]
    fn states_alternate_and_what_is_written_comes_back(
        steps in proptest::collection::vec(
            (0..3_usize, -20..20_i64, proptest::option::of(-50..400_i64), 0..200_i64), 1..40,
        ),
    ) {
        let mut external = external();
        let mut written = BTreeMap::new();
        let mut last = BTreeMap::new();
        let mut now = 0;
        for (which, starts, ends, pause) in steps {
            now += pause;
            let mut transitions = external.expire(at(now));
            let ends = ends.map(|ends| now + ends.max(starts));
            let alert = posted(["A", "B", "C"][which], Some(now + starts), ends);
            transitions.extend(external.post(at(now), vec![alert]).0);
            for transition in transitions {
                let before = last.insert(transition.alert.fingerprint, transition.alert.state);
                prop_assert_eq!(before.filter(|b| *b == AlertState::Firing), transition.from);
                prop_assert!(before != Some(transition.alert.state));
            }
            for (key, value) in external.changes() {
                match value {
                    Some(value) => written.insert(key, value),
                    None => written.remove(&key),
                };
            }
            prop_assert_eq!(external.ends.len(), external.firing.len());
            let bytes: usize = external.firing.values().map(|entry| entry.bytes).sum();
            prop_assert_eq!(external.bytes, bytes);
        }
        let entries = written.into_iter().collect::<Vec<_>>();
        let (restored, warnings) = External::restore(external.settings, at(now), entries);
        prop_assert!(warnings.is_empty());
        let names = |external: &External| -> Vec<_> {
            external.snapshot().into_values().map(|a| (a.fingerprint, a.state, a.since)).collect()
        };
        prop_assert_eq!(names(&restored), names(&external));
    }
}

#[test]
fn an_alert_that_comes_and_goes_is_held_until_it_stays_away() {
    let mut external = external();
    let mut told = Vec::new();
    for round in 0..5 {
        let now = 60 * round;
        let fires = posted("Down", Some(now), Some(now + 240));
        told.extend(post(&mut external, now, fires));
        // Its end is told twice, as Prometheus does.
        for later in [20, 30] {
            let over = posted("Down", Some(now), Some(now + 20));
            told.extend(post(&mut external, now + later, over));
        }
    }
    // Told twice, held from the third time on, and counted.
    assert_eq!(told, ["firing", "resolved", "firing", "resolved", "firing"]);
    let alert = external.snapshot().into_values().next().expect("it fires");
    assert_eq!((alert.state, alert.grounds.flaps), (AlertState::Firing, 5));
    assert_eq!(external.flapping(), 1);
    assert!(external.expire(at(240 + 20 + 899)).is_empty());
    let ended = external.expire(at(240 + 20 + 900));
    assert_eq!(states(&ended), ["resolved"]);
    assert_eq!(external.flapping(), 0);
}
