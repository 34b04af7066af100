//! What applies where the configuration says nothing of rules.
//!
//! No two of these speak of the same thing: where signals could be seen by two rules, selectors or
//! directions keep them apart. Names are those of OpenTelemetry's semantic conventions, and what
//! Prometheus exporters make of the same things.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::rule::{Direction, Resolve, Rule, default_detector};

/// Values that say how much waits: a high one is trouble, a low one is not.
const QUEUES: &str = "(?i).*(queued?[._ ]?(depth|length|len|size|count|level|items|messages|usage|backlog)\
                      |queued|backlog|queue|(consumer|consumergroup|replication|offset|group)[._ ]?lag\
                      |(^|[._ ])pending([._ ]?(requests|messages|jobs|tasks|items|count))?\
                      |(messages|jobs|tasks|items|requests)[._ ](ready|waiting|visible|unacknowledged|unacked))";
/// Shares of something that can be full.
const UTILIZATION: &str =
    "(?i).*(utili[sz]ation|saturation|(used|usage)[._](ratio|percent|percentage))";
/// What counts failures.
const FAILURES: &str = "(?i).*(error|exception|fail|timeout|time[._]out|reject|drop|abort|panic|dead[._]?letter|evict).*";

/// The rules that apply where the configuration has none: latency, errors, rate, queues, saturation, plain
/// values and silence of everything, quiet enough to leave on.
///
/// # Panics
/// Never: the selectors are fixed; a test reads them.
pub fn builtin_rules() -> Vec<Rule> {
    // Their expressions take some milliseconds to compile, and every configuration begins with them.
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(rules);
    RULES.clone()
}

