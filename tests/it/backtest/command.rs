//! `tidewatch backtest` as people and scripts use it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidewatch::config::Config;
use tidewatch::engine::{Engine, Placement, Settings};
use tidewatch::ingest::replay::{Data, Input, Naming};
use tidewatch::model::{Batch, Timestamp};
use tidewatch::telemetry::Telemetry;

use crate::harness::{otlp, stdout, tidewatch};

/// A folder for a test's files.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// What `tidewatch backtest` with these arguments prints, after it succeeded.
#[track_caller]
pub fn backtest(arguments: &[&str]) -> String {
    stdout(&tidewatch(&[&["backtest"], arguments].concat()))
}

/// JSON lines.
pub fn lines(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(parse).collect()
}

/// Rows of a day's wave with noise, `step` apart, and what `wrong` makes of the `n`th value.
fn rows(count: u64, step: u64, wrong: impl Fn(u64, f64) -> f64) -> String {
    let mut text = "timestamp,value\n".to_owned();
    for n in 0..count {
        let time = Timestamp::from_secs(i64::try_from(1_767_225_600 + n * step).expect("small"));
        let noise = (n * 7919 % 1000) as f64 / 250.0;
        let value =
            100.0 + noise + 5.0 * (n as f64 * step as f64 / 86_400.0 * std::f64::consts::TAU).sin();
        let written = time.rfc3339().replace('T', " ");
        writeln!(
            text,
            "{},{}",
            written.trim_end_matches('Z'),
            wrong(n, value)
        )
        .expect("memory");
    }
    text
}

