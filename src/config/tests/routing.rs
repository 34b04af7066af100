//! Routes, inhibit rules and time intervals.

use super::{check, good, load_text, said};
use crate::config::{Config, Period, Route};

/// As people have it in Alertmanager, with everything that its version 0.25 knows.
const PASTED: &str = r#"
rules: []
route:
  receiver: everybody
  group_by: [alertname, cluster]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 3h
  routes:
    - match_re: {service: foo1|foo2|baz}
      receiver: team-x
      group_by: ['...']
      continue: true
      routes:
        - match: {severity: critical, code: 500}
          receiver: pager
    - matchers:
        - service = files
        - severity =~ "warning|critical"
        - '{team!="y", zone!~a.*}'
      mute_time_intervals: [holidays]
      active_time_intervals: [office, weekend]
      repeat_interval: 9999h
      group_by: []
inhibit_rules:
  - source_matchers: [severity = critical]
    target_matchers: [severity =~ warning|info]
    equal: [alertname, cluster]
  - source_match: {alertname: Down}
    source_match_re: {zone: a|b}
    target_match: {kind: 'remote'}
    target_match_re: {service: .+}
time_intervals:
  - name: office
    time_intervals:
      - times:
          - start_time: 09:00
            end_time: 17:00
        weekdays: ['monday:friday']
        location: Europe/Berlin
  - name: holidays
    time_intervals:
      - months: ['december:december', 1]
        days_of_month: ['1:6', '-7:-1', 24]
        years: ['2026:2030', 2032]
mute_time_intervals:
  - name: weekend
    time_intervals:
      - weekdays: [saturday, Sunday]
receivers:
  - name: everybody
    webhook_configs: [{url: 'http://127.0.0.1:1/'}]
  - name: team-x
    webhook_configs: [{url: 'http://127.0.0.1:1/'}]
  - name: pager
    webhook_configs: [{url: 'http://127.0.0.1:1/'}]
"#;

#[test]
fn alertmanagers_blocks_are_taken_as_they_are() {
    assert_eq!(said(PASTED), "");
    let config = good(PASTED);
    let [first, second] = &config.route.routes[..] else {
        panic!("two routes");
    };
    assert_eq!(first.routes[0].equal["code"], "500");
    assert!(first.goes_on && !second.goes_on);
    let matchers: Vec<_> = second
        .matchers
        .iter()
        .flat_map(|text| text.matchers.iter().map(ToString::to_string))
        .collect();
    assert_eq!(
        matchers,
        [
            r#"service="files""#,
            r#"severity=~"warning|critical""#,
            r#"team!="y""#,
            r#"zone!~"a.*""#,
        ]
    );
    assert_eq!(second.repeat_interval, Some(Period::secs(9999 * 3600)));
    assert_eq!(config.inhibit_rules[0].equal, ["alertname", "cluster"]);
    // What is shown reads back.
    let shown = config.to_yaml();
    let again = load_text(&shown).expect(&shown).config;
    assert_eq!(again.route, config.route);
    assert_eq!(again.time_intervals, config.time_intervals);
    assert_eq!(again.mute_time_intervals, config.mute_time_intervals);
    assert_eq!(again.inhibit_rules, config.inhibit_rules);
}

