//! One receiver with an integration for each way to fail, a fallback, and one that is well.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{RULE, TICK, high, receiver};
use crate::harness::hook::{Delivery, Hook};
use crate::harness::{Daemon, eventually};

/// What a server does with a request.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It takes the request and never answers.
    Hangs,
    /// It answers with this, and closes.
    Says(&'static str),
    /// It closes without an answer.
    Closes,
}

async fn faulty(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(misbehave(stream, fault));
        }
    });
    url
}

async fn misbehave(mut stream: TcpStream, fault: Fault) {
    let mut request = vec![0; 64 << 10];
    // Whether it is whole does not matter here.
    let Ok(_) = stream.read(&mut request).await else {
        return;
    };
    match fault {
        Fault::Hangs => std::future::pending().await,
        Fault::Closes => {}
        Fault::Says(answer) => drop(stream.write_all(answer.as_bytes()).await),
    }
}

/// A server with a certificate that nobody vouches for.
async fn unvouched() -> String {
    crate::harness::with_tls();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    url
}

fn about(deliveries: &[Delivery], alertname: &str) -> Vec<Delivery> {
    let of = |delivery: &&Delivery| delivery.body["commonLabels"]["alertname"] == alertname;
    deliveries.iter().filter(of).cloned().collect()
}

fn integration<'v>(view: &'v Value, name: &str) -> &'v Value {
    let all = view["integrations"].as_array().expect("integrations");
    let found = all.iter().find(|one| one["integration"] == name);
    found.unwrap_or_else(|| panic!("{name}: {view}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_at_the_fallback_and_delays_nobody() {
    let (good, spare, target) = (
        Hook::start().await,
        Hook::start().await,
        Hook::start().await,
    );
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        target.url
    );
    let faults = [
        faulty(Fault::Hangs).await,
        faulty(Fault::Says(
            "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        ))
        .await,
        faulty(Fault::Says(
            "HTTP/1.1 429 Slow\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
        ))
        .await,
        faulty(Fault::Says(
            "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
        ))
        .await,
        faulty(Fault::Closes).await,
        faulty(Fault::Says(
            "HTTP/1.1 502 Lies\r\ncontent-length: 100000\r\n\r\nshort",
        ))
        .await,
        faulty(Fault::Says(Box::leak(redirect.into_boxed_str()))).await,
        unvouched().await,
    ];
    let webhooks: String = faults
        .iter()
        .map(|url| format!("      - {{url: {url:?}, timeout: 300ms}}\n"))
        .collect();
    let daemon = Daemon::start(&format!(
        r#"{TICK}
{RULE}
route: {{receiver: oncall, group_by: [service], group_wait: 0}}
receivers:
  - name: oncall
    fallback: spare
    webhook_configs:
      - {{url: {:?}}}
{webhooks}
  - name: spare
    webhook_configs: [{{url: {:?}}}]
delivery:
  retry: {{initial: 50ms, max: 200ms, max_elapsed: 2s}}
"#,
        good.url, spare.url
    ))
    .await;
    daemon
        .post_metrics(&high([("checkout", String::new())]))
        .await;
    eventually("the one that is well is told", || async {
        (about(&good.deliveries(), "LevelHigh").len() == 1).then_some(())
    })
    .await;
    let view = eventually("all others have given up", || async {
        let view = receiver(&daemon, "oncall").await;
        let all = view["integrations"].as_array().expect("integrations");
        all.iter()
            .all(|one| one["pending"] == 0)
            .then_some(view.clone())
    })
    .await;
    let told = about(&good.deliveries(), "LevelHigh");
    let fallen = about(&spare.deliveries(), "LevelHigh");
    assert_eq!(fallen.len(), 1, "once, whoever failed");
    assert_eq!(fallen[0].header("webhook-id"), told[0].header("webhook-id"));
    assert!(target.deliveries().is_empty(), "a redirect is not followed");

    // (integration, delivered, fallen back, retried, breaker)
    for (name, delivered, fallen_back, retried, state) in [
        ("webhook[0]", 1, 0, false, "closed"),
        ("webhook[1]", 0, 1, true, "open"),
        ("webhook[2]", 0, 1, true, "open"),
        ("webhook[3]", 0, 1, true, "closed"),
        ("webhook[4]", 0, 1, false, "closed"),
        ("webhook[5]", 0, 1, true, "open"),
        ("webhook[6]", 0, 1, true, "open"),
        ("webhook[7]", 0, 1, false, "closed"),
        ("webhook[8]", 0, 1, true, "open"),
    ] {
        let one = integration(&view, name);
        let statistics = &one["statistics"];
        assert_eq!(statistics["delivered"], delivered, "{name}: {one:#}");
        assert_eq!(statistics["fallen_back"], fallen_back, "{name}: {one:#}");
        assert_eq!(
            statistics["retried"].as_u64() > Some(0),
            retried,
            "{name}: {one:#}"
        );
        assert_eq!(one["breaker"]["state"], state, "{name}: {one:#}");
        assert_eq!(one["trouble"].is_null(), delivered == 1, "{name}: {one:#}");
        assert_eq!(one["statistics"]["failed"], 0, "{name}: {one:#}");
    }
    assert!(
        integration(&view, "webhook[4]")["gone"].is_string(),
        "{view:#}"
    );
    assert_eq!(view["failing"], true);

    // Who fails is said to the fallback, and to nobody else.
    let own = eventually("the fallback hears of it", || async {
        about(&spare.deliveries(), "ReceiverFailing")
            .first()
            .cloned()
    })
    .await;
    let alert = &own.body["alerts"][0];
    assert_eq!(alert["labels"]["receiver"], "oncall", "{}", own.body);
    assert_eq!(alert["labels"]["severity"], "critical");
    let reason = alert["annotations"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("it answered 410 Gone"), "{reason}");
    assert!(about(&good.deliveries(), "ReceiverFailing").is_empty());
    let state = daemon
        .metric(r#"tidewatch_breaker_state{integration="webhook[2]",receiver="oncall"}"#)
        .await;
    assert_eq!(state, Some(2.0));
    let spared = daemon
        .metric(r#"tidewatch_notifications_total{receiver="spare",result="delivered"}"#)
        .await;
    assert_eq!(spared, Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_well_again_is_said_to_be() {
    let (hook, spare) = (Hook::start().await, Hook::start().await);
    hook.answer(&[500, 500, 500]);
    let daemon = Daemon::start(&format!(
        r#"{TICK}
{RULE}
route: {{receiver: oncall, group_by: [service], group_wait: 0}}
receivers:
  - {{name: oncall, fallback: spare, webhook_configs: [{{url: {:?}}}]}}
  - {{name: spare, webhook_configs: [{{url: {:?}}}]}}
delivery:
  retry: {{initial: 10ms}}
  breaker: {{failures: 3, successes: 1, open: 500ms}}
"#,
        hook.url, spare.url
    ))
    .await;
    daemon
        .post_metrics(&high([("checkout", String::new())]))
        .await;
    eventually("the fallback has both", || async {
        let deliveries = spare.deliveries();
        let both = ["LevelHigh", "ReceiverFailing"].map(|name| about(&deliveries, name).len());
        (both == [1, 1]).then_some(())
    })
    .await;
    // It needs something to be delivered, once the breaker lets it through.
    let mut round = 0;
    eventually("it is well again", || {
        round += 1;
        let service = format!("cart-{round}");
        let (daemon, spare) = (&daemon, &spare);
        async move {
            let series = [(service.as_str(), String::new())];
            daemon.post_metrics(&high(series)).await;
            let own = about(&spare.deliveries(), "ReceiverFailing");
            own.iter()
                .any(|one| one.body["status"] == "resolved")
                .then_some(())
        }
    })
    .await;
    assert_eq!(receiver(&daemon, "oncall").await["failing"], false);
    assert!(about(&hook.deliveries(), "ReceiverFailing").is_empty());
}
