//! A real Prometheus sends its alerts here instead of to an Alertmanager.

use serde_json::Value;

use crate::harness::hook::Hook;
use crate::harness::prometheus::Prometheus;
use crate::harness::{Daemon, eventually, free_port, otlp};

const CONFIG: &str = r#"
window: {tick: 200ms}
rules: []
route: {receiver: oncall, group_by: [alertname], group_wait: 100ms, group_interval: 1s}
receivers: [{name: oncall, webhook_configs: [{url: "HOOK"}]}]
modes:
  settle: 0
  policies: [{name: down, when: '{alertname="ShopDown",severity="page"}', service: "{{ service }}", level: degraded, hold: 100ms, recover: 100ms}]
"#;

/// A rule whose condition is that of `expression`.
fn rules(expression: &str) -> String {
    format!(
        "groups:\n- name: shop\n  interval: 200ms\n  rules:\n  - alert: ShopDown\n    expr: {expression}\n    \
         labels: {{severity: page, service: shop}}\n    annotations: {{summary: \"The shop is {{{{ $value }}}} open.\"}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_a_real_prometheus_are_routed_explained_and_flip_modes() {
    let hook = Hook::start().await;
    let daemon = Daemon::start_api(free_port(), &CONFIG.replace("HOOK", &hook.url)).await;
    // Tidewatch knows the service by its telemetry.
    let now = otlp::now_nanos();
    otlp::post_metrics(&daemon.http, &otlp::gauge("shop", "queue", &[(now, 1.0)])).await;
    eventually("the service is known", || async {
        daemon
            .metric("tidewatch_service_mode{service=\"shop\",mode=\"normal\"}")
            .await
    })
    .await;
    let config = format!(
        "global: {{evaluation_interval: 200ms}}\nrule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: [\"{}\"]}}]}}]}}\n",
        daemon.api
    );
    let prometheus = Prometheus::start(&config, &rules("vector(0)"));
    let delivery = eventually("the alert is delivered", || async {
        hook.deliveries().first().cloned()
    })
    .await;
    let alert = &delivery.body["alerts"][0];
    assert_eq!(delivery.body["receiver"], "oncall");
    assert_eq!(alert["status"], "firing");
    assert_eq!(alert["labels"]["service"], "shop");
    assert_eq!(alert["annotations"]["summary"], "The shop is 0 open.");
    let explanation = alert["annotations"]["explanation"]
        .as_str()
        .expect("explained");
    assert!(
        explanation.starts_with("The shop is 0 open. Reported since "),
        "{explanation}"
    );
    let link = alert["generatorURL"].as_str().expect("a link");
    assert!(link.contains("/graph?g0.expr=vector%280%29"), "{link}");
    let mode = |mode: &'static str| {
        let daemon = &daemon;
        eventually(mode, move || async move {
            let state = daemon.get("/api/v1/modes/shop").await;
            (state["data"]["mode"] == mode).then_some(())
        })
    };
    let pulse = otlp::Pulse::of("shop", &daemon.http);
    mode("degraded").await;
    drop(pulse);

    // It is known again after a crash, before Prometheus has sent it again.
    let fingerprint = alert["fingerprint"]
        .as_str()
        .expect("a fingerprint")
        .to_owned();
    let daemon = daemon.kill_and_restart().await;
    let found = daemon.get(&format!("/api/v1/alerts/{fingerprint}")).await;
    assert_eq!(found["data"]["state"], "firing", "{found}");

    let now = otlp::now_nanos();
    otlp::post_metrics(&daemon.http, &otlp::gauge("shop", "queue", &[(now, 1.0)])).await;
    prometheus.reload(&rules("vector(0) > 1")).await;
    let resolved = |deliveries: Vec<crate::harness::hook::Delivery>| {
        let bodies = deliveries.into_iter().map(|delivery| delivery.body);
        bodies
            .filter(|body: &Value| body["status"] == "resolved")
            .count()
    };
    eventually("its end is delivered", || async {
        (resolved(hook.deliveries()) > 0).then_some(())
    })
    .await;
    let counted = daemon
        .metric("tidewatch_received_alerts_total{result=\"resolved\"}")
        .await;
    assert!(counted > Some(0.0), "{counted:?}");
    let _pulse = otlp::Pulse::of("shop", &daemon.http);
    eventually("the mode is normal again", || async {
        let state = daemon.get("/api/v1/modes/shop").await;
        (state["data"]["mode"] == "normal").then_some(())
    })
    .await;
}
