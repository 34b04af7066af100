//! Ten thousand alerts at once.

use super::{RULE, high, pending, quiet};
use crate::harness::eventually;
use crate::harness::hook::Hook;

const SERVICES: usize = 40;
const ALERTS: usize = 10_000;

/// The most memory that a process has had, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.expect("VmHWM") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_alerts_become_grouped_notifications_with_counts() {
    let hook = Hook::start().await;
    let daemon = quiet(&format!(
        r#"
window: {{tick: 5s, samples: 10}}
{RULE}
route: {{receiver: oncall, group_by: [service], group_wait: 5s, group_interval: 5s}}
receivers: [{{name: oncall, webhook_configs: [{{url: {:?}}}]}}]
"#,
        hook.url
    ))
    .await;
    let before = peak_memory(daemon.pid());
    let requests = (0..SERVICES).map(|service| {
        let name = format!("service-{service}");
        let parts = 0..ALERTS / SERVICES;
        high(parts.map(|part| (name.as_str(), format!("part-{part}"))))
    });
    let requests: Vec<_> = requests.collect();
    let began = tokio::time::Instant::now();
    for request in &requests {
        daemon.post_metrics(request).await;
    }
    eventually("all fire", || async {
        // A scrape would be work of its own, with ten thousand signals.
        let services = daemon.get("/api/v1/services").await;
        let services = services["data"].as_array().expect("services");
        let firing = services
            .iter()
            .filter_map(|service| service["alerts"]["firing"].as_u64());
        (firing.sum::<u64>() == ALERTS as u64).then_some(())
    })
    .await;
    let fired = began.elapsed();
    let alerted = peak_memory(daemon.pid()).saturating_sub(before);
    let told = eventually("all are told", || async {
        let deliveries = hook.deliveries();
        let mut last = std::collections::BTreeMap::new();
        for delivery in &deliveries {
            let alerts = delivery.body["alerts"].as_array().expect("alerts").len() as u64;
            assert!(alerts <= 100, "no body without bound");
            let more = delivery.body["truncatedAlerts"].as_u64().expect("a count");
            last.insert(delivery.body["groupKey"].to_string(), alerts + more);
        }
        (last.values().sum::<u64>() == ALERTS as u64).then_some(deliveries.len())
    })
    .await;
    eventually("the outbox is empty", || async {
        (pending(&daemon, "oncall").await == 0).then_some(())
    })
    .await;
    let grown = peak_memory(daemon.pid()).saturating_sub(before);
    let largest = hook.deliveries().iter().map(|d| d.raw.len()).max();
    eprintln!(
        "{ALERTS} alerts fired after {fired:.1?} and were told by {told} notifications after {:.1?}; \
         the largest has {} KiB; memory grew by {} MiB, by {} MiB for \
         the alerts themselves",
        began.elapsed(),
        largest.unwrap_or(0) >> 10,
        grown >> 20,
        alerted >> 20,
    );
    assert!(told <= 3 * SERVICES, "{told} notifications");
    let delivering = grown.saturating_sub(alerted);
    assert!(delivering < 200 << 20, "{} MiB", delivering >> 20);
    assert!(grown < 1 << 30, "{} MiB", grown >> 20);
}
