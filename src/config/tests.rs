use super::*;

fn known() -> Known {
    Known {
        detectors: vec![
            "adaptive",
            "robust",
            "zscore",
            "threshold",
            "slo",
            "forecast",
            "absence",
        ],
        template: |text| match text.contains("{{ nope") {
            true => Err("unknown value `nope`".into()),
            false => Ok(()),
        },
        text: |files, _, text| match text.contains("{{ nope") {
            true => Err(format!(
                "there is no `nope`\nthere are {} files",
                files.len()
            )),
            false => Ok(()),
        },
    }
}

fn lookup(name: &str) -> Option<String> {
    match name {
        "HOOK_SECRET" => Some("hunter2".into()),
        "WHSEC" => Some("whsec_hunter2!".into()),
        "SAMPLES" => Some("50".into()),
        "ADDRESS" => Some("hunter2:x".into()),
        _ => None,
    }
}

fn load_text(text: &str) -> Result<Loaded, Diagnostics> {
    parse("t.yaml", text, &lookup, &known())
}

#[track_caller]
fn good(text: &str) -> Config {
    match load_text(text) {
        Ok(loaded) => loaded.config,
        Err(found) => panic!("{found}"),
    }
}

/// What is said of `text`, warnings too.
fn said(text: &str) -> String {
    let found = match load_text(text) {
        Ok(loaded) => loaded.warnings,
        Err(found) => found,
    };
    let text = found.to_string();
    assert!(!text.contains("hunter2"), "a secret shows: {text}");
    text
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(said(text), expected.join("\n"), "\n--- of\n{text}");
}

/// The contract's example, with the detector that is there already.
const CONTRACT: &str = r#"
otlp:    {grpc: "127.0.0.1:4317", http: "127.0.0.1:4318"}
http:    {listen: "127.0.0.1:9517"}
storage: {path: ./tidewatch-data}
window:  {samples: 100, tick: 10s}
limits:  {series: 1000000, series_per_service: 100000, memory: 2GiB}

rules:                       # built-in rules apply when this key is absent
  - alert: LatencyDeviation
    match: '{signal=~"p95|p99"}'
    detector: robust
    sigma: {warning: 4, critical: 6}
    direction: above         # above | below | both
    for: 3 of 5              # samples; or a duration
    min_samples: 30
    labels: {team: payments}
    annotations: {summary: "{{ service }} is slow", recommendation: "…"}

route:
  receiver: oncall
  group_by: [service]
  group_wait: 10s
receivers:
  - name: oncall
    webhook_configs:
      - {url: "https://example.com/x", secret: "${env:HOOK_SECRET}", send_resolved: true}
    fallback: log

modes:
  levels: [normal, degraded, critical]
  lease: 30s
  limit: 50%
  policies:
    - name: slow-checkout
      when: '{alertname="LatencyDeviation",severity="critical"}'
      service: "{{ service }}"
      level: degraded
      features: {recommendations: false, max_steps: 1}
      hold: 60s
      recover: 2m
"#;

#[test]
fn the_contracts_example_loads_without_a_word() {
    assert_eq!(said(CONTRACT), "");
    let config = good(CONTRACT);
    let policy = &config.modes.policies[0];
    assert_eq!(policy.features["max_steps"], serde_json::json!(1));
    assert_eq!(policy.features["recommendations"], serde_json::json!(false));
    assert_eq!(policy.recover, Period::secs(120));
    let webhook = &config.receivers[0].webhook_configs[0];
    assert_eq!(webhook.secret.as_ref().map(Secret::reveal), Some("hunter2"));
    let rules = config.model_rules();
    assert_eq!(rules[0].sigma.critical, Some(6.0));
    assert_eq!(rules[0].hold, model::For::Samples { n: 3, of: 5 });
}

#[test]
fn no_file_an_empty_file_and_an_empty_mapping_are_the_same() {
    for text in ["", "\n", "# nothing\n", "{}", "---\n", "otlp:\nhttp: {}\n"] {
        assert_eq!(good(text), Config::default(), "{text:?}");
    }
    assert_eq!(Config::default().rules.len(), 10);
    let rules = Config::default().model_rules();
    assert!(rules.iter().all(|rule| rule.min_samples == 30));
    // A small window suits the built-in rules too.
    assert_eq!(
        good("window: {samples: 10}").model_rules()[0].min_samples,
        10
    );
    assert!(Config::default().modes.policies.is_empty());
}

#[test]
fn the_examples_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("examples") {
        let path = entry.expect("entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            seen += 1;
            let loaded = load(&path, &known()).unwrap_or_else(|found| panic!("{found}"));
            assert_eq!(loaded.warnings.to_string(), "");
        }
    }
    assert!(seen >= 3);
}

