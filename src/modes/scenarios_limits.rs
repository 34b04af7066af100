//! Who counts where limits are shares: services that are heard, and those that only alerts name.

use super::fixtures::{Story, alert, policy, transition};
use super::scenarios::settings;
use super::{Allowance, Group, Members, Policy, Settings};
use crate::model::{Acknowledgement, AlertState, Level};

const REAL: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Half may be away; `Tried` only proposes.
fn half() -> Settings {
    let tried = policy(
        "tried",
        r#"{alertname="Tried"}"#,
        "{{ service }}",
        2,
        30,
        10,
    );
    let mut half = Settings {
        limit: 0.5,
        ..settings()
    };
    half.policies.push(Policy {
        dry_run: true,
        ..tried
    });
    half
}

impl Story {
    /// Which services of this beginning are away.
    fn away(&self, prefix: &str) -> usize {
        let view = self.machine.view(self.now());
        let away = view.services.values().filter(|s| s.level > Level(0));
        away.filter(|s| s.service.starts_with(prefix)).count()
    }

    fn all_fire(&mut self, name: &str, services: impl IntoIterator<Item = String>) {
        let now = self.now();
        let all: Vec<_> = services
            .into_iter()
            .map(|service| transition(alert(name, &service, AlertState::Firing), now))
            .collect();
        for transition in &all {
            let alert = transition.alert.clone();
            self.alerts.insert(alert.fingerprint, alert);
        }
        self.machine.on_transitions(now, &all);
    }

    fn reports(&mut self, service: &str) {
        let said = Acknowledgement {
            instance: String::new(),
            mode: "normal".into(),
            sequence: 0,
            detail: String::new(),
        };
        let heard = self.machine.acknowledge(self.now(), service, said);
        heard.expect("it is known");
    }
}

fn ghosts(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("x-{number:04}"))
}

#[test]
fn names_in_alerts_do_not_widen_the_limit_of_those_that_are_heard() {
    for name in ["Tried", "Slow"] {
        let mut story = Story::new(half(), &REAL);
        story.all_fire(name, ghosts(20));
        story.all_fire("Broken", REAL.map(String::from));
        story.until(300);
        let away = REAL.iter().map(|name| story.away(name)).sum::<usize>();
        assert_eq!(away, 4, "{name}");
    }
}

#[test]
fn names_in_alerts_take_no_room_from_those_that_are_heard() {
    let mut story = Story::new(half(), &REAL);
    story.all_fire("Slow", ghosts(12));
    assert_eq!(story.away("x"), 6);
    story.all_fire("Slow", REAL.map(String::from));
    assert_eq!(story.away(""), 6 + 4);
    // Nor the other way round.
    let mut story = Story::new(half(), &REAL);
    story.all_fire("Slow", REAL.map(String::from));
    story.fires("Slow", "x-1");
    story.mode("x-1", "degraded");
}

#[test]
fn where_only_alerts_tell_of_services_the_limit_holds_among_those_that_are_asked() {
    let mut story = Story::new(half(), &[]);
    // What is only tried, or was refused, is not asked.
    story.all_fire("Tried", ghosts(20));
    story.all_fire("Slow", REAL.map(String::from));
    assert_eq!(story.away(""), 4);
    let proposals = story.machine.view(story.now()).proposals;
    let refused = proposals.iter().filter(|p| p.policy == "slow");
    for proposal in refused.skip(1) {
        let now = story.now();
        let no = story.machine.decide(now, &proposal.id, false, "alice", "");
        no.expect("it stands");
    }
    for service in ["a", "b", "c", "d"] {
        story.resolves("Slow", service);
    }
    story.until(300);
    // Of the four that ask still three were refused.
    assert_eq!(story.away(""), 1);
    story.fires("Slow", "z");
    story.mode("z", "normal");
}

