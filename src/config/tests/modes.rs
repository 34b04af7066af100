use super::*;

#[test]
fn levels_are_names_or_say_what_they_mean() {
    let config = good(
        "modes:\n  levels:\n    - normal\n    - {name: degraded, features: {a: 1}, priority_floor: high, quality: low, shed: 10%}\n",
    );
    let [normal, degraded] = &config.modes.levels[..] else {
        panic!("{:?}", config.modes.levels)
    };
    assert!(normal.parts.is_empty());
    let told = degraded.parts.instruction();
    assert_eq!(told.priority_floor, model::Priority::High);
    assert_eq!(told.quality.as_deref(), Some("low"));
    assert_eq!(told.shed, 0.1);
    assert_eq!(told.features["a"], serde_json::json!(1));
    assert_eq!(config.modes.levels().names(), ["normal", "degraded"]);
    // A name that looks like a number is a name.
    assert_eq!(
        good("modes: {levels: [0, 1]}").modes.levels().names(),
        ["0", "1"]
    );
}

#[test]
fn mistakes_in_levels_are_told() {
    check(
        "modes:\n  levels:\n    - {name: normal, shed: 5%}\n    - {nmae: degraded}\n    - {name: bad, shed: 120%, priority_floor: hi}\n",
        &[
            "t.yaml:3:7: warning: modes.levels[0]: `normal` is where every service is most of the time, and asks for less than everything",
            "  hint: the first level is the normal one; leave it a plain name",
            "t.yaml:4:8: error: modes.levels[1]: unknown key `nmae`",
            "  hint: did you mean `name`?",
            "t.yaml:5:25: error: modes.levels[2].shed: expected a share such as 50% or 0.5, found `120%`",
            "  hint: from 0% to 100%",
            "t.yaml:5:47: error: modes.levels[2].priority_floor: expected one of low, normal, high, critical, found `hi`",
            "  hint: known values: low, normal, high, critical",
        ],
    );
    check(
        "modes:\n  levels: [normal, {name: normal}, '']\n",
        &[
            "t.yaml:2:27: error: modes.levels[1].name: a second level is called `normal`",
            "  hint: each needs a name of its own",
            "t.yaml:2:36: error: modes.levels[2]: must not be empty",
            "  hint: give it a name",
        ],
    );
    check(
        "modes: {levels: [only]}",
        &[
            "t.yaml:1:17: error: modes.levels: must be 2 to 16 different names, from normal to worst",
            "  hint: the default is [normal, degraded, critical]",
        ],
    );
}

#[test]
fn mistakes_in_groups_are_told() {
    check(
        "modes:\n  groups:\n    none: {services: []}\n    idle: {services: [a]}\n    wild: {services: ['*', '(', '{{ service }}'], limit: 150%}\n    \
         still: {services: [b], limit: 0}\n  policies:\n    - {name: p, when: a=bc, group: egde, level: degraded}\n    - {name: q, when: a=bc, group: none, level: degraded}\n",
        &[
            "t.yaml:3:22: error: modes.groups.none.services: names no service, so that the group has none",
            "  hint: list regular expressions such as [gateway, \"web-.*\"]",
            "t.yaml:4:11: warning: modes.groups.idle: is of no use: no policy names it, and it has no limit",
            "  hint: give it a `limit`, or write `group: idle` in a policy",
            "t.yaml:5:23: error: modes.groups.wild.services[0]: invalid regular expression `*`: repetition operator missing expression",
            "  hint: `.*` stands for anything",
            "t.yaml:5:28: error: modes.groups.wild.services[1]: invalid regular expression `(`: unclosed group",
            "t.yaml:5:33: error: modes.groups.wild.services[2]: invalid regular expression `{{ service }}`: repetition operator missing expression",
            "  hint: it is a regular expression, and no template",
            "t.yaml:5:58: error: modes.groups.wild.limit: expected a number of services or a share such as 50%, found `150%`",
            "  hint: from 0% to 100%",
            "t.yaml:6:35: warning: modes.groups.still.limit: no policy changes any service of `still`: all of it is only proposed",
            "  hint: the least that lets policies work is 1",
        ],
    );
}

