//! Routing, grouping, inhibition, silences and timing against a real Alertmanager: one table of cases, played
//! in virtual time here and in real time there, and compared: who got what, and when.
//!
//! All cases run at the same time in one Alertmanager, kept apart by the label `case`. Its configuration is
//! the text that Tidewatch reads, too.

mod alertmanager;
mod cases;
mod daemon;
mod ours;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cases::{CASES, Case};

/// What one receiver was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// After the beginning.
    pub at: Duration,
    pub receiver: String,
    pub group: String,
    /// `firing` or `resolved`.
    pub status: String,
    /// `name+` for those that fire, `name-` for those that are over, sorted.
    pub alerts: Vec<String>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            receiver,
            group,
            status,
            alerts,
        } = self;
        let (at, alerts) = (at.as_secs_f64(), alerts.join(" "));
        write!(f, "{at:.1}s {receiver} {group} {status}: {alerts}")
    }
}

/// How much later than in virtual time something may come: the real one has a machine to share.
const LATENESS: Duration = Duration::from_millis(1_400);
/// And earlier: timers are exact, but both clocks were read at different moments.
const EARLINESS: Duration = Duration::from_millis(200);

/// What is different between the two, by receiver and group; the times of the first may be off a little.
fn differences(real: &[Told], ours: &[Told]) -> Vec<String> {
    type Groups<'a> = BTreeMap<(&'a str, &'a str), [Vec<&'a Told>; 2]>;
    let mut groups = Groups::new();
    for (side, all) in [real, ours].into_iter().enumerate() {
        for told in all {
            let group = groups.entry((&told.receiver, &told.group)).or_default();
            group[side].push(told);
        }
    }
    let mut found = Vec::new();
    for ((receiver, group), [real, ours]) in groups {
        let same = |(real, ours): (&&Told, &&Told)| {
            (&real.status, &real.alerts) == (&ours.status, &ours.alerts)
                && real.at + EARLINESS >= ours.at
                && real.at <= ours.at + LATENESS
        };
        if real.len() != ours.len() || !real.iter().zip(&ours).all(same) {
            let list = |side: &[&Told]| -> String {
                let lines = side.iter().map(|told| format!("\n    {told}"));
                lines.collect()
            };
            found.push(format!(
                "{receiver} {group}\n  Alertmanager:{}\n  Tidewatch:{}",
                list(&real),
                list(&ours)
            ));
        }
    }
    found
}

/// The configuration of all cases, for both. `hook` is where webhooks go to: the receiver's name follows.
fn configuration(hook: &str) -> String {
    let mut text = String::from("route:\n  receiver: nobody\n  routes:\n");
    let indented = |text: &str, by: &str| -> String {
        let lines = text.trim_matches('\n').lines();
        lines.map(|line| format!("{by}{line}\n")).collect()
    };
    for Case { name, route, .. } in CASES {
        text += &format!("    - matchers: ['case = {name}']\n");
        text += &indented(route, "      ");
    }
    text += "inhibit_rules:\n";
    for Case { name, inhibit, .. } in CASES {
        for (source, target, equal) in *inhibit {
            text += &format!(
                "  - source_matchers: ['case = {name}, {source}']\n    \
                 target_matchers: ['case = {name}, {target}']\n    equal: [{equal}]\n"
            );
        }
    }
    text += cases::TIME_INTERVALS;
    text += "receivers:\n  - name: nobody\n";
    for name in cases::RECEIVERS {
        let resolved = !name.starts_with("firing-only");
        text += &format!(
            "  - name: {name}\n    webhook_configs:\n      \
             - {{url: '{hook}/{name}', send_resolved: {resolved}}}\n"
        );
    }
    text
}

/// The label `case` of a group, which each case groups by or routes by.
fn case_of(group: &str) -> &str {
    let after = group.split_once("case=\"").map_or("", |(_, after)| after);
    after.split_once('"').map_or("", |(case, _)| case)
}

fn of_case(all: &[Told], case: &str) -> Vec<Told> {
    let mine = all.iter().filter(|told| case_of(&told.group) == case);
    mine.cloned().collect()
}

#[tokio::test]
async fn alertmanager_and_tidewatch_tell_the_same() {
    let mut last = Vec::new();
    // A machine that is busy with other tests may delay the real one so much that events change places.
    for _ in 0..3 {
        let (real, began) = alertmanager::play().await;
        let ours = ours::play(began);
        assert!(
            real.len() > CASES.len(),
            "hardly anything was told: {real:?}"
        );
        last.clear();
        for case in CASES {
            let (real, ours) = (of_case(&real, case.name), of_case(&ours, case.name));
            let different = differences(&real, &ours);
            match case.differs {
                None => last.extend(different),
                // What is different on purpose must be so, or the documentation is wrong.
                Some(why) if different.is_empty() => {
                    last.push(format!("{}: it is the same, but {why}", case.name));
                }
                Some(_) => {}
            }
        }
        if last.is_empty() {
            return;
        }
        eprintln!("once more, after differences:\n{}", last.join("\n"));
    }
    panic!("{}", last.join("\n"));
}

#[test]
fn the_comparison_sees_differences() {
    let told = |seconds: u64, alerts: &str| Told {
        at: Duration::from_secs(seconds),
        receiver: "a".into(),
        group: "{}:{}".into(),
        status: "firing".into(),
        alerts: vec![alerts.into()],
    };
    let real = [told(1, "x+"), told(4, "y+")];
    assert!(differences(&real, &real).is_empty());
    for other in [
        &[told(1, "x+")][..],
        &[told(1, "x+"), told(4, "z+")],
        &[told(1, "x+"), told(4, "y-")],
        &[told(1, "x+"), told(6, "y+")],
        &[told(1, "x+"), told(2, "y+")],
        &[told(1, "x+"), told(4, "y+"), told(7, "y+")],
        &[],
    ] {
        assert_eq!(differences(&real, other).len(), 1, "{other:?}");
        assert_eq!(differences(other, &real).len(), 1, "{other:?}");
    }
    let elsewhere = real.clone().map(|told| Told {
        receiver: "b".into(),
        ..told
    });
    assert_eq!(differences(&real, &elsewhere).len(), 2);
}
