//! Routes, inhibition and time intervals in a running daemon.

use std::collections::BTreeSet;

use crate::harness::hook::Hook;
use crate::harness::{Daemon, eventually, otlp};

const CONFIG: &str = r#"
window: {tick: 200ms}
rules: [{alert: TooHot, match: '{metric="temperature"}', detector: threshold, upper: 50, for: 1 of 1}]
route:
  receiver: everybody
  group_by: [service]
  group_wait: 100ms
  group_interval: 1s
  routes:
    - {matchers: [service = shop], receiver: shop, continue: true}
    - {matchers: ['service =~ "shop|store"'], receiver: trade}
    - {matchers: [service = night], receiver: shop, mute_time_intervals: [always]}
inhibit_rules:
  - source_matchers: [service = store]
    target_matchers: [service = cellar]
    equal: [alertname, metric]
time_intervals: [{name: always, time_intervals: [{}]}]
receivers:
  - {name: everybody, webhook_configs: [{url: "EVERYBODY"}]}
  - {name: shop, webhook_configs: [{url: "SHOP"}]}
  - {name: trade, webhook_configs: [{url: "TRADE"}]}
"#;

fn keys(hook: &Hook) -> BTreeSet<String> {
    let keys = hook.deliveries().into_iter();
    keys.map(|delivery| {
        delivery.body["groupKey"]
            .as_str()
            .expect("a key")
            .to_owned()
    })
    .collect()
}

#[tokio::test]
async fn a_daemon_routes_inhibits_and_mutes() {
    let (everybody, shop, trade) = (
        Hook::start().await,
        Hook::start().await,
        Hook::start().await,
    );
    let config = CONFIG
        .replace("EVERYBODY", &everybody.url)
        .replace("SHOP", &shop.url)
        .replace("TRADE", &trade.url);
    let daemon = Daemon::start(&config).await;
    let (daemon, trade) = (&daemon, &trade);
    let heat = |service: &'static str| async move {
        let point = otlp::gauge(service, "temperature", &[(otlp::now_nanos(), 60.0)]);
        otlp::post_metrics(&daemon.http, &point).await;
    };
    // What inhibits comes first.
    eventually("the store is told", || async {
        heat("store").await;
        (!trade.deliveries().is_empty()).then_some(())
    })
    .await;
    let muted = |by: &'static str| async move {
        let name = format!("tidewatch_alerts_muted{{by=\"{by}\"}}");
        daemon.metric(&name).await == Some(1.0)
    };
    eventually("all are told", || async {
        for service in ["store", "shop", "night", "cellar", "other"] {
            heat(service).await;
        }
        let told = [&everybody, &shop]
            .iter()
            .all(|hook| !hook.deliveries().is_empty());
        let all = told && trade.deliveries().len() > 1;
        (all && muted("inhibition").await && muted("time_interval").await).then_some(())
    })
    .await;
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    let expected: BTreeSet<String> = set(&[r#"{}:{service="other"}"#]);
    assert_eq!(keys(&everybody), expected);
    let expected: BTreeSet<String> = set(&[r#"{}/{service="shop"}:{service="shop"}"#]);
    assert_eq!(keys(&shop), expected);
    let expected: BTreeSet<String> = set(&[
        r#"{}/{service=~"shop|store"}:{service="shop"}"#,
        r#"{}/{service=~"shop|store"}:{service="store"}"#,
    ]);
    assert_eq!(keys(trade), expected);
    let groups = daemon.metric("tidewatch_notification_groups").await;
    assert_eq!(groups, Some(6.0));
}
