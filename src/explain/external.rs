//! What is said of an alert that another system reports: its own words first, then what is known here of
//! the service that its labels name.

use super::annotate::{
    MAX_MOVED, Part, appeared, clean, comes_from, flapping, moved_too, resolution,
};
use super::context::Context;
use super::words::clock;
use crate::model::{Alert, AlertState};

/// Annotations in which other systems say in a sentence what an alert is about, the first first.
const SENTENCES: [&str; 3] = ["summary", "description", "message"];

/// Brings the alert's grounds up to date, and sets `explanation`, and where there are such
/// `likely_origin`, `moved`, `new_version`, `incident` and `incident_summary`. What the other system
/// annotates itself stays as it is.
pub(super) fn annotate(alert: &mut Alert, context: &Context, part: Option<Part<'_>>) {
    if !alert.service.is_empty() {
        context.ground(alert);
    }
    if let Some(part) = &part {
        alert.grounds.incident = Some(part.id.to_owned());
    }
    alert.grounds.sentence = sentence(alert);
    let explanation = explanation(alert, part.as_ref());
    let grounds = &alert.grounds;
    let near = alert.updated_at;
    let moved = grounds.moved.iter().map(|moved| moved_too(moved, near));
    let moved: Vec<_> = moved.collect();
    let origin = grounds.origin.as_ref();
    let version = grounds.version.as_ref();
    let texts = [
        ("explanation", Some(explanation)),
        (
            "likely_origin",
            origin.map(|origin| clean(origin.service())),
        ),
        ("moved", (!moved.is_empty()).then(|| moved.join("; "))),
        (
            "new_version",
            version.map(|version| appeared(version, alert.since)),
        ),
        ("flapping", flapping(grounds)),
        ("incident", grounds.incident.clone()),
        ("incident_summary", part.map(|part| part.summary.to_owned())),
    ];
    let said = alert.grounds.reported.as_ref();
    let said = said.map(|reported| reported.annotations.clone());
    let own = |name: &str| said.as_ref().is_some_and(|said| said.get(name).is_some());
    for (name, text) in texts.into_iter().filter(|(name, _)| !own(name)) {
        match text {
            Some(text) => alert.annotations.set(name, text),
            // Of a resolved alert what was said last stays.
            None if alert.state == AlertState::Resolved => {}
            None => drop(alert.annotations.0.remove(name)),
        }
    }
}

/// What the other system says, without its full stop; where it says nothing, the alert's name and service.
fn sentence(alert: &Alert) -> String {
    let said = alert.reported().and_then(|reported| {
        let texts = SENTENCES.iter();
        texts
            .filter_map(|name| reported.annotations.get(name))
            .find(|text| !text.trim().is_empty())
    });
    match (said, alert.service.as_str()) {
        (Some(text), _) => clean(text.trim().trim_end_matches('.')),
        (None, "") => clean(alert.name()),
        (None, service) => format!("{} of {}", clean(alert.name()), clean(service)),
    }
}