fn spike(n: u64, value: f64) -> f64 {
    if (300..312).contains(&n) {
        value * 9.0
    } else {
        value
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn alerts(lines: &[Value]) -> Vec<&Value> {
    lines
        .iter()
        .filter(|line| line["type"] == "alert")
        .collect()
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {lines:#?}"))
}

#[test]
fn people_read_what_would_have_happened() {
    let folder = folder();
    let file = write(folder.path(), "cpu.csv", &rows(500, 300, spike));
    let text = backtest(&[&file]);
    for part in [
        "2026-01-02 01:10:00Z  fires    critical ValueDeviation cpu\n    value of cpu has been 9.3 times its usual",
        "resolved ValueDeviation cpu after 1h: value of cpu was ",
        "note: data comes every 5m, so a tick is 5m long and silence begins after 50m",
        "2026-01-01 00:00:00Z to 2026-01-02 17:35:00Z: 1 alert in 1 incident, 0.58 a day; 0 mode changes\n",
        "ALERT           SERVICE  FIRED  PER DAY\nValueDeviation  cpu      1      0.58\n",
        "500 samples of 1 service and 1 signal in ",
        "of processor time (",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn however_rare_the_rows_are_each_is_a_sample_and_no_pause_ends_an_alert() {
    for step in [60, 3_600, 86_400] {
        let folder = folder();
        let file = write(folder.path(), "rare.csv", &rows(500, step, spike));
        let lines = lines(&backtest(&["-o", "json", &file]));
        let summary = of_type(&lines, "summary");
        assert_eq!(summary["samples"], 500, "{step} s");
        assert_eq!(summary["alerts"], 1, "{step} s");
        let resolved = alerts(&lines).pop().expect("it resolves").clone();
        assert_eq!(resolved["alert"]["state"], "resolved", "{step} s");
        assert_eq!(
            resolved["alert"]["annotations"]["resolved_reason"],
            Value::Null
        );
        assert_eq!(resolved["alert"]["since"], Value::from(time(300 * step)));
    }
}

fn time(seconds: u64) -> String {
    Timestamp::from_secs(i64::try_from(1_767_225_600 + seconds).expect("small")).rfc3339()
}

#[test]
fn threads_change_nothing_but_the_time_it_takes() {
    let folder = folder();
    let files: Vec<String> = (0..6)
        .map(|n| {
            let text = rows(400, 60 * (1 + n % 2), |row, value| {
                spike(row + n * 7, value)
            });
            write(folder.path(), &format!("{n}/cpu.csv"), &text)
        })
        .collect();
    let run = |threads: &[&str]| {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let text = backtest(&[threads, &["-o", "json"], files.as_slice()].concat());
        text.lines()
            .filter(|line| !line.contains("\"type\":\"summary\""))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let one = run(&[]);
    assert!(one.len() >= 12, "{one:#?}");
    assert_eq!(run(&["--threads", "1"]), one);
    assert_eq!(run(&["--threads", "4"]), one);
}

/// Requests as the Collector's file exporter writes them: the spans of ten seconds a line, a front that
/// calls a back which becomes slow, and between them metrics and logs.
fn telemetry(ticks: u64) -> String {
    let mut text = String::new();
    for n in 0..ticks {
        let end = (1_767_225_600 + n * 10) * 1_000_000_000;
        let slow = if (100..115).contains(&n) { 9 } else { 1 };
        let call = |i: u64| n * 100 + i + 1;
        let at = |i: u64| end + (i + 1) * 400_000_000;
        let millis = |i: u64| Duration::from_millis((20 + (n * 7919 + i * 31) % 17) * slow);
        let back: Vec<Value> = (0..20)
            .map(|i| {
                otlp::span(
                    u128::from(call(i)),
                    2 * call(i),
                    Some(2 * call(i) + 1),
                    "query",
                    at(i),
                    millis(i),
                    false,
                )
            })
            .collect();
        let front: Vec<Value> = (0..20)
            .map(|i| {
                otlp::span(
                    u128::from(call(i)),
                    2 * call(i) + 1,
                    None,
                    "GET /",
                    at(i) + 1000,
                    millis(i) + Duration::from_millis(5),
                    false,
                )
            })
            .collect();
        writeln!(text, "{}", otlp::traces("back", &back)).expect("memory");
        writeln!(text, "{}", otlp::traces("front", &front)).expect("memory");
        writeln!(
            text,
            "{}",
            otlp::gauge("front", "temperature", &[(at(20), 20.0 + (n % 5) as f64)])
        )
        .expect("memory");
        writeln!(text, "{{\"resourceLogs\":[]}}").expect("memory");
    }
    text
}

#[test]
fn what_a_collector_wrote_alerts_on_the_service_that_is_slow() {
    let folder = folder();
    let file = write(folder.path(), "otel.json", &telemetry(180));
    let all = lines(&backtest(&["-o", "json", &file]));
    let fired: Vec<&Value> = alerts(&all)
        .into_iter()
        .filter(|line| line["alert"]["state"] == "firing" && line["from"] == "pending")
        .collect();
    let services: Vec<&Value> = fired.iter().map(|line| &line["alert"]["service"]).collect();
    assert!(
        services.contains(&&"back".into()) && services.contains(&&"front".into()),
        "{services:?}"
    );
    assert!(
        fired
            .iter()
            .all(|line| line["alert"]["labels"]["alertname"] == "LatencyDeviation")
    );
    let summary = of_type(&all, "summary");
    assert_eq!(
        (&summary["spans"], &summary["points"]),
        (&7200.into(), &180.into())
    );
    assert!(
        summary["notes"]
            .to_string()
            .contains("180 of another kind of data"),
        "{summary}"
    );
    let threads = lines(&backtest(&["--threads", "4", "-o", "json", &file]));
    assert_eq!(alerts(&threads), alerts(&all));
}

#[test]
fn another_configuration_is_compared() {
    let folder = folder();
    let wrong = |n, value| match n {
        150..155 => value * 2.0,
        _ => spike(n, value),
    };
    let file = write(folder.path(), "cpu.csv", &rows(500, 300, wrong));
    let rule = |hold: &str, change: f64| {
        format!(
            "rules: [{{alert: Odd, match: '{{signal=\"value\"}}', detector: robust, for: {hold}, min_change_ratio: {change}}}]\n"
        )
    };
    let first = write(folder.path(), "first.yaml", &rule("3 of 5", 0.0));
    let quick = write(folder.path(), "quick.yaml", &rule("1 of 1", 3.0));
    let lines = lines(&backtest(&[
        "--config",
        &first,
        "--compare",
        &quick,
        "-o",
        "json",
        &file,
    ]));
    let differences: Vec<(&Value, &Value)> = lines
        .iter()
        .filter(|line| line["type"] == "difference")
        .map(|line| (&line["is"], &line["seconds"]))
        .collect();
    assert_eq!(
        differences,
        [
            (&"less".into(), &Value::Null),
            (&"earlier".into(), &600.0.into())
        ]
    );
    let comparison = of_type(&lines, "comparison");
    assert_eq!(
        (&comparison["alerts"], &comparison["other_alerts"]),
        (&2.into(), &1.into())
    );
    let text = backtest(&["--config", &quick, "--compare", &first, &file]);
    assert!(
        text.contains(
            "The other configuration: 2 alerts instead of 1: 1 more, 0 less, 0 earlier, 1 later"
        ),
        "{text}"
    );
}

#[test]
fn mistakes_are_named_with_their_place() {
    let folder = folder();
    let wrong = write(
        folder.path(),
        "wrong.csv",
        "timestamp,value\n2026-01-01,1\nsoon,2\n",
    );
    let output = tidewatch(&["backtest", &wrong]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&format!("{wrong}:3: `soon` is not a time\n  hint: ")),
        "{said}"
    );
    let output = tidewatch(&["backtest", "/nowhere/at/all.csv"]);
    assert_eq!(output.status.code(), Some(1));
    let empty = write(folder.path(), "empty.csv", "");
    let output = tidewatch(&["backtest", &empty]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no data"));
    let output = tidewatch(&["backtest", "--detector", "nosuch", "--scores", "x", &wrong]);
    assert_eq!(output.status.code(), Some(2));
    // What is left out is said.
    let disordered = write(
        folder.path(),
        "back.csv",
        "time,value\n100,1\n50,2\n200,\n300,4\n300,5\n",
    );
    let text = backtest(&[&disordered]);
    for part in [
        "1 earlier than the line before; rows out of order are left out: sort the file by time (first: line 3)",
        "1 without a value (first: line 4)",
        "1 point is of the same time as one before",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

/// The same rows are read for the alerts and for the scores, with the same end; a file of scores is whole.
#[test]
fn scores_are_of_the_rows_that_a_backtest_reads() {
    let folder = folder();
    let scores = folder.path().join("scores");
    let scored = |name: &str| {
        scores
            .join(folder.path().strip_prefix("/").expect("a root"))
            .join(name)
    };
    let shown = scores.display().to_string();
    let lines = |name: &str| std::fs::read_to_string(scored(name)).expect("scores");
    // Left out for its time, so that its value does not matter.
    let text = rows(300, 10, spike) + "1767225600,many\n1767328600,40\n";
    let late = write(folder.path(), "late.csv", &text);
    backtest(&["--scores", &shown, &late]);
    assert_eq!(lines("late.csv").lines().count(), text.lines().count());
    // One service, metric and host in columns is one series.
    let named = rows(300, 10, spike).replace('\n', ",\"a, b\",h1\n");
    let named = named.replacen("\"a, b\",h1", "service,host", 1);
    let named = write(folder.path(), "named.csv", &named);
    backtest(&["--scores", &shown, &named]);
    // Newest first: each row keeps its place, and has the score that it has in order.
    let text = rows(300, 10, spike);
    let (head, body) = text.split_once('\n').expect("a head");
    let reversed: Vec<&str> = body.lines().rev().collect();
    let forward = write(folder.path(), "forward.csv", &text);
    let reversed = format!("{head}\n{}\n", reversed.join("\n"));
    let backward = write(folder.path(), "backward.csv", &reversed);
    let told = backtest(&["--scores", &shown, &forward, &backward]);
    assert!(
        told.contains("the file was read to its end and sorted"),
        "{told}"
    );
    let mut expected: Vec<String> = lines("forward.csv")
        .lines()
        .skip(1)
        .map(String::from)
        .collect();
    expected.reverse();
    let found: Vec<String> = lines("backward.csv")
        .lines()
        .skip(1)
        .map(String::from)
        .collect();
    assert_eq!(found, expected);
    // What cannot be read leaves nothing behind.
    let bad = rows(300, 10, spike) + "1767328600,many\n";
    let bad = write(folder.path(), "bad.csv", &bad);
    let output = tidewatch(&["backtest", "--scores", &shown, &bad]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!scored("bad.csv").exists() && !scored("bad.csv.part").exists());
}

/// Where most of the data was left out, the outcome says nothing, and is no success.
#[test]
fn a_file_that_is_mostly_left_out_is_a_failure() {
    let folder = folder();
    let mut text = rows(5_000, 10, |_, value| value);
    for _ in 0..2 {
        let again = rows(5_000, 10, |_, value| value);
        text.push_str(again.split_once('\n').expect("a head").1);
    }
    let file = write(folder.path(), "thrice.csv", &text);
    let output = tidewatch(&["backtest", &file]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("points were left out for their times"),
        "{said}"
    );
}

/// An incident is told once, and each further alert of it in a line.
#[test]
fn an_incident_is_told_once() {
    let folder = folder();
    let head = "timestamp,cpu,load\n";
    let row = |n: u64| {
        let value = spike(n, 40.0 + (n * 37 % 19) as f64 / 9.5);
        format!("{},{value},{}\n", 1_767_225_600 + 300 * n, value * 2.0)
    };
    let rows: String = (0..500).map(row).collect();
    let file = write(folder.path(), "two.csv", &format!("{head}{rows}"));
    let text = backtest(&[&file]);
    assert_eq!(text.matches("  fires  ").count(), 2, "{text}");
    assert_eq!(text.matches("    → ").count(), 1, "{text}");
    assert!(text.contains("2 alerts in 1 incident"), "{text}");
    assert!(text.contains(" ValueDeviation two: "), "{text}");
    let lines = backtest(&["--output", "json", &file]);
    assert!(lines.contains("\"incidents\":1"), "{lines}");
}

/// Who has left by the end was there all the same.
#[test]
fn the_summary_counts_all_that_were_seen() {
    let folder = folder();
    let mut text = String::from("timestamp,service,value\n");
    for n in 0..3_000u64 {
        let service = ["a", "b", "c"][(n / 1_000) as usize];
        text.push_str(&format!(
            "{},{service},{}\n",
            1_767_225_600 + 10 * n,
            40 + n % 7
        ));
    }
    let file = write(folder.path(), "leave.csv", &text);
    let text = backtest(&[&file]);
    assert!(
        text.contains("3000 samples of 3 services and 3 signals"),
        "{text}"
    );
}

/// Scores are what the engine says of the same rows, digit by digit.
#[tokio::test]
async fn scores_are_those_of_the_engine() {
    let folder = folder();
    let file = write(folder.path(), "data/cpu.csv", &rows(600, 300, spike));
    let out = folder.path().join("out");
    let shown = out.display().to_string();
    for detector in
        tidewatch::detect::names().filter(|name| ["robust", "zscore", "adaptive"].contains(name))
    {
        backtest(&["--scores", &shown, "--detector", detector, &file]);
        let scored = out.join(file.trim_start_matches('/'));
        let scored = std::fs::read_to_string(scored).expect("scores");
        let input = std::fs::read_to_string(&file).expect("rows");
        let scored: Vec<&str> = scored.lines().collect();
        assert_eq!(scored[0], "timestamp,value,score");
        assert_eq!(scored.len(), input.lines().count());
        for (scored, row) in scored.iter().zip(input.lines()).skip(1) {
            assert!(scored.starts_with(&format!("{row},")), "{scored} of {row}");
        }
        // A rule that reports whatever it judges.
        let mut config = Config::default();
        let rule = config
            .rules
            .iter_mut()
            .find(|rule| rule.alert == "ValueDeviation");
        rule.expect("a rule").detector = detector.into();
        let rule = config
            .model_rules()
            .iter()
            .find(|rule| rule.alert == "ValueDeviation")
            .cloned();
        let rule = rule.expect("a rule");
        let judged = judged(&file, rule).await;
        assert!(judged.len() > 500, "{detector}: {}", judged.len());
        for (time, report) in judged {
            let row = scored
                .iter()
                .find(|row| row.starts_with(&written(time)))
                .expect("its row");
            let score: f64 = row
                .rsplit(',')
                .next()
                .expect("a score")
                .parse()
                .expect("a number");
            assert_eq!(score, report / (report + 4.0), "{detector} at {time}");
        }
    }
}

fn written(time: Timestamp) -> String {
    time.rfc3339()
        .replace('T', " ")
        .trim_end_matches('Z')
        .to_owned()
}

/// What the engine's detectors report of each sample of `file`.
async fn judged(file: &str, rule: tidewatch::model::Rule) -> Vec<(Timestamp, f64)> {
    let naming = Naming {
        service: "cpu".into(),
        metric: None,
    };
    let mut input = Input::open(Path::new(file), None, &naming).expect("it opens");
    let settings = Settings {
        tick: Duration::from_secs(300),
        placement: Placement::InPlace,
        ..Settings::default()
    };
    // The engine tells of calm samples while an alert might wait for them.
    let rule = tidewatch::model::Rule {
        resolve_samples: 100_000,
        ..rule
    };
    let (engine, _) = Engine::start(settings, Arc::from([rule]), Telemetry::new(), Vec::new())
        .expect("an engine");
    let mut judged = Vec::new();
    while let Some(arrival) = input.next_arrival().expect("it reads") {
        let Data::Point(point) = arrival.data else {
            panic!("a point")
        };
        let batch = Batch {
            points: vec![point],
            ..Batch::default()
        };
        assert!(
            engine
                .apply(batch, arrival.at)
                .await
                .expect("room")
                .is_empty()
        );
        let report = engine.tick(arrival.at).await;
        judged.extend(
            report
                .observations
                .iter()
                .map(|o| (o.sample.time, o.judged.evidence.report)),
        );
    }
    judged
}

#[test]
fn a_picture_stands_for_itself() {
    let folder = folder();
    let file = write(folder.path(), "a<b>&.csv", &rows(500, 300, spike));
    for name in ["picture.svg", "picture.html"] {
        let picture = folder.path().join(name).display().to_string();
        let text = backtest(&["--picture", &picture, &file]);
        assert!(text.contains("with 500 samples is drawn in"), "{text}");
        let drawn = std::fs::read_to_string(&picture).expect("a picture");
        assert!(drawn.contains("class=\"band\"") && drawn.contains("class=\"critical span\""));
        assert!(drawn.contains("a&lt;b&gt;&amp;") && !drawn.contains("a<b>"));
        assert!(
            !drawn.contains("http://")
                || drawn.matches("http://").count()
                    == drawn.matches("http://www.w3.org/2000/svg").count()
        );
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
    }
    // Found out before anything is run.
    let output = tidewatch(&["backtest", "--picture", "/nodir/x.svg", &file]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let output = tidewatch(&["backtest", "--picture", "x.png", &file]);
    assert_eq!(output.status.code(), Some(2));
    let output = tidewatch(&[
        "backtest",
        "--picture",
        "x.svg",
        "--match",
        "{service=\"none\"}",
        &file,
    ]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no series matches"));
}