#[test]
fn values_may_come_from_the_environment() {
    let config = good(
        "window: {samples: \"${env:SAMPLES}\", tick: \"${env:NONE:-20s}\"}\nlimits:\n  series: ${env:SAMPLES}\n",
    );
    assert_eq!(config.window.samples, Some(50));
    assert_eq!(config.window.tick, Period::secs(20));
    assert_eq!(config.limits.series, 50);
}

#[test]
fn all_labels_may_group_alone_as_in_alertmanager() {
    let config = good("route: {group_by: ['...']}");
    assert_eq!(config.route.group_by, Some(vec!["...".to_owned()]));
    let both = load_text("route: {group_by: [service, '...']}").expect_err("all, or some");
    assert!(both.to_string().contains("route.group_by[1]"), "{both}");
}

#[test]
fn sigma_is_a_number_or_two() {
    let rule = |sigma: &str| {
        good(&format!(
            "rules: [{{alert: A, match: '{{}}', sigma: {sigma}}}]"
        ))
        .rules[0]
            .thresholds()
    };
    assert_eq!(
        rule("2.5"),
        Sigma {
            warning: 2.5,
            critical: None
        }
    );
    assert_eq!(
        rule("3"),
        Sigma {
            warning: 3.0,
            critical: None
        }
    );
    assert_eq!(
        rule("{warning: 3, critical: 5}"),
        Sigma {
            warning: 3.0,
            critical: Some(5.0)
        }
    );
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    check(
        "route:\n  reciever: log\n",
        &[
            "t.yaml:2:3: error: route: unknown key `reciever`",
            "  hint: did you mean `receiver`?",
        ],
    );
    check(
        "windows: {samples: 5}",
        &[
            "t.yaml:1:1: error: unknown key `windows`",
            "  hint: did you mean `window`?",
        ],
    );
    check(
        "log: {colour: red}",
        &[
            "t.yaml:1:7: error: log: unknown key `colour`",
            "  hint: known keys: format, level",
        ],
    );
    check(
        "rules:\n  - alert: A\n    match: '{}'\n    sigma: {warnign: 4}\n",
        &[
            "t.yaml:4:13: error: rules[0].sigma: unknown key `warnign`",
            "  hint: did you mean `warning`?",
        ],
    );
}

#[test]
fn wrong_types_say_what_was_expected_and_found() {
    check(
        "window: {samples: many}",
        &[
            "t.yaml:1:19: error: window.samples: expected a whole number from 0 to 4294967295, \
           found `many`",
        ],
    );
    check(
        "window: {samples: \"100\"}",
        &[
            "t.yaml:1:19: error: window.samples: expected a whole number from 0 to 4294967295, \
             found `\"100\"`",
            "  hint: leave out the quotes",
        ],
    );
    check(
        "otlp: [1, 2]\nhttp: off\nrules: {}\n",
        &[
            "t.yaml:1:7: error: otlp: expected a mapping of settings, found a list",
            "t.yaml:2:7: error: http: expected a mapping of settings, found `off`",
            "t.yaml:3:8: error: rules: expected a list, found a mapping",
        ],
    );
    check(
        "hello",
        &["t.yaml:1:1: error: expected a mapping of settings, found `hello`"],
    );
    check(
        "- a",
        &["t.yaml:1:1: error: expected a mapping of settings, found a list"],
    );
    check(
        "receivers: [{name: [a]}]",
        &["t.yaml:1:20: error: receivers[0].name: expected a text, found a list"],
    );
    check(
        "log: {level: infos, format: {}}",
        &[
            "t.yaml:1:14: error: log.level: expected one of error, warn, info, debug, trace, \
             found `infos`",
            "  hint: did you mean `info`?",
            "t.yaml:1:29: error: log.format: expected one of text, json, found a mapping",
        ],
    );
    check(
        "rules: [{alert: A, match: '{}', sigma: high}]",
        &[
            "t.yaml:1:40: error: rules[0].sigma: expected a number or {warning: …, critical: …}, \
           found `high`",
        ],
    );
    check(
        "limits: {series: -1}",
        &["t.yaml:1:18: error: limits.series: expected a whole number, 0 or more, found `-1`"],
    );
}

