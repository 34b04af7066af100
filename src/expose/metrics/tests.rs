use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::expose::fakes::{self, FakeEngine, Site, alert, pairs, signal};
use crate::model::{AlertState, SampleView, ServiceReport, SignalView};

/// What nobody should be able to break out with.
const HOSTILE: &str =
    "\u{0}\u{7}\"} 1\n# EOF\nevil{a=\"\\\u{202e}<script>{{ x }}../'`\r\u{85}\u{2028}é🦀";

/// Texts of clients in every place where they can be.
fn hostile_site() -> Site {
    let mut signals = vec![signal(1), signal(2), signal(3)];
    for (signal, name) in signals.iter_mut().zip(["a", "b", HOSTILE]) {
        signal.service = HOSTILE.into();
        signal.metric = HOSTILE.into();
        signal.unit = HOSTILE.into();
        signal.resource = pairs(&[("service.instance.id", name)]);
        signal.attributes = pairs(&[
            (HOSTILE, HOSTILE),
            ("__name__", "x"),
            ("service", "x"),
            ("stat", "x"),
            ("le", "x"),
            ("quantile", "x"),
            ("9lives", "x"),
            ("a.b", "1"),
            ("a_b", ""),
            ("", "empty key"),
        ]);
    }
    let site = Site::over(FakeEngine {
        signals,
        ..FakeEngine::default()
    });
    let mut worst = alert(HOSTILE, HOSTILE, AlertState::Firing);
    worst.labels.set("alertstate", "x");
    worst.labels.set("a.b", HOSTILE);
    site.board.set_alerts(vec![Arc::new(worst)]);
    site.board
        .set_modes(fakes::modes(&[(HOSTILE, "degraded"), ("", "normal")]));
    site
}

fn usual_site() -> Site {
    let mut other = signal(2);
    other.attributes = pairs(&[("http.route", "/cart")]);
    let site = Site::over(FakeEngine {
        signals: vec![signal(1), other],
        ..FakeEngine::default()
    });
    site.board.set_alerts(vec![
        Arc::new(alert("Slow", "checkout", AlertState::Firing)),
        Arc::new(alert("Slow", "cart", AlertState::Pending)),
        Arc::new(alert("Slow", "search", AlertState::Resolved)),
    ]);
    let mut view = fakes::modes(&[("checkout", "degraded")]);
    let report = ServiceReport {
        instances: 3,
        actual: vec![("degraded".into(), 2), ("odd\n".into(), 1)],
        ..ServiceReport::default()
    };
    view.reports.insert("checkout".into(), report);
    view.blind = Some("it has just started".into());
    site.board.set_modes(view);
    site
}

/// `promtool check metrics` on `text`: whether it is content, and what it says.
fn promtool(text: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool must be installed: apt-get install prometheus");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The samples of `text` as (name with labels, value).
fn samples(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').expect("a value"))
        .collect()
}

#[tokio::test]
async fn promtool_is_content_whatever_clients_send() {
    for (site, what) in [(usual_site(), "usual"), (hostile_site(), "hostile")] {
        let answer = site.get("/metrics").await;
        assert_eq!(answer.status, 200);
        let (content, said) = promtool(answer.text());
        assert!(content, "{what}: {said}\n{}", answer.text());
    }
}

#[tokio::test]
async fn no_two_samples_share_their_labels() {
    let mut signals: Vec<SignalView> = (1..=6).map(signal).collect();
    // One signal from two places, told apart by the instance; two more that nothing tells apart; two
    // whose attributes become the same labels.
    signals[1].resource = pairs(&[("service.instance.id", "b")]);
    signals[4].attributes = pairs(&[("a.b", "1"), ("a_b", "2")]);
    signals[5].attributes = pairs(&[("a.b", "1;2")]);
    let mut twice = signals.clone();
    twice.reverse();
    signals.extend(twice);
    let site = Site::over(FakeEngine {
        signals,
        ..FakeEngine::default()
    });
    let text = site.get("/metrics").await.text().to_owned();
    let mut names: Vec<_> = samples(&text).into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    let values = |part: &str| names.iter().filter(|name| name.contains(part)).count();
    assert_eq!(values("stat=\"value\""), 6, "none is lost");
    assert_eq!(values("instance=\"b\""), 11);
    assert_eq!(values(&format!("series=\"{:032x}-p99\"", 3)), 11);
    assert_eq!(values("a_b=\"1;2\""), 22);
}

#[tokio::test]
async fn the_text_says_what_is_published() {
    let text = usual_site().get("/metrics").await.text().to_owned();
    let ours: Vec<_> = text
        .lines()
        .filter(|line| {
            [
                "tidewatch_signal{",
                "ALERTS",
                "tidewatch_service_mode",
                "tidewatch_mode_proposals",
                "tidewatch_modes_",
                "tidewatch_exposed",
            ]
            .iter()
            .any(|name| line.trim_start_matches("# TYPE ").starts_with(name))
        })
        .collect();
    insta::assert_snapshot!(ours.join("\n"), @r#"
    # TYPE tidewatch_exposed_signals gauge
    tidewatch_exposed_signals 2
    # TYPE tidewatch_exposed_signals_limit gauge
    tidewatch_exposed_signals_limit 10000
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="value"} 0.31
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="expected"} 0.12
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="lower"} 0.09
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="upper"} 0.16
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="sigma"} 6.1
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="mean"} 0.12
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="stddev"} 0.01
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="p50"} 0.11
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="p90"} 0.14
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="p95"} 0.15
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/pay",stat="p99"} 0.3
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="value"} 0.31
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="expected"} 0.12
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="lower"} 0.09
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="upper"} 0.16
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="sigma"} 6.1
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="mean"} 0.12
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="stddev"} 0.01
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="p50"} 0.11
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="p90"} 0.14
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="p95"} 0.15
    tidewatch_signal{service="checkout",metric="http.server.request.duration",signal="p99",http_route="/cart",stat="p99"} 0.3
    # TYPE ALERTS gauge
    ALERTS{alertname="Slow",alertstate="firing",service="checkout",severity="critical",signal="p99"} 1
    ALERTS{alertname="Slow",alertstate="pending",service="cart",severity="critical",signal="p99"} 1
    # TYPE tidewatch_mode_proposals gauge
    tidewatch_mode_proposals 0
    # TYPE tidewatch_modes_frozen gauge
    tidewatch_modes_frozen 0
    # TYPE tidewatch_modes_blind gauge
    tidewatch_modes_blind 1
    # TYPE tidewatch_service_mode gauge
    tidewatch_service_mode{service="checkout",mode="normal"} 0
    tidewatch_service_mode{service="checkout",mode="degraded"} 1
    tidewatch_service_mode{service="checkout",mode="critical"} 0
    # TYPE tidewatch_service_mode_acknowledged gauge
    tidewatch_service_mode_acknowledged{service="checkout"} 0
    # TYPE tidewatch_service_mode_instances gauge
    tidewatch_service_mode_instances{service="checkout",mode="normal"} 0
    tidewatch_service_mode_instances{service="checkout",mode="degraded"} 2
    tidewatch_service_mode_instances{service="checkout",mode="critical"} 0
    tidewatch_service_mode_instances{service="checkout",mode="odd\n"} 1
    "#);
}