#[test]
fn a_route_that_is_there_has_alertmanagers_defaults() {
    let said_nothing = Route::default();
    assert_eq!(good("route: {}").route, said_nothing);
    let shown = good("route: {receiver: log}").to_yaml();
    for line in [
        "group_wait: 30s",
        "group_interval: 5m",
        "repeat_interval: 4h",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    for text in ["", "route:\n"] {
        let route = good(text).route;
        assert_eq!(route, Config::default().route, "{text:?}");
        assert_eq!(route.group_by, Some(vec!["service".to_owned()]));
    }
}

#[test]
fn what_alertmanager_refuses_is_refused() {
    check(
        "route:\n  matchers: [a=b]\n  mute_time_intervals: [x]\n  continue: true\n",
        &[
            "t.yaml:2:13: error: route.matchers: the first route takes every alert and has no conditions",
            "  hint: put them on a route in `route.routes`",
            "t.yaml:3:24: error: route.mute_time_intervals: the first route is never mute",
            "  hint: put it on a route in `route.routes`; one without matchers takes all alerts",
            "t.yaml:3:25: error: route.mute_time_intervals[0]: unknown time interval `x`",
            "  hint: there are no time intervals",
            "t.yaml:4:13: error: route.continue: there is nothing after the first route",
            "  hint: leave the key out",
        ],
    );
    check(
        "route:\n  group_by: [a, a, '...', b-c]\n  routes:\n    - receiver: pagr\n      \
         match: {a-b: c}\n      group_interval: 0s\n      active_time_intervals: [offce]\n\
         time_intervals:\n  - name: office\n    time_intervals: [{}]\n  - name: office\n    \
         time_intervals: [{times: [{start_time: '17:00', end_time: '09:00'}]}]\n\
         receivers:\n  - {name: pager, webhook_configs: [{url: 'http://h'}]}\n",
        &[
            "t.yaml:2:17: error: route.group_by[1]: `a` stands there twice",
            "  hint: once is enough",
            "t.yaml:2:20: error: route.group_by[2]: `...` means all labels and stands alone",
            "  hint: write `group_by: ['...']`, or name the labels",
            "t.yaml:2:27: error: route.group_by[3]: `b-c` is no label name",
            "  hint: letters, digits and _, no digit first and not __",
            "t.yaml:4:17: error: route.routes[0].receiver: unknown receiver `pagr`",
            "  hint: did you mean `pager`?",
            "t.yaml:5:20: error: route.routes[0].match.a-b: `a-b` is no label name",
            "  hint: letters, digits and _, no digit first and not __",
            "t.yaml:6:23: error: route.routes[0].group_interval: must be from 1s to 365d, is 0",
            "  hint: choose a value in that range",
            "t.yaml:7:31: error: route.routes[0].active_time_intervals[0]: unknown time interval `offce`",
            "  hint: did you mean `office`?",
            "t.yaml:11:11: error: time_intervals[1].name: a second time interval is called `office`",
            "  hint: each needs a name of its own, in `time_intervals` and `mute_time_intervals` together",
            "t.yaml:12:44: error: time_intervals[1].time_intervals[0].times[0].start_time: must be before end_time (09:00)",
            "  hint: for a night write two ranges: one until 24:00, one from 00:00",
        ],
    );
}

#[test]
fn bad_conditions_and_times_are_shown_where_they_are() {
    check(
        "route:\n  routes:\n    - matchers: ['a ~ b']\n    - match_re: {a: '('}\n\
         inhibit_rules:\n  - source_matchers: [a=b]\n    target_matchers: ['a=~(']\n\
         time_intervals:\n  - name: n\n    time_intervals:\n      - weekdays: [mondey]\n        \
         days_of_month: ['5:1']\n        location: Europe/Berln\n        \
         times: [{start_time: 9:00, end_time: '25:00'}]\n",
        &[
            "t.yaml:3:21: error: route.routes[0].matchers[0]: bad matcher: expected one of `=`, `!=`, `=~`, `!~` (its column 3)",
            "  hint: matchers look like 'severity = critical' or 'team =~ \"a|b\"'",
            "t.yaml:4:21: error: route.routes[1].match_re.a: invalid regular expression `(`: unclosed group",
            "t.yaml:7:27: error: inhibit_rules[0].target_matchers[0]: bad matcher: invalid regular expression `(`: unclosed group (its column 4)",
            "  hint: matchers look like 'severity = critical' or 'team =~ \"a|b\"'",
            "t.yaml:11:20: error: time_intervals[0].time_intervals[0].weekdays[0]: expected a day of the week such as saturday or monday:friday, found `mondey`",
            "  hint: did you mean `monday`?",
            "t.yaml:12:25: error: time_intervals[0].time_intervals[0].days_of_month[0]: the first day is always after the last",
            "  hint: write two ranges",
            "t.yaml:13:19: error: time_intervals[0].time_intervals[0].location: unknown time zone `Europe/Berln`",
            "  hint: did you mean `Europe/Berlin`?",
            "t.yaml:14:30: error: time_intervals[0].time_intervals[0].times[0].start_time: expected a time of the day as HH:MM, from 00:00 to 24:00, found `9:00`",
            "t.yaml:14:46: error: time_intervals[0].time_intervals[0].times[0].end_time: expected a time of the day as HH:MM, from 00:00 to 24:00, found `'25:00'`",
        ],
    );
}

#[test]
fn what_was_hardly_meant_is_said() {
    check(
        "route:\n  routes:\n    - {receiver: log}\n    - {matchers: [a='b'], repeat_interval: 1m}\n\
         inhibit_rules:\n  - target_matchers: [a=b]\ntime_intervals: [{name: n}]\n",
        &[
            "t.yaml:3:7: warning: route.routes[0]: has no conditions and takes every alert, so the routes after it get none",
            "  hint: give it `matchers`, set `continue: true`, or put it last",
            "t.yaml:4:19: warning: route.routes[1].matchers[0]: the single quotes are part of the value of `a`",
            "  hint: use double quotes, or none",
            "t.yaml:4:44: warning: route.routes[1].repeat_interval: repeat_interval (1m) is shorter than group_interval (5m), which holds it back",
            "  hint: make repeat_interval a multiple of group_interval",
            "t.yaml:6:5: warning: inhibit_rules[0]: has no conditions on the source, so every alert is one",
            "  hint: add `source_matchers`",
            "t.yaml:7:18: warning: time_intervals[0]: is never",
            "  hint: add `time_intervals`",
        ],
    );
}

#[test]
fn the_page_about_routing_shows_what_works() {
    let page = include_str!("../../../docs/routing.md");
    let blocks: Vec<_> = page.split("```yaml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let text = block.split("```").next().unwrap_or_default();
        assert_eq!(said(text), "", "{text}");
    }
}