#[test]
fn bad_quantities_and_addresses_are_named() {
    check(
        "window:\n  tick: 10 seconds\nlimits:\n  memory: 2G\nmodes:\n  limit: 50\notlp:\n  grpc: :4317\n",
        &[
            "t.yaml:2:9: error: window.tick: expected a duration such as 500ms, 10s, 1m30s, 2h or \
             1d, found `10 seconds`",
            "  hint: units are y, w, d, h, m, s and ms",
            "t.yaml:4:11: error: limits.memory: expected a size such as 64MiB, 2GiB or 500kB, \
             found `2G`",
            "  hint: units are B, kB, MB, GB, TB and KiB, MiB, GiB, TiB; whole numbers",
            "t.yaml:6:10: error: modes.limit: expected a share such as 50% or 0.5, found `50`",
            "  hint: add the sign: `50%`?",
            "t.yaml:8:9: error: otlp.grpc: expected an address such as 127.0.0.1:4317 or \
             [::1]:4317, or `off`, found `:4317`",
            "  hint: write 127.0.0.1:4317 for this machine only, 0.0.0.0:4317 for all interfaces",
        ],
    );
    check(
        "otlp: {grpc: 127.0.0.1:9517}",
        &[
            "t.yaml:1:1: error: http.listen: 127.0.0.1:9517 is the address of `otlp.grpc` too",
            "  hint: each needs a port of its own",
        ],
    );
    check(
        "http: {listen: off}",
        &[
            "t.yaml:1:16: error: http.listen: expected an address such as 127.0.0.1:4317 or \
             [::1]:4317, found `off`",
            "  hint: an IP address, a colon and a port",
        ],
    );
}

#[test]
fn bad_selectors_are_named_with_the_column_inside() {
    check(
        "rules:\n  - alert: A\n    match: '{service=\"x\" metric=\"y\"}'\n",
        &[
            "t.yaml:3:26: error: rules[0].match: bad selector: expected `,` or `}`, found `m` \
             (its column 14)",
            "  hint: selectors look like '{service=\"checkout\",metric=~\"http.*\"}'",
        ],
    );
    // Escapes move the columns: then the place is the text's beginning.
    check(
        "rules: [{alert: A, match: \"{a=~\\\"(\\\"}\"}]",
        &[
            "t.yaml:1:27: error: rules[0].match: bad selector: invalid regular expression `(`: \
             unclosed group (its column 5)",
            "  hint: selectors look like '{service=\"checkout\",metric=~\"http.*\"}'",
        ],
    );
}

#[test]
fn references_to_what_is_not_there_are_named() {
    check(
        "route: {receiver: oncal}\nreceivers:\n  - name: oncall\n    fallback: lgo\n    \
         webhook_configs: [{url: 'http://h/x'}]\n",
        &[
            "t.yaml:1:19: error: route.receiver: unknown receiver `oncal`",
            "  hint: did you mean `oncall`?",
            "t.yaml:4:15: error: receivers[0].fallback: unknown receiver `lgo`",
            "  hint: did you mean `log`?",
        ],
    );
    check(
        "rules: [{alert: A, match: '{}', detector: zcsore}]",
        &[
            "t.yaml:1:43: error: rules[0].detector: unknown detector `zcsore`",
            "  hint: did you mean `zscore`?",
        ],
    );
    check(
        "modes:\n  receiver: nobody\n  policies:\n    - {name: p, when: a=bc, level: degrade}\n    \
         - {name: p, when: a=bc, level: normal, service: '{{ nope }}'}\n",
        &[
            "t.yaml:2:13: error: modes.receiver: unknown receiver `nobody`",
            "  hint: known receivers: log",
            "t.yaml:4:36: error: modes.policies[0].level: unknown level `degrade`",
            "  hint: did you mean `degraded`?",
            "t.yaml:5:14: error: modes.policies[1].name: a second policy is called `p`",
            "  hint: each needs a name of its own",
            "t.yaml:5:36: error: modes.policies[1].level: `normal` is where every service is anyway",
            "  hint: known levels: degraded, critical",
            "t.yaml:5:53: error: modes.policies[1].service: bad template: unknown value `nope`",
            "  hint: templates look like \"{{ service }} is slow\"",
        ],
    );
    check(
        "receivers:\n  - {name: a, fallback: b, webhook_configs: [{url: 'http://h'}]}\n  \
         - {name: b, fallback: a, webhook_configs: [{url: 'http://h'}]}\n  - {name: log}\n",
        &[
            "t.yaml:2:25: error: receivers[0].fallback: leads back to this receiver",
            "  hint: let the last of the chain fall back to `log`",
            "t.yaml:3:25: error: receivers[1].fallback: leads back to this receiver",
            "  hint: let the last of the chain fall back to `log`",
            "t.yaml:4:5: warning: receivers[2]: tells nobody",
            "  hint: add `webhook_configs`",
            "t.yaml:4:12: error: receivers[2].name: the receiver `log` is built in",
            "  hint: choose another name",
        ],
    );
}