#[tokio::test]
async fn openmetrics_is_given_to_those_who_ask() {
    let site = hostile_site();
    let accept = [("accept", "application/openmetrics-text; version=1.0.0")];
    let answer = site.get_with("/metrics", &accept).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.headers["content-type"], kind);
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n"));
    assert_eq!(text.lines().filter(|line| *line == "# EOF").count(), 1);
    assert!(text.contains("# TYPE tidewatch_otlp_points counter\ntidewatch_otlp_points_total 0\n"));
    assert!(text.contains("tidewatch_detection_lag_seconds_bucket{le=\"1.0\"} 0\n"));
    let plain = site.get("/metrics").await;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(plain.headers["content-type"], kind);
    assert!(
        plain
            .text()
            .contains("# TYPE tidewatch_otlp_points_total counter\n")
    );
    assert_eq!(samples(text).len(), samples(plain.text()).len());
}

#[tokio::test]
async fn only_an_open_upper_end_is_infinite() {
    let mut odd = signal(1);
    odd.last = Some(SampleView {
        time: fakes::NOW,
        value: f64::NAN,
        expected: Some(1.0),
        lower: None,
        upper: None,
        sigma: Some(f64::INFINITY),
    });
    odd.window.count = 0;
    let mut learning = signal(2);
    learning.attributes.clear();
    learning.window.count = 1;
    learning.last = Some(SampleView {
        time: fakes::NOW,
        value: 2.0,
        expected: None,
        lower: None,
        upper: None,
        sigma: None,
    });
    let site = Site::over(FakeEngine {
        signals: vec![odd, learning],
        ..FakeEngine::default()
    });
    let text = site.get("/metrics").await.text().to_owned();
    let of = |part: &str| -> Vec<(String, String)> {
        samples(&text)
            .into_iter()
            .filter(|(name, _)| name.starts_with("tidewatch_signal{") && name.contains(part))
            .map(|(name, value)| {
                let stat = name.rsplit("stat=\"").next().unwrap_or_default();
                (stat.trim_end_matches("\"}").to_owned(), value.to_owned())
            })
            .collect()
    };
    let pair = |stat: &str, value: &str| (stat.to_owned(), value.to_owned());
    assert_eq!(of("/pay"), [pair("expected", "1"), pair("upper", "+Inf")]);
    let learning: Vec<_> = of("").into_iter().skip(2).map(|(stat, _)| stat).collect();
    assert_eq!(learning, ["value", "mean", "p50", "p90", "p95", "p99"]);
}

#[tokio::test]
async fn the_number_of_signals_is_bounded_and_large_answers_are_compressed() {
    let settings = crate::expose::Settings {
        exposed_signals: 2,
        ..Default::default()
    };
    let engine = FakeEngine {
        signals: (1..=5).map(signal).collect(),
        ..FakeEngine::default()
    };
    let site = Site::build(engine, settings);
    let plain = site.get("/metrics").await;
    assert!(plain.text().contains("\ntidewatch_exposed_signals 2\n"));
    assert_eq!(plain.text().matches("stat=\"value\"").count(), 2);
    let gzip = site
        .get_with("/metrics", &[("accept-encoding", "gzip")])
        .await;
    assert_eq!(gzip.headers["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(gzip.body.as_slice())
        .read_to_string(&mut text)
        .expect("gzip");
    assert_eq!(text, plain.text());
}