#[test]
fn a_policy_is_for_one_kind_of_target() {
    check(
        "modes:\n  groups: {edge: {services: [gateway], limit: 1}}\n  policies:\n    \
         - {name: both, when: a=bc, service: a, group: edge, level: degraded}\n    \
         - {name: far, when: a=bc, group: egde, level: degraded}\n    \
         - {name: none, when: a=bc}\n    \
         - {name: late, when: a=bc, level: degraded, acknowledge_within: 5s}\n    \
         - {name: top, when: a=bc, level: critical, effect: {otherwise: escalate}}\n",
        &[
            "t.yaml:4:51: error: modes.policies[0].group: `service` and `group` both say which services change",
            "  hint: keep one of the two; what differs is a policy of its own",
            "t.yaml:5:38: error: modes.policies[1].group: unknown group `egde`",
            "  hint: did you mean `edge`?",
            "t.yaml:6:7: error: modes.policies[2]: the key `level` is missing",
            "  hint: say into which level, or give the policy `steps`",
            "t.yaml:7:69: warning: modes.policies[3].acknowledge_within: counts only where there are `steps`",
            "  hint: leave the key out; `modes.acknowledge.within` is when a service that does not follow is reported",
            "t.yaml:8:68: warning: modes.policies[4].effect.otherwise: there is no level beyond `critical` to escalate to, so a step without effect stays",
            "  hint: `undo` takes it back, `stay` says what happens",
        ],
    );
}

#[test]
fn mistakes_in_plans_are_told() {
    check(
        "modes:\n  policies:\n    - name: p\n      when: a=bc\n      level: degraded\n      shed: 10%\n      acknowledge_within: 2h\n      steps:\n        \
         - {service: gateway, level: degraded}\n        - {level: degraded}\n        - {service: gateway, level: normal}\n        - {service: b, group: c, level: worse}\n",
        &[
            "t.yaml:5:14: error: modes.policies[0].level: a policy with `steps` has no `level` of its own",
            "  hint: write it in the steps that it is for",
            "t.yaml:6:13: error: modes.policies[0].shed: a policy with `steps` has no `shed` of its own",
            "  hint: write it in the steps that it is for",
            "t.yaml:7:27: error: modes.policies[0].acknowledge_within: must be from 1s to 1h, is 2h",
            "  hint: choose a value in that range",
            "t.yaml:10:11: error: modes.policies[0].steps[1]: does not say which service changes",
            "  hint: add `service`, `group` or `callers_of`",
            "t.yaml:11:11: error: modes.policies[0].steps[2]: an earlier step changes the same",
            "  hint: a plan changes each service once: write the level it is to reach there",
            "t.yaml:11:37: error: modes.policies[0].steps[2].level: `normal` is where every service is anyway",
            "  hint: known levels: degraded, critical",
            "t.yaml:12:31: error: modes.policies[0].steps[3].group: `service` and `group` both say which services change",
            "  hint: keep one of the two; what differs is a policy of its own",
            "t.yaml:12:41: error: modes.policies[0].steps[3].level: unknown level `worse`",
            "  hint: known levels: normal, degraded, critical",
        ],
    );
}

#[test]
fn effects_must_be_measurable() {
    check(
        "window: {tick: 30s}\nmodes:\n  policies:\n    - {name: p, when: a=bc, level: degraded, effect: {within: 1m, improved: 0%, worse: 300%, otherwise: retry}}\n",
        &[
            "t.yaml:4:63: error: modes.policies[0].effect.within: must be at least three ticks (1m30s), is 1m",
            "  hint: an effect is judged by three readings; give it time",
            "t.yaml:4:77: error: modes.policies[0].effect.improved: must be from 1% to 100%, is 0%",
            "  hint: any noise would do; the defaults are 30% for `improved` and 50% for `worse`",
            "t.yaml:4:88: error: modes.policies[0].effect.worse: expected a share such as 50% or 0.5, found `300%`",
            "  hint: from 0% to 100%",
            "t.yaml:4:105: error: modes.policies[0].effect.otherwise: expected one of undo, escalate, stay, found `retry`",
            "  hint: known values: undo, escalate, stay",
        ],
    );
}