#[test]
fn a_mistake_brings_no_others_with_it() {
    // The receiver cannot be read, but its name is known; the second rule keeps its own place.
    check(
        "route: {receiver: oncall}\nreceivers:\n  - name: oncall\n    webhook_configs: [{url: h}]\n\
         rules:\n  - {alert: A, match: 5s=}\n  - {alert: B, match: '{}', min_change: -1}\n",
        &[
            "t.yaml:4:29: error: receivers[0].webhook_configs[0].url: expected a URL such as \
             https://example.com/hook",
            "  hint: begin it with https:// or http://",
            "t.yaml:6:26: error: rules[0].match: bad selector: expected a quoted value (its column 4)",
            "  hint: selectors look like '{service=\"checkout\",metric=~\"http.*\"}'",
            "t.yaml:7:41: error: rules[1].min_change: must not be negative, is -1",
            "  hint: 0 is off",
        ],
    );
}

#[test]
fn rules_that_cannot_work_are_named() {
    let rule =
        |settings: &str| format!("rules:\n  - alert: A\n    match: '{{}}'\n    {settings}\n");
    for (settings, column, expected) in [
        (
            "sigma: {warning: 8, critical: 6}",
            22,
            "sigma.warning: must not be above critical (6), is 8",
        ),
        ("sigma: 0", 12, "sigma: must be above 0, is 0"),
        ("for: 6 of 5", 10, "for: `6 of 5` can never be"),
        (
            "min_samples: 101",
            18,
            "min_samples: must be from 2 to 100, the size of the window; is 101",
        ),
        (
            "window: {samples: 1}",
            23,
            "window.samples: must be from 2 to 10000, is 1",
        ),
        (
            "window: {samples: 5, duration: 5m}",
            36,
            "window.duration: a window has `samples` or a `duration`, not both",
        ),
        (
            "window: {}",
            13,
            "window: has neither `samples` nor `duration`",
        ),
        (
            "window: {duration: 10s}",
            24,
            "window.duration: must be at least two ticks of 10s, is 10s",
        ),
        (
            "detector: threshold",
            15,
            "detector: `threshold` has no bound to compare with",
        ),
        (
            "upper: 5",
            12,
            "upper: only the detectors `threshold`, `slo`, `forecast` can use `upper`",
        ),
        (
            "after: 5m",
            12,
            "after: only the detector `absence` can use `after`",
        ),
        (
            "labels: {severity: page}",
            24,
            "labels.severity: the label `severity` is set by Tidewatch",
        ),
        ("labels: {a-b: c}", 19, "labels.a-b: `a-b` is no label name"),
        (
            "annotations: {x: '{{ nope }}'}",
            22,
            "annotations.x: bad template: unknown value `nope`",
        ),
        (
            "resolve: {sigma: 4}",
            22,
            "resolve.sigma: must be below sigma (4), is 4",
        ),
        (
            "resolve: {samples: 0}",
            24,
            "resolve.samples: must be from 1 to 64, is 0",
        ),
    ] {
        let found = said(&rule(settings));
        let expected = format!("t.yaml:4:{column}: error: rules[0].{expected}");
        assert_eq!(found.lines().next(), Some(expected.as_str()), "{settings}");
        assert_eq!(found.lines().count(), 2, "one mistake, one hint: {found}");
    }
}

#[test]
fn settings_that_a_detector_does_not_know_or_cannot_use_are_named() {
    for (settings, expected) in [
        (
            "detector: slo, target: 300ms, sigma: 3",
            "sigma: only the detectors `adaptive`, `robust`, `zscore`, `threshold`, `forecast` can use \
             `sigma`",
        ),
        (
            "detector: absence, direction: below",
            "direction: only the detectors `adaptive`, `robust`, `zscore`, `threshold` can use `direction`",
        ),
        (
            "detector: absence, after: 1s",
            "after: must be from 10s to 1h, is 1s",
        ),
        (
            "detector: slo",
            "detector: `slo` has no target to compare with",
        ),
        (
            "detector: slo, target: 300ms, objective: 100%",
            "objective: must be between 0% and 100%, is 100%",
        ),
        (
            "detector: slo, target: 300ms, upper: 5",
            "target: a target stands beside `lower` or `upper`",
        ),
        (
            "detector: threshold, lower: 5, upper: 300ms",
            "lower: `5` and `300ms` are not of one kind",
        ),
        (
            "detector: threshold, lower: 400ms, upper: 300ms",
            "lower: must not be above upper (300ms), is 400ms",
        ),
        (
            "detector: threshold, lower: 5 apples",
            "lower: expected a number, or a quantity such as 300ms, 2GiB or 90%, found `5 apples`",
        ),
        (
            "detector: slo, objectives: [{match: '{a=\"b\"}'}]",
            "objectives[0]: has no target to compare with",
        ),
        (
            "detector: slo, target: 1s, burn: [{long: 1h, rate: 0}]",
            "burn[0].rate: must be more than 0 and at most 1000000, is 0",
        ),
        (
            "detector: slo, target: 1s, burn: [{long: 1h, short: 2h, rate: 2}]",
            "burn[0].short: must be from 15s to 1h, is 2h",
        ),
        (
            "detector: forecast, horizon: 5s",
            "horizon: must be from 1m to 365d, is 5s",
        ),
    ] {
        let found = said(&format!("rules: [{{alert: A, match: '{{}}', {settings}}}]"));
        let message = format!("error: rules[0].{expected}");
        let first = found.lines().next().unwrap_or_default();
        assert!(first.ends_with(&message), "{settings}: {found}");
        assert_eq!(found.lines().count(), 2, "one mistake, one hint: {found}");
    }
}

