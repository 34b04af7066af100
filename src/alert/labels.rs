//! Which labels an alert has, and with that, which alert it is.

use crate::model::{Fingerprint, Labels, Rule, SignalMeta};

/// Labels that Tidewatch itself sets; neither a point's attribute nor a rule overwrites them.
pub(super) const RESERVED: [&str; 5] = ["alertname", "service", "metric", "signal", "severity"];

/// Attributes that change whenever a service is rolled out. As labels they would make every restart
/// another alert, so they are left out wherever they stand.
const TRANSIENT: [&str; 2] = ["service_instance_id", "service_version"];

/// Longest value of a label, in characters.
pub(super) const MAX_VALUE_CHARS: usize = 1_024;

/// The labels that follow from rule and signal, without `severity` and without the rule's own.
///
/// An attribute named like a reserved label becomes `exported_NAME`, as Prometheus does on a clash.
/// Two attributes that become the same name are joined by `;`, as OpenTelemetry's Prometheus mapping
/// does. Empty values count as absent.
pub(super) fn of_signal(rule: &Rule, signal: &SignalMeta) -> Labels {
    let mut labels = Labels::default();
    let own = [
        ("alertname", rule.alert.as_str()),
        ("service", signal.service()),
        ("metric", signal.metric()),
        ("signal", &signal.id.kind.name()),
    ];
    for (name, value) in own {
        set(&mut labels, name, value);
    }
    for (key, value) in signal.attributes().iter() {
        let mut name = Labels::name_from(key);
        if TRANSIENT.contains(&name.as_str()) {
            continue;
        }
        if RESERVED.contains(&name.as_str()) {
            name.insert_str(0, "exported_");
        }
        let value = value.as_text();
        match labels.get(&name) {
            Some(other) => {
                let joined = format!("{other};{value}");
                set(&mut labels, &name, &joined);
            }
            None => set(&mut labels, &name, &value),
        }
    }
    labels
}

/// Adds one label of a rule: an empty value removes the label, a reserved name is ignored.
pub(super) fn add_of_rule(labels: &mut Labels, name: &str, value: &str) {
    let name = Labels::name_from(name);
    if RESERVED.contains(&name.as_str()) {
        return;
    }
    labels.0.remove(&name);
    set(labels, &name, value);
}

/// The identity of the alert with these labels: that of all but `severity`.
pub(super) fn fingerprint(labels: &Labels) -> Fingerprint {
    if labels.get("severity").is_none() {
        return labels.fingerprint();
    }
    let mut rest = labels.clone();
    rest.0.remove("severity");
    rest.fingerprint()
}

fn set(labels: &mut Labels, name: &str, value: &str) {
    if !value.is_empty() {
        labels.set(name, cut(value, MAX_VALUE_CHARS));
    }
}

/// The first `chars` characters of `text`.
pub(super) fn cut(text: &str, chars: usize) -> &str {
    text.char_indices()
        .nth(chars)
        .and_then(|(end, _)| text.get(..end))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::fixtures::{rule, signal_with};

    #[track_caller]
    fn check(attributes: &[(&str, &str)], expected: &[(&str, &str)]) {
        let labels = of_signal(&rule("Slow"), &signal_with(attributes));
        let common = [
            ("alertname", "Slow"),
            ("metric", "latency"),
            ("service", "checkout"),
            ("signal", "p99"),
        ];
        let expected: Labels = common.iter().chain(expected).copied().collect();
        assert_eq!(labels, expected);
    }

    #[test]
    fn attributes_become_labels() {
        check(&[("http.route", "/pay")], &[("http_route", "/pay")]);
        check(
            &[("service", "x"), ("severity", "y")],
            &[("exported_service", "x"), ("exported_severity", "y")],
        );
        check(&[("a.b", "1"), ("a_b", "2")], &[("a_b", "1;2")]);
        check(
            &[("empty", ""), ("9lives", "cat")],
            &[("key_9lives", "cat")],
        );
        check(
            &[("service.instance.id", "i"), ("service.version", "2")],
            &[],
        );
        let (long, most) = ("ü".repeat(2_000), "ü".repeat(MAX_VALUE_CHARS));
        check(&[("long", &long)], &[("long", &most)]);
    }

    #[test]
    fn a_rule_adds_and_removes_but_does_not_rename_the_alert() {
        let mut labels = of_signal(&rule("Slow"), &signal_with(&[("host", "h1")]));
        add_of_rule(&mut labels, "team", "payments");
        add_of_rule(&mut labels, "host", "");
        add_of_rule(&mut labels, "severity", "page");
        add_of_rule(&mut labels, "alertname", "Other");
        assert_eq!(labels.get("team"), Some("payments"));
        assert_eq!(labels.get("host"), None);
        assert_eq!(labels.get("severity"), None);
        assert_eq!(labels.get("alertname"), Some("Slow"));
    }

    #[test]
    fn severity_is_no_part_of_the_identity() {
        let mut labels = of_signal(&rule("Slow"), &signal_with(&[]));
        let before = fingerprint(&labels);
        labels.set("severity", "critical");
        assert_eq!(fingerprint(&labels), before);
        assert_ne!(labels.fingerprint(), before);
    }
}
