use proptest::prelude::*;

use super::*;
use crate::model::Selector;

const HOUR: Duration = Duration::from_hours(1);

fn at(hours: i64) -> Timestamp {
    Timestamp::from_secs(1_767_225_600 + hours * 3_600)
}

fn draft(matchers: &str, from: i64, to: i64) -> Draft {
    Draft {
        id: None,
        matchers: Selector::parse(matchers)
            .expect(matchers)
            .matchers()
            .to_vec(),
        starts_at: at(from),
        ends_at: at(to),
        created_by: "ada".into(),
        comment: "maintenance".into(),
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

fn silences() -> Silences {
    Silences::new(SilenceSettings::default())
}

fn state(silences: &Silences, id: u128, now: i64) -> SilenceState {
    silences
        .get(SilenceId(id))
        .map(|silence| silence.state(at(now)))
        .expect("it is there")
}

#[test]
fn a_silence_holds_from_its_start_to_its_end() {
    let mut silences = silences();
    let id = SilenceId(1);
    let set = silences.set(
        at(0),
        draft("service=checkout,severity!=critical", 1, 2),
        id,
    );
    assert_eq!(set, Ok(id));
    let checkout = labels(&[("service", "checkout"), ("severity", "warning")]);
    let second = Duration::from_secs(1);
    for (time, state, silenced) in [
        (at(0), SilenceState::Pending, false),
        (at(1).minus(second), SilenceState::Pending, false),
        (at(1), SilenceState::Active, true),
        (at(2).minus(second), SilenceState::Active, true),
        (at(2), SilenceState::Expired, false),
    ] {
        let silence = silences.get(id).expect("it is there");
        assert_eq!(silence.state(time), state, "{time}");
        let expected = if silenced { vec![id] } else { Vec::new() };
        assert_eq!(silences.matching(&checkout, time), expected, "{time}");
    }
    let others = [
        labels(&[("service", "checkout"), ("severity", "critical")]),
        labels(&[("service", "cart")]),
        labels(&[]),
    ];
    for other in others {
        assert!(silences.matching(&other, at(1)).is_empty(), "{other:?}");
    }
    // A label that is absent is empty, and so is not critical.
    let without = labels(&[("service", "checkout")]);
    assert_eq!(silences.matching(&without, at(1)), vec![id]);
}

#[test]
fn what_would_silence_nothing_or_everything_is_refused() {
    for (matchers, problem) in [
        (
            "a=\"\"",
            "at least one matcher must not match the empty string",
        ),
        (
            "a=~\".*\",b=\"\"",
            "at least one matcher must not match the empty string",
        ),
        ("{}", "at least one matcher required"),
        (
            "\"a-b\"=x",
            "invalid label matcher 0: invalid label name \"a-b\"",
        ),
        (
            "a=x,\"0b\"=x",
            "invalid label matcher 1: invalid label name \"0b\"",
        ),
    ] {
        let set = silences().set(at(0), draft(matchers, 0, 1), SilenceId(1));
        let expected = SilenceError::Invalid(format!("silence invalid: {problem}"));
        assert_eq!(set, Err(expected), "{matchers}");
    }
    for (from, to, problem) in [
        (2, 1, "start time must be before end time"),
        (1, 1, "start time must be before end time"),
        (-2, -1, "end time can't be in the past"),
    ] {
        let set = silences().set(at(0), draft("a=b", from, to), SilenceId(1));
        let expected = SilenceError::Invalid(format!("Failed to create silence: {problem}"));
        assert_eq!(set, Err(expected));
    }
    let mut long = draft("a=b", 0, 1);
    long.comment = "x".repeat(20_000);
    let problem = "silence exceeded maximum size: 20005 bytes (limit: 16384 bytes)";
    assert_eq!(
        silences().set(at(0), long, SilenceId(1)),
        Err(SilenceError::Invalid(problem.into()))
    );
    // Alertmanager takes these.
    for matchers in ["a!=\"\"", "a!=x", "a!~x", "a=\"\",b=x"] {
        let set = silences().set(at(0), draft(matchers, 0, 1), SilenceId(1));
        assert_eq!(set, Ok(SilenceId(1)), "{matchers}");
    }
}

#[test]
fn an_update_keeps_the_id_only_where_it_changes_no_history() {
    // (matchers, from, to of the update; now; whether it is still the same silence)
    for (matchers, from, to, now, same) in [
        ("a=b", 1, 9, 0, true),
        ("a=b", 2, 9, 0, true),
        ("a=b", 1, 9, 2, true),
        ("a=b", 2, 9, 2, false),
        ("a=c", 1, 9, 0, false),
        ("a!=b", 1, 9, 2, false),
        ("a=b", 1, 9, 5, false),
    ] {
        let mut silences = silences();
        let first = SilenceId(1);
        assert_eq!(silences.set(at(0), draft("a=b", 1, 5), first), Ok(first));
        let update = Draft {
            id: Some(first),
            ..draft(matchers, from, to)
        };
        let set = silences.set(at(now), update, SilenceId(2)).expect(matchers);
        let case = format!("{matchers} from {from} at {now}");
        assert_eq!(set == first, same, "{case}");
        assert_eq!(silences.list().len(), if same { 1 } else { 2 }, "{case}");
        if !same {
            assert_eq!(state(&silences, 1, now), SilenceState::Expired, "{case}");
            let second = silences.get(set).expect("it is there");
            assert_eq!(second.starts_at, at(from.max(now)), "{case}");
        }
    }
    let lost = Draft {
        id: Some(SilenceId(7)),
        ..draft("a=b", 0, 1)
    };
    let set = silences().set(at(0), lost, SilenceId(2));
    assert_eq!(set, Err(SilenceError::NotFound));
}

#[test]
fn a_refused_update_changes_nothing() {
    let mut silences = Silences::new(SilenceSettings {
        max_silences: 1,
        ..SilenceSettings::default()
    });
    let first = SilenceId(1);
    assert_eq!(silences.set(at(0), draft("a=b", 0, 5), first), Ok(first));
    let update = |matchers: &str| Draft {
        id: Some(first),
        ..draft(matchers, 0, 5)
    };
    let full = SilenceError::Full { count: 1, limit: 1 };
    assert_eq!(silences.set(at(1), update("a=c"), SilenceId(2)), Err(full));
    assert!(silences.set(at(1), update("a=\"\""), SilenceId(2)).is_err());
    assert_eq!(state(&silences, 1, 1), SilenceState::Active);
    // Where it stays the same there is room.
    let longer = Draft {
        ends_at: at(9),
        ..update("a=b")
    };
    assert_eq!(silences.set(at(1), longer, SilenceId(2)), Ok(first));
}

#[test]
fn silences_end_early_and_are_forgotten_late() {
    let mut silences = silences();
    for (id, from) in [(1, 0), (2, 3)] {
        let set = silences.set(at(0), draft("a=b", from, 5), SilenceId(id));
        assert_eq!(set, Ok(SilenceId(id)));
    }
    assert_eq!(silences.next_deadline(at(0)), Some(at(3)));
    for id in [SilenceId(1), SilenceId(2)] {
        assert_eq!(silences.expire(at(1), id), Ok(()));
        assert!(!silences.changes().is_empty());
        assert_eq!(silences.expire(at(1), id), Ok(()));
        assert!(silences.changes().is_empty());
    }
    assert_eq!(
        silences.expire(at(1), SilenceId(3)),
        Err(SilenceError::NotFound)
    );
    assert!(silences.matching(&labels(&[("a", "b")]), at(4)).is_empty());
    assert_eq!(silences.next_deadline(at(1)), Some(at(1).plus(HOUR * 120)));
    silences.collect(at(120));
    assert_eq!(silences.list().len(), 2);
    drop(silences.changes());
    silences.collect(at(121));
    assert_eq!(silences.list().len(), 0);
    let gone: Vec<_> = silences.changes().into_iter().map(|(_, v)| v).collect();
    assert_eq!(gone, vec![None, None]);
    assert_eq!(silences.next_deadline(at(121)), None);
}

#[test]
fn what_cannot_be_read_back_is_named_and_removed() {
    let mut silences = silences();
    let set = silences.set(at(0), draft("a=~\"b|c\",d!=\"\"", 0, 1), SilenceId(1));
    assert_eq!(set, Ok(SilenceId(1)));
    let mut entries: Vec<_> = silences
        .changes()
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    assert_eq!(entries.len(), 1);
    let (_, value) = entries[0].clone();
    let text = String::from_utf8(value.clone()).expect("JSON");
    insta::assert_snapshot!(text, @r#"{"version":1,"silence":{"id":"00000000-0000-0000-0000-000000000001","matchers":[{"isEqual":true,"isRegex":true,"name":"a","value":"b|c"},{"isEqual":false,"isRegex":false,"name":"d","value":""}],"startsAt":"2026-01-01T00:00:00Z","endsAt":"2026-01-01T01:00:00Z","updatedAt":"2026-01-01T00:00:00Z","createdBy":"ada","comment":"maintenance"}}"#);
    entries.push(("other".into(), value));
    entries.push(("junk".into(), b"{".to_vec()));
    let (mut restored, warnings) = Silences::restore(SilenceSettings::default(), at(0), entries);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let matched = restored.matching(&labels(&[("a", "c"), ("d", "x")]), at(0));
    assert_eq!(matched, vec![SilenceId(1)]);
    assert_eq!(
        restored.changes(),
        vec![("other".into(), None), ("junk".into(), None)]
    );
}

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let matcher = ("[abc]", 0..4_u8, "[xy]?").prop_map(|(name, op, value)| {
        let op = comparison(op & 1 == 1, op & 2 == 2);
        Matcher::of_alertmanager(&name, op, &value).expect("it is valid")
    });
    proptest::collection::vec(matcher, 1..4)
}

proptest! {
    #[test]
    fn the_index_finds_what_looking_at_all_finds_with_or_without_a_restart(
        all in proptest::collection::vec((matchers(), 0..6_i64, 1..6_i64, any::<bool>()), 0..12),
        set in proptest::collection::btree_map("[abc]", "[xyz]", 0..4),
        now in 0..12_i64,
    ) {
        let mut silences = silences();
        let mut written = BTreeMap::new();
        for (number, (matchers, from, length, ends)) in (1..).zip(all) {
            let draft = Draft { matchers, ..draft("a=b", from, from + length) };
            if silences.set(at(0), draft, SilenceId(number)).is_ok() && ends {
                prop_assert!(silences.expire(at(0), SilenceId(number)).is_ok());
            }
            for (key, value) in silences.changes() {
                written.insert(key, value.expect("nothing is forgotten yet"));
            }
        }
        let labels: Labels = set.into_iter().collect();
        let naive: Vec<_> = silences
            .list()
            .filter(|s| s.state(at(now)) == SilenceState::Active && s.matches(&labels))
            .map(|s| s.id)
            .collect();
        prop_assert_eq!(silences.matching(&labels, at(now)), naive.clone());
        let (restored, warnings) = Silences::restore(SilenceSettings::default(), at(now), written);
        prop_assert!(warnings.is_empty());
        prop_assert_eq!(restored.matching(&labels, at(now)), naive);
        prop_assert_eq!(format!("{:?}", restored.all), format!("{:?}", silences.all));
    }
}