#[test]
fn bounds_of_modes_are_told() {
    check(
        "modes:\n  limit: 0%\n  silence: 10s\n  settle: 2h\n  acknowledge: {within: 1s}\n  audit: {keep: 1m, entries: 5}\n  \
         policies: [{name: p, when: a=bc, level: degraded}]\n  webhooks:\n    - {service: a, url: 'ftp://x'}\n    - {service: '', url: 'http://{{ servcie }}:1/', secret: abc}\n",
        &[
            "t.yaml:2:10: warning: modes.limit: no policy changes anything: each only proposes what it would do",
            "  hint: meant for trying? `dry_run: true` of a policy does that for one alone",
            "t.yaml:3:12: error: modes.silence: must be from 1m to 7d, is 10s",
            "  hint: choose a value in that range",
            "t.yaml:4:11: error: modes.settle: must be from 0 to 1h, is 2h",
            "  hint: choose a value in that range",
            "t.yaml:5:25: error: modes.acknowledge.within: must be from 5s to 1d, is 1s",
            "  hint: choose a value in that range",
            "t.yaml:6:17: error: modes.audit.keep: must be from 1h to 3650d, is 1m",
            "  hint: choose a value in that range",
            "t.yaml:6:30: error: modes.audit.entries: must be from 1000 to 5000000, is 5",
            "  hint: leave the key out for the default, 200000",
            "t.yaml:9:7: warning: modes.webhooks[0]: is not signed: the service cannot tell who sent it",
            "  hint: add `secret: \"${env:NAME}\"`",
            "t.yaml:9:25: error: modes.webhooks[0].url: is no URL that can be sent to",
            "  hint: only http and https are spoken",
            "t.yaml:10:17: error: modes.webhooks[1].service: matches no service",
            "  hint: name one, or write `.*` for all",
            "t.yaml:10:26: error: modes.webhooks[1].url: only `{{ service }}` can stand in it",
            "  hint: write the rest out",
            "t.yaml:10:61: warning: modes.webhooks[1].secret: a secret stands in clear in the file",
            "  hint: write \"${env:NAME}\" and set the variable where the daemon runs",
        ],
    );
}

#[test]
fn a_policy_asks_for_something() {
    check(
        "modes:\n  policies:\n    - {name: a, when: '{}', level: degraded}\n    \
         - {name: b, when: '{service=~\".*\",team!=\"x\"}', level: degraded}\n    \
         - {name: c, when: '{alertname=~\".+\"}', level: degraded}\n    \
         - {name: d, when: '{team!=\"x\",alertname=A}', level: degraded}\n",
        &[
            "t.yaml:3:23: error: modes.policies[0].when: names nothing that an alert must have: almost every alert would do",
            "  hint: if all of them are meant, say `{alertname=~\".+\"}`",
            "t.yaml:4:23: error: modes.policies[1].when: names nothing that an alert must have: almost every alert would do",
            "  hint: if all of them are meant, say `{alertname=~\".+\"}`",
        ],
    );
}

#[test]
fn a_policy_that_asks_for_alerts_about_modes_is_warned_of() {
    check(
        "modes:\n  policies:\n    - {name: a, when: alertname=PlanUndone, level: degraded}\n    \
         - {name: b, when: '{alertname=~\"A|ModeNotApplied\"}', level: degraded}\n    \
         - {name: c, when: '{alertname!=DegradationHarmful,service=a}', level: degraded}\n",
        &[
            "t.yaml:3:23: warning: modes.policies[0].when: selects `PlanUndone`, and no policy acts on alerts about modes themselves",
            "  hint: name the alert that the service is in trouble by",
            "t.yaml:4:23: warning: modes.policies[1].when: selects `ModeNotApplied`, and no policy acts on alerts about modes themselves",
            "  hint: name the alert that the service is in trouble by",
        ],
    );
}

#[test]
fn steps_of_plans_have_names_of_their_own() {
    let steps = "steps: [{service: a, level: degraded}, {service: b, level: degraded}]";
    check(
        &format!(
            "modes:\n  policies:\n    - {{name: p/2, when: a=b, level: degraded}}\n    \
             - {{name: p, when: a=b, {steps}}}\n    - {{name: p/3, when: a=b, level: degraded}}\n    \
             - {{name: p/02, when: a=b, level: degraded}}\n"
        ),
        &[
            "t.yaml:3:14: error: modes.policies[0].name: `p/2` is what step 2 of the policy `p` is called",
            "  hint: choose another name",
        ],
    );
}

#[test]
fn what_does_nothing_beside_steps_is_warned_of() {
    check(
        "modes:\n  policies:\n    - name: p\n      when: a=b\n      step: direct\n      effect: {otherwise: escalate}\n      \
         steps: [{service: a, level: degraded}, {service: b, level: degraded}]\n",
        &[
            "t.yaml:5:13: warning: modes.policies[0].step: has no effect beside `steps`: each goes straight to its level",
            "  hint: leave the key out",
            "t.yaml:6:27: warning: modes.policies[0].effect.otherwise: a plan has no further level to escalate to, so a step without effect stays",
            "  hint: `undo` takes it back, `stay` says what happens",
        ],
    );
}