/// HTTP in and out, RPC, database and queue, each with its own target.
#[test]
fn a_table_of_targets_is_a_few_lines() {
    let config = good(
        r#"rules:
  - alert: TooSlow
    match: '{signal="p95"}'
    detector: slo
    objectives:
      - {match: '{metric="http.server.request.duration"}', target: 300ms}
      - {match: '{metric="http.client.request.duration"}', target: 500ms, objective: 95%}
      - {match: '{metric=~"rpc.*"}', target: 100ms}
      - {match: '{}', target: 2s}
"#,
    );
    let rules = config.model_rules();
    assert_eq!(rules.len(), 4);
    let line = |metric: &str, signal: &str| {
        let labels = model::Labels::from_iter([("metric", metric), ("signal", signal)]);
        let found: Vec<_> = rules
            .iter()
            .filter(|r| r.selector.matches(&labels))
            .collect();
        assert!(found.len() <= 1, "the first line that fits counts");
        found.first().map(|rule| match &rule.detector.own {
            model::OwnSettings::Slo(slo) => (slo.target, slo.objective, slo.words.to_string()),
            other => panic!("{other:?}"),
        })
    };
    let is =
        |target: f64, objective, words: &str| Some((Some(target), objective, words.to_owned()));
    assert_eq!(
        line("http.server.request.duration", "p95"),
        is(0.3, None, "300ms")
    );
    assert_eq!(
        line("http.client.request.duration", "p95"),
        is(0.5, Some(0.95), "500ms")
    );
    assert_eq!(line("rpc.server.duration", "p95"), is(0.1, None, "100ms"));
    assert_eq!(line("span.duration", "p95"), is(2.0, None, "2s"));
    assert_eq!(line("rpc.server.duration", "p99"), None);
    assert!(
        rules
            .iter()
            .all(|rule| rule.hold == model::For::Samples { n: 1, of: 1 })
    );
    assert!(
        rules
            .iter()
            .all(|rule| rule.detector.dimension == Some(model::Dimension::Time))
    );
}

#[test]
fn duplicates_and_missing_keys_are_named() {
    check(
        "log: {level: info}\nlog: {level: warn}\nreceivers: [{webhook_configs: []}]\n",
        &[
            "t.yaml:2:1: error: key `log` stands here a second time",
            "  hint: the first one is in line 1; keep one of them",
            "t.yaml:3:13: error: receivers[0]: the key `name` is missing",
        ],
    );
    check(
        "receivers: [{name: }]",
        &["t.yaml:1:13: error: receivers[0]: the key `name` is missing"],
    );
}

#[test]
fn variables_that_are_not_set_are_named_at_their_place() {
    check(
        "storage: {path: \"/var/${env:WHERE}/x\"}\nlog: {level: \"${file:x}\"}\n",
        &[
            "t.yaml:1:23: error: storage.path: the environment variable `WHERE` is not set",
            "  hint: set it, or give a default: `${env:WHERE:-default}`",
            "t.yaml:2:15: error: log.level: `${file:x}` is not understood",
            "  hint: write `${env:NAME}` or `${env:NAME:-default}`, or `$$` for a plain `$`",
        ],
    );
}

