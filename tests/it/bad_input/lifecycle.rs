//! Rows 32 and 33: clients that leave, and a daemon that ends.

use std::process::Command;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, attack, header_block,
};
use super::grpc::{self, Call};
use super::http::Raw;
use super::make::{Metrics, gauge, number, text};
use super::{CONFIG, Counted, NO_RULES, Table, log_is_calm};
use crate::harness::otlp::now_nanos;
use crate::harness::{Daemon, eventually};

/// As many points in one request as show whether half of them was applied.
const POINTS: u64 = 200;

fn request(service: &str) -> Vec<u8> {
    let now = now_nanos();
    let points = (0..POINTS).map(|i| {
        let mut point = number(now, 1.0);
        point.attributes.push(text("i", &i.to_string()));
        point
    });
    Metrics::of(service)
        .metric(gauge("many", points.collect()))
        .encode()
}

/// Until nothing is in work and only `connections` are left.
async fn is_quiet(table: &Table, connections: f64) {
    eventually("the daemon is quiet", || async {
        let open = table.daemon.metric("tidewatch_otlp_connections").await;
        let bytes = table.daemon.metric("tidewatch_otlp_inflight_bytes").await;
        (open <= Some(connections) && bytes == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_32_clients_that_leave() {
    let config = format!("{CONFIG}\n{NO_RULES}");
    let mut table = Table::of(Daemon::start(&config).await).await;
    table.good_request("0").await;
    let before = table.counted().await;
    let body = request("left");
    let length = body.len().to_string();
    // In the middle of the body: nothing is applied, however much of it was there.
    for share in [0, 1, body.len() / 2, body.len() - 1] {
        let mut raw = Raw::connect(&table.daemon.http).await;
        raw.head(&[("Content-Length", &length)]).await;
        assert!(raw.send(&body[..share]).await);
        drop(raw);
        let mut raw = Raw::connect(&table.daemon.http).await;
        raw.head(&[("Transfer-Encoding", "chunked")]).await;
        let chunk = format!("{share:x}\r\n");
        if share > 0 {
            assert!(
                raw.send([chunk.as_bytes(), &body[..share], b"\r\n"].concat())
                    .await
            );
        }
        drop(raw);
        let mut connection = grpc::connect(&table.daemon.grpc)
            .await
            .ready()
            .await
            .expect("ready");
        let (_answer, mut sending) = connection
            .send_request(Call::raw(Vec::new()).request(), false)
            .expect("a stream");
        let message = grpc::framed(0, &body);
        sending
            .send_data(message[..share].to_vec().into(), false)
            .expect("sent");
        sending.send_reset(h2::Reason::CANCEL);
        drop((sending, connection));
    }
    is_quiet(&table, 3.0).await;
    assert_eq!(
        table.counted().await.since(&before),
        Counted::default(),
        "32: half a body"
    );
    table.good_request("32").await;

    // A whole request and a reset before the answer: all of it or nothing.
    for i in 0..10 {
        let body = request(&format!("reset {i}"));
        let mut stream = TcpStream::connect(&table.daemon.http)
            .await
            .expect("a connection");
        stream.set_zero_linger().expect("a socket");
        let head = format!(
            "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(&[head.as_bytes(), &body].concat())
            .await
            .expect("sent");
        drop(stream);
    }
    // Over gRPC the stream is reset in the same breath.
    for i in 0..10 {
        let message = grpc::framed(0, &request(&format!("cancelled {i}")));
        let frames = Frames::hello()
            .frame(HEADERS, END_HEADERS, 1, &header_block(&[]))
            .frame(DATA, END_STREAM, 1, &message)
            .frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        let outcome = attack(&table.daemon.grpc, frames.0, 0).await;
        assert!(!outcome.ended, "32: {outcome:?}");
    }
    // Connections are taken in turn: behind one that is answered there are none that wait.
    let mut last = Raw::connect(&table.daemon.http).await;
    last.head(&[("Content-Length", "0")]).await;
    assert_eq!(last.answer().await.expect("an answer").status, 200);
    drop(last);
    is_quiet(&table, 3.0).await;
    let after = table.counted().await.since(&before);
    assert_eq!(
        after.applied % POINTS,
        1,
        "32: one good request, and {after:?}"
    );
    assert!(
        after.rejected.is_empty() && after.late.is_empty(),
        "32: {after:?}"
    );
    let services = table.daemon.get("/api/v1/services").await;
    for service in services["data"].as_array().into_iter().flatten() {
        let series = service["series"].as_u64();
        let whole = service["service"] == "witness" || series == Some(POINTS);
        assert!(whole, "32: {service}");
    }
    table.finish("32").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_the_end_during_requests() {
    let mut table = Table::start().await;
    table.good_request("33").await;
    let body = request("last");
    let length = body.len().to_string();
    // Three requests that have begun: their heads are taken, their bodies are on the way.
    let mut begun = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(&table.daemon.http).await;
        raw.head(&[("Content-Length", &length)]).await;
        assert!(raw.send(&body[..body.len() / 2]).await);
        begun.push(raw);
    }
    let mut calling = grpc::connect(&table.daemon.grpc)
        .await
        .ready()
        .await
        .expect("ready");
    let (answer, mut sending) = calling
        .send_request(Call::raw(Vec::new()).request(), false)
        .expect("a stream");
    let message = grpc::framed(0, &request("last by gRPC"));
    sending
        .send_data(message[..100].to_vec().into(), false)
        .expect("sent");
    eventually("all of them are in work", || async {
        let bytes = table.daemon.metric("tidewatch_otlp_inflight_bytes").await;
        // Of the call the message counts, and not the five bytes before it.
        (bytes >= Some((body.len() / 2 * 3 + 95) as f64)).then_some(())
    })
    .await;

    let sent = Command::new("kill")
        .args(["-TERM", &table.daemon.pid().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
    // Not ready any more before the ports are closed: whoever is turned away there can have known.
    let ready = format!("http://{}/readyz", table.daemon.api);
    let said = eventually("the port is closed", || async {
        let closed = TcpStream::connect(&table.daemon.http).await.is_err();
        let answer = reqwest::get(&ready)
            .await
            .expect("the API is there to the end");
        let status = answer.status().as_u16();
        assert!(!closed || status == 503, "33: closed while {status}");
        closed.then_some((status, answer.text().await.expect("a reason")))
    })
    .await;
    assert_eq!(said, (503, "not ready: shutting down\n".to_owned()));

    // What has begun is finished, or put off.
    for mut raw in begun {
        assert!(raw.send(&body[body.len() / 2..]).await, "33: cut off");
        let answer = raw.answer().await.expect("33: an answer");
        match answer.status {
            200 => {}
            503 => assert!(answer.header("retry-after").is_some(), "33: {answer:?}"),
            other => panic!("33: {other}"),
        }
    }
    sending
        .send_data(message[100..].to_vec().into(), true)
        .expect("33: sent");
    let called = grpc::finish(answer).await;
    assert!(
        called.code == grpc::Code::Ok
            || called.code == grpc::Code::Unavailable && called.retry_delay().is_some(),
        "33: {called:?}"
    );
    let status = table.daemon.terminate().await;
    assert!(status.success(), "33: {status}");
    log_is_calm(&table.daemon.log());

    // What was answered 200 is there after a restart, once.
    let Table { daemon, .. } = table;
    let daemon = daemon.restart().await;
    let found = eventually("the series", || async {
        let found = daemon.series("{service=\"last\"}").await;
        (found.len() as u64 == POINTS).then_some(found.len())
    })
    .await;
    assert_eq!(found as u64, POINTS);
}