fn rules() -> Vec<Rule> {
    vec![
        Rule {
            direction: Direction::Above,
            min_change_ratio: 0.2,
            ..builtin("LatencyDeviation", r#"{signal=~"p95|p99"}"#, "is slow")
        },
        Rule {
            direction: Direction::Above,
            min_change: 0.05,
            ..builtin(
                "ErrorRatioDeviation",
                r#"{signal="error_ratio"}"#,
                "fails more often",
            )
        },
        Rule {
            direction: Direction::Above,
            // Five in a tick of ten seconds: fewer are told by the ratio, if they matter.
            min_change: 0.5,
            min_change_ratio: 1.0,
            ..builtin(
                "ErrorBurst",
                &format!(r#"{{signal="rate",metric=~"{FAILURES}"}}"#),
                "reports a burst of errors",
            )
        },
        Rule {
            direction: Direction::Above,
            min_change: 0.5,
            min_change_ratio: 1.0,
            ..builtin(
                "ErrorBurst",
                &format!(r#"{{signal="rate",error_type!="",metric!~"{FAILURES}"}}"#),
                "reports a burst of errors",
            )
        },
        Rule {
            direction: Direction::Above,
            min_change_ratio: 0.5,
            ..builtin(
                "RateDeviation",
                r#"{signal="rate",metric="span.duration"}"#,
                "is called more often than usual",
            )
        },
        Rule {
            direction: Direction::Below,
            min_change_ratio: 0.5,
            ..builtin(
                "ThroughputDrop",
                r#"{signal="rate",metric="span.duration"}"#,
                "is called far less than usual",
            )
        },
        Rule {
            direction: Direction::Above,
            // Two or three more in a queue are no spike.
            min_change: 5.0,
            min_change_ratio: 0.5,
            ..builtin(
                "QueueDepthSpike",
                &format!(r#"{{signal="value",metric=~"{QUEUES}"}}"#),
                "has more waiting than usual",
            )
        },
        Rule {
            detector: "forecast".into(),
            ..builtin(
                "Saturation",
                &format!(
                    r#"{{signal="value",unit=~"1|%",metric=~"{UTILIZATION}",{}}}"#,
                    OF_WHAT_IS_USED
                ),
                "will run out of capacity",
            )
        },
        Rule {
            min_change_ratio: 0.25,
            ..builtin(
                "ValueDeviation",
                &format!(r#"{{signal="value",metric!~"{QUEUES}"}}"#),
                "reports an unusual value",
            )
        },
        Rule {
            detector: "absence".into(),
            annotations: [(
                "summary".to_owned(),
                "{{ service }} is silent: no telemetry arrives from it".to_owned(),
            )]
            .into(),
            ..builtin("ServiceSilent", "{}", "is silent")
        },
    ]
}

/// Of metrics that are split by state, the part that is taken: what is idle or free may well rise.
const OF_WHAT_IS_USED: &str = concat!(
    r#"state=~"(used|user|system)?",cpu_mode=~"(used|user|system)?","#,
    r#"system_cpu_state=~"(used|user|system)?",system_memory_state=~"(used)?","#,
    r#"system_filesystem_state=~"(used)?",system_paging_state=~"(used)?""#
);

fn builtin(alert: &str, selector: &str, what: &str) -> Rule {
    let summary = format!("{{{{ service }}}} {what}: {{{{ metric }}}} {{{{ signal }}}}");
    Rule {
        alert: alert.into(),
        selector: selector
            .parse()
            .expect("fixed selectors; a test reads them"),
        detector: default_detector(),
        window: None,
        sigma: None,
        direction: Direction::Both,
        // As the detector has it.
        hold: None,
        // 30, or a small window's size.
        min_samples: None,
        min_change: 0.0,
        min_change_ratio: 0.0,
        resolve: Resolve::default(),
        lower: None,
        upper: None,
        target: None,
        objective: None,
        objectives: Vec::new(),
        burn: Vec::new(),
        horizon: None,
        after: None,
        labels: BTreeMap::new(),
        annotations: [("summary".to_owned(), summary)].into(),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use crate::config::Config;
    use crate::model::LabelSource;

    struct Signal<'a>(&'a [(&'a str, &'a str)]);

    impl LabelSource for Signal<'_> {
        fn label(&self, name: &str) -> Option<Cow<'_, str>> {
            let found = self.0.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| Cow::Borrowed(*value))
        }
    }

    #[track_caller]
    fn check(metric: &str, signal: &str, more: &[(&str, &str)], expected: &[&str]) {
        let mut labels = vec![("metric", metric), ("signal", signal), ("service", "s")];
        labels.extend(more);
        let rules = Config::default().model_rules();
        let found: Vec<_> = rules
            .iter()
            .filter(|rule| {
                rule.detector.name != "absence" && rule.selector.matches(&Signal(&labels))
            })
            .map(|rule| rule.alert.as_str())
            .collect();
        assert_eq!(found, expected, "{labels:?}");
    }

    #[test]
    fn each_signal_has_its_rule_by_the_names_of_the_conventions() {
        check("span.duration", "p99", &[], &["LatencyDeviation"]);
        check(
            "span.duration",
            "rate",
            &[],
            &["RateDeviation", "ThroughputDrop"],
        );
        check(
            "span.duration",
            "error_ratio",
            &[],
            &["ErrorRatioDeviation"],
        );
        let queues = [
            "messaging.kafka.consumer.lag",
            "kafka.consumergroup.lag",
            "rabbitmq_queue_messages",
            "rabbitmq.queue.depth",
            "queue.length",
            "jvm.executor.queue_size",
            "executor.queued",
            "celery_queue_length",
            "db.client.connections.pending_requests",
            "http.client.active_requests_queue",
            "order_backlog",
            "messages.unacknowledged",
        ];
        for queue in queues {
            check(queue, "value", &[], &["QueueDepthSpike"]);
        }
        for other in [
            "process.memory.usage",
            "feature.flag",
            "queue.wait_time",
            "queue.capacity",
            "appending",
            "messages.total",
            "jvm.thread.count",
        ] {
            check(other, "value", &[], &["ValueDeviation"]);
        }
        let share = ("unit", "1");
        let both = ["Saturation", "ValueDeviation"];
        for full in [
            "system.memory.utilization",
            "process.cpu.utilization",
            "db.client.connection.pool.utilization",
            "disk_used_percent",
        ] {
            check(full, "value", &[share], &both);
        }
        let state = "system.memory.state".replace('.', "_");
        let idle = [share, ("cpu_mode", "idle")];
        check(
            "system.cpu.utilization",
            "value",
            &idle,
            &["ValueDeviation"],
        );
        let free = [share, (state.as_str(), "free")];
        check(
            "system.memory.utilization",
            "value",
            &free,
            &["ValueDeviation"],
        );
        let used = [share, (state.as_str(), "used")];
        check("system.memory.utilization", "value", &used, &both);
        check("http.client.errors", "rate", &[], &["ErrorBurst"]);
        check(
            "http.client.errors",
            "rate",
            &[("error_type", "500")],
            &["ErrorBurst"],
        );
        let failed = [("error_type", "timeout")];
        check(
            "http.server.request.duration",
            "rate",
            &failed,
            &["ErrorBurst"],
        );
        check("http.server.request.duration", "rate", &[], &[]);
    }
}