/// `Too many errors. Reported since 12:00:05Z. service.version 1.4.2 of checkout appeared 40 s before. Moved
/// too: … Callee payment deviates since 12:00:00Z.`
fn explanation(alert: &Alert, part: Option<&Part<'_>>) -> String {
    let grounds = &alert.grounds;
    let near = alert.updated_at;
    let since = clock(alert.since, near);
    let over = alert
        .resolved_at
        .filter(|_| alert.state == AlertState::Resolved);
    let mut sentences = vec![match over {
        Some(end) => format!(
            "{}. Reported from {since} to {}.",
            grounds.sentence,
            clock(end, alert.since)
        ),
        None => format!("{}. Reported since {since}.", grounds.sentence),
    }];
    sentences.extend(resolution(alert));
    sentences.extend(flapping(grounds).map(|flapping| format!("It is flapping: {flapping}.")));
    if let Some(version) = &grounds.version {
        sentences.push(format!("{}.", appeared(version, alert.since)));
    }
    let moved = grounds.moved.iter().take(MAX_MOVED);
    let moved: Vec<_> = moved.map(|moved| moved_too(moved, near)).collect();
    match grounds.moved.len().saturating_sub(moved.len()) {
        _ if moved.is_empty() => {}
        0 => sentences.push(format!("Moved too: {}.", moved.join(", "))),
        more => sentences.push(format!("Moved too: {}, and {more} more.", moved.join(", "))),
    }
    if let Some(origin) = &grounds.origin {
        sentences.push(comes_from(origin, over.is_some(), near));
    }
    if let Some(part) = part.filter(|part| part.has_more) {
        sentences.push(part.summary.to_owned());
    }
    sentences.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::context::Facts;
    use crate::explain::fixtures::{alert, moved};
    use crate::model::{Movement, Reported, ServiceView, Timestamp, VersionView};
    use std::time::Duration;

    fn reported(service: &str, annotations: &[(&str, &str)]) -> Alert {
        let mut alert = alert(service);
        alert.labels = [("alertname", "HighErrorRate"), ("job", service)]
            .into_iter()
            .collect();
        alert.annotations = annotations.iter().copied().collect();
        alert.grounds.reported = Some(Reported {
            annotations: alert.annotations.clone(),
            generator_url: String::new(),
            ends_at: alert.since.plus(Duration::from_secs(300)),
            is_timeout: false,
            is_held: false,
        });
        alert
    }

    #[track_caller]
    fn check(mut alert: Alert, context: &Context, expected: &str) -> Alert {
        annotate(&mut alert, context, None);
        assert_eq!(alert.annotations.get("explanation"), Some(expected));
        for name in ["observed", "expected", "sigma", "recommendation"] {
            assert_eq!(alert.annotations.get(name), None, "{name}");
        }
        alert
    }

    #[test]
    fn the_other_systems_words_come_first() {
        let alone = Context::default();
        check(
            reported(
                "checkout",
                &[("description", "long"), ("summary", "5 % fail.")],
            ),
            &alone,
            "5 % fail. Reported since 12:00:05Z.",
        );
        check(
            reported("checkout", &[("summary", " ")]),
            &alone,
            "HighErrorRate of checkout. Reported since 12:00:05Z.",
        );
        check(
            reported("", &[]),
            &alone,
            "HighErrorRate. Reported since 12:00:05Z.",
        );
        // What it calls an explanation stays.
        check(
            reported("a", &[("explanation", "because")]),
            &alone,
            "because",
        );
        let mut over = reported("checkout", &[]);
        over.state = AlertState::Resolved;
        over.resolved_at = Some(over.since.plus(Duration::from_secs(60)));
        over.annotations
            .set("resolved_reason", "not reported since 12:00Z");
        check(
            over,
            &alone,
            "HighErrorRate of checkout. Reported from 12:00:05Z to 12:01:05Z. \
             Resolved: not reported since 12:00Z.",
        );
    }

    #[test]
    fn what_is_known_of_its_service_is_added() {
        let since = alert("checkout").since;
        let second = since.as_nanos() / 1_000_000_000;
        let slow = moved("checkout", "db.pool.used", "value", 4.0, 16.0, second + 10);
        let movement = Movement {
            service: "checkout".into(),
            moved: vec![slow],
            carriers: Default::default(),
        };
        let service = ServiceView {
            service: "checkout".into(),
            first_seen: Timestamp::EPOCH,
            last_seen: since,
            series: 9,
            refused_series: 0,
            versions: vec![VersionView {
                version: "1.4.2".into(),
                first_seen: since.minus(Duration::from_secs(40)),
                appeared: true,
            }],
        };
        let context = Context::new(Facts {
            movements: &[movement],
            services: &[service],
            tick: Duration::from_secs(10),
            ..Facts::default()
        });
        let alert = check(
            reported("checkout", &[("summary", "5 % fail")]),
            &context,
            "5 % fail. Reported since 12:00:05Z. service.version 1.4.2 of checkout appeared 40 s \
             before. Moved too: db.pool.used 4 times its usual since 12:00:15Z.",
        );
        let moved = alert.annotations.get("moved");
        assert_eq!(
            moved,
            Some("db.pool.used 4 times its usual since 12:00:15Z")
        );
        // A second time changes nothing.
        let mut again = alert.clone();
        annotate(&mut again, &context, None);
        assert_eq!(again, alert);
    }
}