#[test]
fn who_falls_silent_while_away_stays_counted_as_it_was() {
    let mut story = Story::new(half(), &REAL);
    story.all_fire("Slow", ["a", "b", "c", "d"].map(String::from));
    story.services = ["e", "f", "g", "h"].map(String::from).into();
    story.until(100);
    assert_eq!(story.away(""), 4);
    // Four of eight are away.
    story.fires("Slow", "e");
    story.mode("e", "normal");
    story.restart(half());
    story.until(200);
    story.mode("e", "normal");
    // They are no names of alerts: of those one may go, and then there is no more room.
    story.fires("Slow", "x-1");
    story.fires("Slow", "x-2");
    assert_eq!(story.away("x"), 1);
    // Back they are not known any more, and of four that are left two may be away.
    for service in ["a", "b", "c", "d"] {
        story.resolves("Slow", service);
    }
    story.until(400);
    story.mode("e", "degraded");
    story.all_fire("Slow", ["f", "g"].map(String::from));
    story.until(410);
    assert_eq!(story.away("") - story.away("x"), 2);
}

#[test]
fn who_is_heard_since_it_is_away_takes_room_there_too() {
    let mut story = Story::new(half(), &[]);
    story.all_fire("Slow", ["a", "b", "c", "d"].map(String::from));
    assert_eq!(story.away(""), 2);
    story.services = ["a", "b", "c", "d"].map(String::from).into();
    story.until(100);
    assert_eq!(story.away(""), 2);
    // Nor does it leave room behind, until it is back.
    story.all_fire("Slow", ["y", "z"].map(String::from));
    assert_eq!(story.away(""), 2);
}

#[test]
fn who_reports_is_heard() {
    let mut story = Story::new(half(), &["a", "b"]);
    story.all_fire("Tried", ["c".to_owned(), "d".into()]);
    story.all_fire("Slow", ["a".to_owned(), "b".into()]);
    assert_eq!(story.away(""), 1);
    story.reports("c");
    story.reports("d");
    story.until(10);
    assert_eq!(story.away(""), 2);
    // For as long as it does.
    story.resolves("Tried", "c");
    story.until(90);
    assert!(story.machine.state(story.now(), "c").is_some());
    story.until(100);
    assert!(story.machine.state(story.now(), "c").is_none());
}

#[test]
fn a_group_counts_both_kinds_where_it_has_a_number_and_each_apart_where_it_has_a_share() {
    let group = |name: &str, member: &str, limit| Group {
        name: name.into(),
        members: Members::parse([member]).unwrap(),
        limit,
    };
    let grouped = Settings {
        limit: 1.0,
        groups: vec![
            group("counted", "n-.*", Allowance::Count(2)),
            group("shared", "s-.*", Allowance::Share(0.5)),
        ],
        ..half()
    };
    let mut story = Story::new(grouped, &["n-a", "n-b", "s-a", "s-b"]);
    story.all_fire("Tried", (0..10).map(|number| format!("s-{number}")));
    let asked = ["n-1", "n-2", "n-3", "s-1", "s-2"];
    story.all_fire("Slow", asked.map(String::from));
    assert_eq!((story.away("n-"), story.away("s-")), (2, 1));
    story.all_fire("Slow", ["n-a", "s-a", "s-b"].map(String::from));
    assert_eq!((story.away("n-"), story.away("s-")), (2, 2));
    story.mode("n-a", "normal");
    story.mode("s-a", "degraded");
}

#[test]
fn names_in_alerts_leave_the_house_to_those_that_are_heard() {
    let few = Settings {
        max_services: 250,
        limit: 1.0,
        ..half()
    };
    let mut story = Story::new(few.clone(), &[]);
    story.all_fire("Tried", ghosts(1_000));
    let known = |story: &Story| story.machine.view(story.now()).services.len();
    assert_eq!(known(&story), 100);
    assert_eq!(
        story.machine.take_warnings(),
        ["more than 100 services that only alerts name: modes leave the others alone"]
    );
    story.services = (0..150).map(|number| format!("real-{number}")).collect();
    story.until(10);
    assert_eq!(known(&story), 250);
    // Who is at rest leaves before others come.
    for ghost in ghosts(100) {
        story.resolves("Tried", &ghost);
    }
    story.services = (0..250).map(|number| format!("real-{number}")).collect();
    story.until(20);
    assert_eq!(known(&story), 250);
    assert!(story.machine.state(story.now(), "real-249").is_some());
}
