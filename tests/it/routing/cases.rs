//! The table. A group looks after 1 s and then every 3 s where a case says nothing else, so events at
//! 0 s and between two looks have a second and more to spare.

/// One case. Its alerts have the label `case` besides those given.
pub struct Case {
    pub name: &'static str,
    /// The route of the case, in YAML, without its matchers.
    pub route: &'static str,
    /// Inhibit rules: conditions on source and target, labels that must be equal.
    pub inhibit: &'static [(&'static str, &'static str, &'static str)],
    /// When (in tenths of a second) what happens.
    pub steps: &'static [(u32, Step)],
    /// Why Tidewatch does something else here.
    pub differs: Option<&'static str>,
}

/// Something that happens. Alerts are `NAME label=value …`.
pub enum Step {
    /// It begins to fire.
    Fire(&'static str),
    /// It fires, and has done so for so many seconds.
    FireSince(u32, &'static str),
    /// It is over.
    Resolve(&'static str),
    /// Alerts that meet these conditions are silenced, under a name of ours.
    Silence(&'static str, &'static str),
    /// That silence ends.
    Unsilence(&'static str),
}

use Step::{Fire, FireSince, Resolve, Silence, Unsilence};

/// When the last look of the last case is over, in tenths of a second.
pub const END: u32 = 150;

/// Who is told. The name of the last says that it does not want to hear of ends.
pub const RECEIVERS: &[&str] = &["a", "b", "c", "firing-only"];

/// `DAY` is the weekday that it is in `Pacific/Kiritimati` now; in `Pacific/Pago_Pago`, 25 hours behind, it
/// is never the same.
pub const TIME_INTERVALS: &str = "
time_intervals:
  - name: always
    time_intervals: [{}]
  - name: all-day
    time_intervals: [{times: [{start_time: '00:00', end_time: '12:00'}]}, {times: [{start_time: '12:00', end_time: '24:00'}]}]
  - name: past
    time_intervals: [{years: ['2000:2001']}]
  - name: whole-month
    time_intervals: [{days_of_month: ['1:-1'], months: ['1:6', 'july:december']}]
  - name: kiritimati
    time_intervals: [{weekdays: [DAY], location: Pacific/Kiritimati}]
mute_time_intervals:
  - name: pago-pago
    time_intervals: [{weekdays: [DAY], location: Pacific/Pago_Pago}]
";

const fn case(name: &'static str, route: &'static str, steps: &'static [(u32, Step)]) -> Case {
    Case {
        name,
        route,
        inhibit: &[],
        steps,
        differs: None,
    }
}

pub const CASES: &[Case] = &[
    // Which route.
    case(
        "inherits",
        "
receiver: a
group_by: [team]
group_wait: 1s
group_interval: 3s
routes:
  - matchers: [team = x]
    routes:
      - matchers: [deep = yes]
        receiver: b
      - match: {deep: very}
        group_by: [deep, team]
  - match_re: {team: y|z.*}
    receiver: c
    group_by: ['...']
",
        &[
            (0, Fire("none")),
            (0, Fire("x team=x")),
            (0, Fire("deep team=x deep=yes")),
            (0, Fire("very team=x deep=very")),
            (0, Fire("y team=y")),
            (0, Fire("zz team=zz")),
            (0, Fire("zz2 team=zz zone=1")),
            (0, Fire("ay team=ay")),
        ],
    ),
    case(
        "continues",
        "
receiver: a
group_wait: 1s
group_interval: 3s
group_by: [case]
routes:
  - matchers: [kind =~ \"db|disk\"]
    receiver: b
    continue: true
    routes:
      - {matchers: [kind = db, size != small], receiver: c}
  - matchers: [size = small]
    receiver: c
  - matchers: ['kind = disk, size = big']
    receiver: a
  - receiver: b
    matchers: [kind = disk]
",
        &[
            (0, Fire("smalldb kind=db size=small")),
            (0, Fire("bigdb kind=db size=big")),
            (0, Fire("bigdisk kind=disk size=big")),
            (0, Fire("disk kind=disk")),
            (0, Fire("small size=small")),
            (0, Fire("other size=other")),
        ],
    ),
    case(
        "conditions",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
routes:
  - matchers: ['{quoted=\"a b, c\"}']
    receiver: b
  - matchers: ['unset=', regex=~x.z]
    receiver: b
  - matchers: ['regex !~ x.*', 'regex != \"\"']
    receiver: c
  - matchers: [number = 1]
    receiver: b
  - match: {number: 2, unset: ''}
    receiver: c
  - match_re: {number: '[34]?5'}
    receiver: b
",
        &[
            (0, Fire("quoted quoted=a_b,_c")),
            (0, Fire("dot regex=xyz")),
            (0, Fire("long regex=xyzz")),
            (0, Fire("set regex=xyz unset=set")),
            (0, Fire("other regex=other")),
            (0, Fire("one number=1")),
            (0, Fire("two number=2")),
            (0, Fire("two-set number=2 unset=set")),
            (0, Fire("five number=5")),
            (0, Fire("fourty number=45")),
            (0, Fire("fifty number=55")),
        ],
    ),
    // If both waited for the same time, Alertmanager would sometimes tell it twice.
    case(
        "same-route-twice",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
routes:
  - {matchers: [x = y], receiver: b, continue: true}
  - {matchers: [x = y], receiver: b, continue: true, group_wait: 2500ms}
  - {matchers: [x =~ y], receiver: b}
",
        &[(0, Fire("one x=y"))],
    ),
    // Which group.
    case(
        "group-all",
        "
receiver: a
group_by: ['...']
group_wait: 1s
group_interval: 3s
routes:
  - {matchers: [x = inherits], group_by: []}
  - {matchers: [x = alone], group_by: [service]}
",
        &[
            (0, Fire("one service=s x=inherits")),
            (0, Fire("two service=s x=inherits")),
            (0, Fire("three service=s x=alone")),
            (0, Fire("four service=s x=alone")),
            (0, Fire("five service=s")),
            (0, Fire("six service=t")),
        ],
    ),
    case(
        "group-labels",
        "
receiver: a
group_by: [service, zone, zone1, missing]
group_wait: 1s
group_interval: 3s
",
        &[
            (0, Fire("one service=s zone=a")),
            (0, Fire("two service=s zone=a more=x")),
            (0, Fire("three service=s")),
            (0, Fire("four zone=\"ü\\ zone1=b")),
            (0, Fire("five")),
        ],
    ),
    // When.
    case(
        "waits",
        "
receiver: a
group_by: [case]
group_wait: 2s
group_interval: 4s
",
        &[
            (0, Fire("first")),
            (10, Fire("with-it")),
            (40, Fire("next")),
            (85, Fire("after")),
            (85, Resolve("first")),
            (120, Resolve("next")),
        ],
    ),
    case(
        "no-wait",
        "
receiver: a
group_by: [case]
group_wait: 0s
group_interval: 4s
",
        &[(20, Fire("first")), (40, Fire("next"))],
    ),
    case(
        "late-already",
        "
receiver: a
group_by: [n]
group_wait: 4s
group_interval: 4s
",
        &[
            (0, FireSince(60, "old n=1")),
            (0, FireSince(2, "young n=2")),
            (0, Fire("new n=3")),
            (20, FireSince(60, "hurries n=3")),
            (40, FireSince(60, "comes-late n=1")),
        ],
    ),
    // Where repeat_interval is a multiple of group_interval it depends on milliseconds whether Alertmanager
    // repeats then or one group_interval later; so no case has that.
    case(
        "repeats",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
repeat_interval: 5s
",
        &[(0, Fire("one"))],
    ),
    case(
        "repeats-often",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 4s
repeat_interval: 2s
",
        &[(0, Fire("one")), (70, Resolve("one"))],
    ),
    case(
        "news-put-off-the-repetition",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
repeat_interval: 5s
",
        &[(0, Fire("one")), (25, Fire("two"))],
    ),
    case(
        "ends",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
",
        &[
            (0, Fire("one")),
            (0, Fire("two")),
            (25, Resolve("one")),
            (55, Resolve("two")),
        ],
    ),
    case(
        "flaps",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 4s
",
        &[
            (0, Fire("one")),
            (20, Resolve("one")),
            (35, Fire("one")),
            (65, Resolve("one")),
        ],
    ),
    case(
        "over-before-it-was-told",
        "
receiver: a
group_by: [case]
group_wait: 3s
group_interval: 3s
",
        &[(0, Fire("one")), (15, Resolve("one"))],
    ),
    Case {
        differs: Some("Tidewatch never says that something is over that it never told"),
        ..case(
            "over-before-it-was-told-with-another",
            "
receiver: a
group_by: [case]
group_wait: 3s
group_interval: 3s
",
            &[(0, Fire("one")), (0, Fire("stays")), (15, Resolve("one"))],
        )
    },
    case(
        "no-ends",
        "
receiver: firing-only
group_by: [case]
group_wait: 1s
group_interval: 3s
",
        &[
            (0, Fire("one")),
            (0, Fire("two")),
            (0, Fire("three")),
            (25, Resolve("one")),
            (55, Resolve("two")),
            (55, Fire("four")),
            (85, Resolve("three")),
            (85, Resolve("four")),
        ],
    ),
    // Silences.
    case(
        "silenced-from-the-beginning",
        "
receiver: a
group_by: [case]
group_wait: 2s
group_interval: 3s
",
        &[
            (0, Silence("beginning", "alertname = one")),
            (0, Fire("one")),
            (0, Fire("two")),
            (65, Unsilence("beginning")),
        ],
    ),
    case(
        "silenced-alone-after-it-was-told",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
repeat_interval: 8s
",
        &[
            (0, Fire("one")),
            (25, Silence("alone", "alertname = one")),
            (85, Unsilence("alone")),
        ],
    ),
    case(
        "silenced-while-others-are-told",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
",
        &[
            (0, Fire("one")),
            (25, Silence("others", "alertname =~ o.e")),
            (25, Fire("two")),
            (85, Unsilence("others")),
        ],
    ),
    Case {
        differs: Some("Tidewatch says that it is over to those who were told that it fires"),
        ..case(
            "over-while-silenced",
            "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
",
            &[
                (0, Fire("one")),
                (25, Silence("over", "alertname = one")),
                (55, Resolve("one")),
                (85, Unsilence("over")),
            ],
        )
    },
    // Inhibition.
    Case {
        inhibit: &[(
            "severity = critical",
            "severity =~ \"warning|info\"",
            "service, zone",
        )],
        ..case(
            "inhibits",
            "
receiver: a
group_by: [service]
group_wait: 2s
group_interval: 3s
",
            &[
                (0, Fire("down severity=critical service=x")),
                (0, Fire("slow severity=warning service=x")),
                (0, Fire("note severity=info service=x zone=")),
                (0, Fire("far severity=info service=x zone=b")),
                (0, Fire("other severity=warning service=y")),
                (65, Resolve("down severity=critical service=x")),
                (95, Fire("down severity=critical service=x")),
            ],
        )
    },
    Case {
        inhibit: &[("side =~ l.*", "side =~ .*r", "")],
        ..case(
            "inhibits-not-itself",
            "
receiver: a
group_by: [n]
group_wait: 2s
group_interval: 3s
",
            &[
                (0, Fire("both n=1 side=lr")),
                (0, Fire("also n=2 side=lor")),
                (0, Fire("target n=3 side=r")),
            ],
        )
    },
    Case {
        inhibit: &[("side = s", "side = t", ""), ("side = t", "side = u", "")],
        ..case(
            "inhibits-though-silenced-or-inhibited",
            "
receiver: a
group_by: [n]
group_wait: 2s
group_interval: 3s
",
            &[
                (0, Silence("source", "side = s")),
                (0, Fire("source n=1 side=s")),
                (0, Fire("target n=2 side=t")),
                (0, Fire("further n=3 side=u")),
            ],
        )
    },
    Case {
        inhibit: &[("side = s", "side = t", "")],
        ..case(
            "inhibited-after-it-was-told",
            "
receiver: a
group_by: [side]
group_wait: 1s
group_interval: 3s
repeat_interval: 4s
",
            &[
                (0, Fire("target side=t")),
                (25, Fire("source side=s")),
                (85, Resolve("source side=s")),
            ],
        )
    },
    // Time intervals.
    case(
        "mute",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
routes:
  - {matchers: [t = always], mute_time_intervals: [past, always]}
  - {matchers: [t = all-day], mute_time_intervals: [all-day]}
  - {matchers: [t = past], mute_time_intervals: [past]}
  - {matchers: [t = month], mute_time_intervals: [whole-month]}
  - {matchers: [t = here], mute_time_intervals: [kiritimati]}
  - {matchers: [t = there], mute_time_intervals: [pago-pago]}
  - matchers: [t =~ in.*]
    mute_time_intervals: [always]
    routes: [{matchers: [t = inside]}]
",
        &[
            (0, Fire("always t=always")),
            (0, Fire("all-day t=all-day")),
            (0, Fire("past t=past")),
            (0, Fire("month t=month")),
            (0, Fire("here t=here")),
            (0, Fire("there t=there")),
            (0, Fire("in t=in")),
            (0, Fire("inside t=inside")),
        ],
    ),
    case(
        "active",
        "
receiver: a
group_by: [case]
group_wait: 1s
group_interval: 3s
routes:
  - {matchers: [t = always], active_time_intervals: [past, always]}
  - {matchers: [t = past], active_time_intervals: [past]}
  - {matchers: [t = here], active_time_intervals: [kiritimati]}
  - {matchers: [t = there], active_time_intervals: [pago-pago]}
  - {matchers: [t = both], active_time_intervals: [always], mute_time_intervals: [all-day]}
",
        &[
            (0, Fire("always t=always")),
            (0, Fire("past t=past")),
            (0, Fire("here t=here")),
            (0, Fire("there t=there")),
            (0, Fire("both t=both")),
        ],
    ),
];