#[test]
fn secrets_in_clear_are_warned_of_and_never_shown() {
    check(
        "otlp: {auth: {bearer: hunter2}}\nreceivers:\n  - name: a\n    webhook_configs:\n      \
         - url: https://h/hunter2\n        secret: hunter2\n        headers: {X-Api-Key: hunter2, \
         X-Scope: hunter2}\n",
        &[
            "t.yaml:1:23: warning: otlp.auth.bearer: a secret stands in clear in the file",
            "  hint: write \"${env:NAME}\" and set the variable where the daemon runs",
            "t.yaml:6:17: warning: receivers[0].webhook_configs[0].secret: a secret stands in clear \
             in the file",
            "  hint: write \"${env:NAME}\" and set the variable where the daemon runs",
            "t.yaml:7:30: warning: receivers[0].webhook_configs[0].headers.X-Api-Key: a secret \
             stands in clear in the file",
            "  hint: write \"${env:NAME}\" and set the variable where the daemon runs",
        ],
    );
    check(
        "receivers: [{name: a, webhook_configs: [{url: 'https://h', secret: '${env:WHSEC}'}]}]",
        &[
            "t.yaml:1:68: error: receivers[0].webhook_configs[0].secret: is not base64 after `whsec_`",
            "  hint: copy it whole, or use any text that does not begin with `whsec_`",
        ],
    );
    // A variable in the wrong place does not show either.
    let text = "otlp: {grpc: \"${env:ADDRESS}\"}\nroute: {receiver: \"${env:HOOK_SECRET}\"}\n\
                rules: [{alert: A, match: '{}', detector: \"${env:HOOK_SECRET}\"}]\n\
                window: {samples: \"${env:HOOK_SECRET}\"}\nlog: {level: \"${env:HOOK_SECRET}\"}\n\
                receivers: [{name: x, webhook_configs: [{url: \"hunter2:x\"}]}]\n";
    assert_eq!(load_text(text).expect_err("mistakes").errors(), 6);
    assert!(
        said(text).contains("found `\"${env:ADDRESS}\"`"),
        "{}",
        said(text)
    );
}

#[test]
fn the_configuration_in_force_hides_secrets() {
    let config = good(
        "otlp: {auth: {bearer: hunter2, basic: {username: u, password: hunter2}}}\nreceivers:\n  \
         - name: a\n    webhook_configs:\n      - {url: 'https://h/hunter2', secret: hunter2, \
         headers: {X: hunter2}}\n",
    );
    for shown in [
        config.to_yaml(),
        format!("{config:?}"),
        serde_json::to_string(&config).expect("json"),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("<secret>"), "{shown}");
    }
    assert!(
        config.to_yaml().contains("samples: 100"),
        "defaults are written out"
    );
    assert!(
        config.to_yaml().contains("warning: 4"),
        "the thresholds of a detector are too: {}",
        config.to_yaml()
    );
}

#[test]
fn broken_yaml_is_named_with_its_place() {
    for (text, place) in [
        ("a: [1, 2\nb: 3\n", "t.yaml:2:"),
        ("window:\n\tsamples: 5\n", "t.yaml:2:"),
        ("a: \"b\n", "t.yaml:"),
        ("a: *nothing\n", "t.yaml:1:4"),
        ("a: 1\n---\nb: 2\n", "t.yaml:"),
    ] {
        let found = said(text);
        assert!(found.starts_with(place), "{text}: {found}");
        assert!(found.contains(": error: "), "{found}");
    }
}

#[test]
fn rules_without_any_are_warned_of() {
    check(
        "rules:\n",
        &[
            "t.yaml:1:6: warning: rules: stands there without rules, so the built-in ones apply",
            "  hint: write `rules: []` for none, or leave the key out",
        ],
    );
    assert!(good("rules: []").rules.is_empty());
}

#[test]
fn many_mistakes_are_bounded() {
    let text: String = (0..10_000).map(|n| format!("key{n}: 1\n")).collect();
    assert_eq!(
        load_text(&text).expect_err("mistakes").errors(),
        decode::MAX_MISTAKES
    );
}

#[test]
fn files_that_cannot_be_configurations_are_refused_before_they_are_read() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("large.yaml");
    let file = std::fs::File::create(&path).expect("file");
    file.set_len(100 << 20).expect("100 MiB, sparse");
    let found = load(&path, &known()).expect_err("too large").to_string();
    assert!(found.contains("at most 4194304 are read"), "{found}");
    std::fs::write(&path, b"a: 1\nb: \xff\n").expect("written");
    let found = load(&path, &known()).expect_err("no text").to_string();
    assert!(
        found.contains("is not UTF-8 text; the first bad byte is in line 2"),
        "{found}"
    );
    let found = load(Path::new("/nowhere.yaml"), &known())
        .expect_err("absent")
        .to_string();
    assert!(
        found.starts_with("/nowhere.yaml: error: cannot be read: "),
        "{found}"
    );
    let found = load(Path::new("/dev/zero"), &known())
        .expect_err("endless")
        .to_string();
    assert!(found.contains("or more"), "{found}");
}

mod schema {
    use super::*;
    use serde_json::Value;

