use std::sync::Arc;

use jiff::tz::TimeZone;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::{Target, Templates, View, check_text, words};
use crate::dispatch::{Notification, Reason, Status};
use crate::model::{Labels, Timestamp};
use crate::notify::message::{Message, Resolved};
use crate::notify::template::check::sample;

/// A notification about alerts of which one label says `value`.
fn view(value: &str) -> View<'static> {
    let mut alert = sample();
    for name in ["alertname", "service", "severity", "team"] {
        alert.labels.set(name, value);
    }
    for name in ["summary", "explanation", "recommendation"] {
        alert.annotations.set(name, value);
    }
    alert.service = value.into();
    let notification = Notification {
        common_labels: alert.labels.clone(),
        group_labels: Labels::from_iter([("service", value)]),
        common_annotations: alert.annotations.clone(),
        receiver: "oncall".into(),
        group_key: "{}:{}".into(),
        truncated: 0,
        status: Status::Firing,
        reason: Reason::Firing,
        decided_at: Timestamp::from_secs(1_700_000_000),
        alerts: vec![Arc::new(alert)],
    };
    let message = Message::Alerts(Arc::new(notification));
    let url = "http://tidewatch.example";
    View::new(&message, "oncall", Resolved::Send, url, &TimeZone::UTC).unwrap()
}

const TARGETS: [Target; 8] = [
    Target::Line,
    Target::Plain,
    Target::Html,
    Target::SlackLine,
    Target::Slack,
    Target::MarkdownLine,
    Target::Markdown,
    Target::Json,
];

#[track_caller]
fn check(target: Target, source: &str, expected: &str) {
    let text = Templates::default().text(target, source).unwrap();
    assert_eq!(
        view("a & b").text(Some(&text), "-", target),
        expected,
        "{source}"
    );
}

#[test]
fn texts_are_written_for_their_target() {
    check(Target::Line, "{{ common_labels.team }}\n!", "a & b !");
    check(Target::Plain, "{{ common_labels.team }}\n!", "a & b\n!");
    check(
        Target::Html,
        "<b>{{ common_labels.team }}</b>",
        "<b>a &amp; b</b>",
    );
    check(
        Target::Slack,
        "<!here> {{ common_labels.team }}",
        "<!here> a &amp; b",
    );
    check(Target::Json, "[{{ common_labels.team }}]", "[\"a & b\"]");
    check(Target::Slack, "{{ common_labels.team | safe }}", "a & b");
    // What is not there is empty, and may be named otherwise.
    check(Target::Plain, "[{{ common_labels.x }}]", "[]");
    check(
        Target::Plain,
        "{{ common_labels.x | default('none') }}",
        "none",
    );
    check(Target::Plain, "{{ alerts[0].labels.x or 'none' }}", "none");
    check(
        Target::Plain,
        "{% if common_labels.x %}yes{% else %}no{% endif %}",
        "no",
    );
    check(
        Target::Plain,
        "{{ 'a.b.c' | regex_replace('\\\\.', '-') }}",
        "a-b-c",
    );
    check(Target::Plain, "{{ 3700 | duration }}", "1h 1m");
    check(
        Target::Plain,
        "{{ time | date }}",
        "2023-11-14 22:13:20 UTC",
    );
    check(Target::Plain, "{{ alerts[0].ends_at | date }}", "");
    // What fails is replaced.
    check(Target::Plain, "{{ nothing.at.all }}", "-");
    check(Target::Plain, "{{ 'x' | date }}", "-");
    check(
        Target::Plain,
        "{{ time | date('%H', 'Mars/Olympus') }}",
        "-",
    );
}

#[test]
fn an_endless_text_is_cut_and_an_endless_document_replaced() {
    let long = "{% for a in range(1000) %}{{ 'x' * 1000 }}{% endfor %}";
    let rendered = |target| {
        let text = Templates::default().text(target, long).unwrap();
        view("x").text(Some(&text), "-", target)
    };
    assert_eq!(rendered(Target::Plain).len(), super::MAX_RENDERED_BYTES);
    assert_eq!(rendered(Target::Html), "-");
}

#[test]
fn the_built_in_texts_have_no_mistake() {
    let built_in = [
        (Target::Line, words::TITLE),
        (Target::Line, words::URL),
        (Target::Plain, words::PLAIN),
        (Target::Slack, words::SLACK),
        (Target::Markdown, words::MARKDOWN),
        (Target::Html, words::HTML),
    ];
    for (target, text) in built_in {
        assert_eq!(check_text([], target, false, text), Ok(()), "{text}");
    }
}

proptest! {
    // Each case is read and tried for every target.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_answered(source in "[ -~\n]{0,40}|(\\{\\{|\\}\\}|\\{%|%\\}|if|for|a|in|\\||alerts|[ .\\[\\]()'0-9]){0,12}") {
        for target in TARGETS {
            drop(check_text([], target, false, &source));
            drop(check_text([], target, true, &source));
        }
    }

    #[test]
    fn a_value_stays_a_value(value in "\\PC{0,20}|[<>&\"'\\\\\\[\\]()*_`|!#\n\r\t\u{2028}{}%-]{0,20}") {
        let view = view(&value);
        let built_in = |source, target| view.text(None, source, target);
        let html = built_in(words::HTML, Target::Html);
        let empty = super::tests::view("").text(None, words::HTML, Target::Html);
        prop_assert_eq!(html.matches('<').count(), tags(&empty, &value), "{}", html);
        let slack = built_in(words::SLACK, Target::Slack);
        // The only thing in angle brackets is our own link.
        prop_assert_eq!(slack.matches('<').count(), 1, "{}", slack);
        prop_assert_eq!(slack.matches('>').count(), 1, "{}", slack);
        let title = built_in(words::TITLE, Target::Line);
        let has_break = title.contains(['\n', '\r', '\t', '\u{2028}']);
        prop_assert!(!has_break);
        let markdown = built_in("{{ common_labels.team }}", Target::Markdown);
        let linked = markdown.replace("\\\\", "").replace("\\[", "").replace("\\]", "");
        prop_assert!(!linked.contains(['[', ']', '<']), "{}", markdown);
        let json = built_in("{\"a\": {{ common_labels.team }}, \"b\": {{ alerts }}}", Target::Json);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(json["a"].as_str(), Some(value.as_str()));
        prop_assert_eq!(json["b"][0]["labels"]["team"].as_str(), Some(value.as_str()));
    }
}

/// How many tags the built-in mail has, given that of empty values: those of texts that say nothing are
/// left out.
fn tags(empty: &str, value: &str) -> usize {
    let of_texts = match value.is_empty() {
        true => 0,
        false => "<p></p><p><b></b></p>".matches('<').count(),
    };
    empty.matches('<').count() + of_texts
}
