//! What the daemon says of itself over OTLP when the standard variables ask for it, and that it does not
//! alert on what comes back to it.

use crate::harness::{Daemon, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn traces_and_metrics_of_its_own_reach_another_daemon() {
    let observer = Daemon::start("window: {tick: 200ms}").await;
    for (protocol, address) in [("grpc", &observer.grpc), ("http/protobuf", &observer.http)] {
        let name = format!("tidewatch-{}", protocol.replace('/', "-"));
        let endpoint = format!("http://{address}");
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_SERVICE_NAME", name.as_str()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ];
        let _observed = Daemon::start_with("window: {tick: 200ms}", &env).await;
        eventually("own metrics and traces arrive", || async {
            let own = observer.series(&format!("{{service=\"{name}\"}}")).await;
            let has = |metric: &str| own.iter().any(|signal| signal["metric"] == metric);
            (has("tidewatch_otlp_points_total") && has("span.duration")).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_telemetry_fed_back_is_recognised_and_not_judged() {
    // The port must be known before the daemon starts.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    let daemon =
        Daemon::start_on(&format!("127.0.0.1:{port}"), "window: {tick: 200ms}", &env).await;
    let own = eventually("own telemetry is there", || async {
        let own = daemon.series("{service=\"tidewatch\"}").await;
        let has = |metric: &str| own.iter().any(|signal| signal["metric"] == metric);
        has("tidewatch_otlp_points_total").then_some(own)
    })
    .await;
    for signal in own {
        assert_eq!(signal["baseline"]["state"], "unwatched", "{signal}");
    }
}