    /// What `schema` says of objects and their keys holds for `value`: the part of JSON Schema that shows
    /// whether the schema and the reader know the same keys.
    fn covers(root: &Value, schema: &Value, value: &Value, path: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = root
                .pointer(reference.trim_start_matches('#'))
                .expect(reference);
            return covers(root, target, value, path);
        }
        if let Some(options) = schema["anyOf"].as_array() {
            let fitting = options.iter().find(|option| {
                let of_object = option.get("$ref").is_some() || option["type"] == "object";
                of_object == value.is_object()
            });
            return covers(root, fitting.expect(path), value, path);
        }
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let path = format!("{path}.{key}");
                    let property = &schema["properties"][key];
                    let other = &schema["additionalProperties"];
                    let known = if property.is_null() { other } else { property };
                    assert!(
                        !known.is_null() && *known != Value::Bool(false),
                        "{path}: {schema}"
                    );
                    covers(root, known, value, &path);
                }
                for key in schema["required"].as_array().into_iter().flatten() {
                    assert!(
                        map.contains_key(key.as_str().expect("a key")),
                        "{path}: {key}"
                    );
                }
            }
            Value::Array(list) => {
                for (at, value) in list.iter().enumerate() {
                    covers(root, &schema["items"], value, &format!("{path}[{at}]"));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[track_caller]
    pub(super) fn check_config(config: &Config) {
        let schema = super::super::schema();
        covers(
            &schema,
            &schema,
            &serde_json::to_value(config).expect("json"),
            "config",
        );
    }

    #[test]
    fn examples_and_defaults_fit_the_schema() {
        check_config(&Config::default());
        check_config(&good(CONTRACT));
    }

    #[test]
    fn every_setting_says_what_it_controls_and_its_default() {
        let schema = super::super::schema();
        let definitions = schema["$defs"].as_object().expect("definitions");
        for (name, part) in definitions.iter().chain([(&"config".to_owned(), &schema)]) {
            let Some(properties) = part["properties"].as_object() else {
                continue;
            };
            assert_eq!(part["additionalProperties"], false, "{name}");
            for (key, property) in properties {
                let text = property["description"].as_str().unwrap_or_default();
                assert!(text.len() > 15, "{name}.{key} has no description");
                let required = part["required"]
                    .as_array()
                    .is_some_and(|r| r.contains(&key.as_str().into()));
                let unset = text.contains("nset: ") || property["default"].is_null();
                assert!(
                    required || unset || property.get("default").is_some(),
                    "{name}.{key}"
                );
            }
        }
        assert_eq!(schema["properties"]["window"]["default"]["samples"], 100);
        assert_eq!(
            definitions["Otlp"]["properties"]["max_request_size"]["default"],
            "64MiB"
        );
        assert_eq!(definitions["Policy"]["properties"]["hold"]["default"], "1m");
    }
}

mod modes;
mod routing;

mod laws {
    use super::*;
    use proptest::prelude::*;

    /// Texts that come near to a configuration.
    fn nearly() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "rules:",
            "  - alert: A",
            "    match: '{}'",
            "    sigma: {warning: 4, critical: 6}",
            "otlp: {grpc: off}",
            "window:",
            "  samples: 5",
            "  tick: 10s",
            "route: &r",
            "  receiver: log",
            "x: *r",
            "<<: *r",
            "receivers:",
            "  - name: ${env:HOOK_SECRET}",
            "\t",
            "- [",
            "]",
            "{",
            "}",
            "? a",
            ": b",
            "!!str 5",
            "|",
            ">-",
            "\"${env:A:-${env:B",
            "'",
            "---",
            "...",
            "%YAML 1.2",
            "modes: {levels: [a, b], policies: [{name: p, when: '{a=~\"(\"}', level: c}]}",
            "ä: \u{feff}",
            "limits: {series: 0x10, memory: 1e999}",
            "log: ~",
            "0: 1",
            "[a]: b",
            "\u{0}",
            "\r",
        ]);
        prop::collection::vec(pieces, 0..12).prop_map(|lines| lines.join("\n"))
    }

    fn period(from: u64, to: u64) -> impl Strategy<Value = Period> {
        (from..=to).prop_map(|millis| Period(std::time::Duration::from_millis(millis)))
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let names = prop::sample::select(vec!["A", "B b", "ö", "true", "5", "${x", "a: b", "# c"]);
        let hold = prop_oneof![
            (1u32..=64)
                .prop_flat_map(|of| (1..=of, Just(of)))
                .prop_map(|(n, of)| Hold(model::For::Samples { n, of })),
            (1u64..1_000_000).prop_map(|s| Hold(model::For::Duration(Period::secs(s).0))),
        ];
        let sigma = (1.1f64..10.0, prop::option::of(10.0f64..20.0))
            .prop_map(|(warning, critical)| Sigma { warning, critical });
        let direction =
            prop::sample::select(vec![Direction::Above, Direction::Below, Direction::Both]);
        (
            names,
            hold,
            sigma,
            direction,
            0.0f64..1e9,
            prop::option::of(2u32..=10_000),
        )
            .prop_map(|(name, hold, sigma, direction, min_change, samples)| Rule {
                alert: name.replace('$', "$$"),
                hold: Some(hold),
                sigma: Some(sigma),
                direction,
                min_change,
                min_samples: None,
                window: samples.map(|samples| RuleWindow {
                    samples: Some(samples),
                    duration: None,
                }),
                labels: [("team".to_owned(), name.replace('$', "$$"))].into(),
                ..builtin_rules().remove(0)
            })
    }

    fn config() -> impl Strategy<Value = Config> {
        let numbers = (
            0u32..=u32::MAX,
            1u64..=u64::MAX,
            1024u64..=u64::MAX,
            0.0f64..=1.0,
        );
        let periods = (
            period(1_000, 3_600_000),
            period(1_000, 3_600_000),
            period(0, 604_800_000),
        );
        let rules = prop::collection::vec(rule(), 0..4);
        let features = prop::collection::btree_map(
            "[a-z]{1,8}",
            prop_oneof![
                any::<bool>().prop_map(serde_json::Value::from),
                any::<i64>().prop_map(serde_json::Value::from),
                "[ -~&&[^$]]{0,12}".prop_map(serde_json::Value::from),
            ],
            0..4,
        );
        (numbers, periods, rules, features).prop_map(|(numbers, periods, rules, features)| {
            let mut config = Config::default();
            config.http.metrics_signals = numbers.0;
            config.limits.series = numbers.1;
            config.otlp.max_request_size = ByteSize(numbers.2);
            config.modes.limit = Share(numbers.3);
            config.window.tick = periods.0;
            config.window.idle_after = Period::secs(36_000);
            config.storage.snapshot_interval = periods.1;
            config.route.group_wait = Some(periods.2);
            config.rules = rules;
            config.modes.policies = vec![Policy {
                name: "p".into(),
                when: r#"{alertname=~"A|B",severity="critical"}"#
                    .parse()
                    .expect("selector"),
                service: Some("{{ service }}".into()),
                group: None,
                callers_of: None,
                steps: Vec::new(),
                level: Some("degraded".into()),
                step: Step::Direct,
                features: features.clone(),
                priority_floor: Some(PriorityFloor::High),
                quality: Some("reduced".into()),
                shed: Some(Share(numbers.3)),
                hold: periods.2.min(Period::secs(60)),
                recover: Period::secs(0),
                dry_run: numbers.0.is_multiple_of(2),
                effect: Effect {
                    within: Period::secs(24 * 3600),
                    improved: Share(numbers.3.max(0.01)),
                    ..Effect::default()
                },
                acknowledge_within: None,
            }];
            config.modes.levels[1].parts.features = features;
            config.modes.levels[2].parts.shed = Some(Share(numbers.3));
            let limit = match numbers.0.is_multiple_of(3) {
                true => Allowance::Count(numbers.0),
                false => Allowance::Share(Share(numbers.3)),
            };
            let group = Group {
                services: vec![RegexText("web-.*".into())],
                limit: Some(limit),
            };
            config.modes.groups = [("edge".to_owned(), group)].into();
            config
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn any_text_gets_an_answer(text in any::<String>()) {
            if let Err(found) = load_text(&text) {
                prop_assert!(found.errors() > 0);
            }
        }

        #[test]
        fn any_text_near_a_configuration_gets_an_answer(text in nearly()) {
            if let Err(found) = load_text(&text) {
                prop_assert!(found.errors() > 0, "{text}");
            }
            // Nothing said shows what a variable holds.
            said(&text);
        }

        #[test]
        fn what_is_shown_reads_back_and_fits_the_schema(config in config()) {
            let yaml = config.to_yaml();
            // Texts with a `$` were doubled for the reader, which halves them.
            let again = load_text(&yaml.replace("$$", "$$$$")).map_err(|found| {
                TestCaseError::fail(format!("{found}\n{yaml}"))
            })?;
            prop_assert_eq!(&again.config, &config, "{}", yaml);
            schema::check_config(&config);
        }
    }
}

#[test]
fn delivery_has_bounds() {
    check(
        "delivery: {retry: {initial: 10s, max: 5s, keep: 0}, breaker: {failures: 0}, outbox: {size: 1kB}}",
        &[
            "t.yaml:1:39: error: delivery.retry.max: must be at least `initial` (10s), is 5s",
            "  hint: raise it, or lower `initial`",
            "t.yaml:1:73: error: delivery.breaker.failures: must be from 1 to 1000, is 0",
            "  hint: leave the key out for the default",
            "t.yaml:1:92: error: delivery.outbox.size: must be at least 1MiB, is 1000B",
            "  hint: the default is 32MiB",
        ],
    );
}
