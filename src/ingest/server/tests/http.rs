use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;

use super::*;
use crate::ingest::otlp::answer::{RetryInfo, RpcStatus};
use crate::ingest::{Auth, Cause};

#[tokio::test]
async fn both_encodings_and_all_compressions_are_taken() {
    let server = start(settings()).await;
    let body = protobuf(2);
    for (headers, body) in [
        (vec![PROTOBUF], body.clone()),
        (
            vec![("content-type", "Application/X-Protobuf; charset=utf-8")],
            body.clone(),
        ),
        (vec![PROTOBUF, GZIP], gzip(&body)),
        (vec![PROTOBUF, ("content-encoding", "GZIP")], gzip(&body)),
        (vec![PROTOBUF, ZSTD], zstd(&body)),
        (
            vec![PROTOBUF, ("content-encoding", "identity")],
            body.clone(),
        ),
    ] {
        let answer = server.post("/v1/metrics", &headers, body).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, PROTOBUF.1)
        );
        assert_eq!(answer.body, b"");
    }
    assert_eq!(server.sink.applied(), 12);
    for (headers, body) in [
        (vec![AS_JSON], JSON.as_bytes().to_vec()),
        (
            vec![("content-type", "Application/JSON; charset=utf-8")],
            JSON.as_bytes().to_vec(),
        ),
        (vec![AS_JSON, GZIP], gzip(JSON.as_bytes())),
        (vec![AS_JSON, ZSTD], zstd(JSON.as_bytes())),
    ] {
        let answer = server.post("/v1/metrics", &headers, body).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, AS_JSON.1)
        );
        assert_eq!(answer.text(), "{}");
    }
    assert_eq!(server.sink.applied(), 16);
    let trace = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10",
        "spanId":"0102030405060708","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;
    assert_eq!(
        server.post("/v1/traces", &[AS_JSON], trace).await.text(),
        "{}"
    );
    assert_eq!(server.sink.applied(), 17);
    assert_eq!(server.requests("http", "200"), 11);
    server.end().await;
}

#[tokio::test]
async fn what_is_refused_of_a_request_is_told_exactly() {
    let server = start(settings()).await;
    let mut request = request(3);
    let pb::metric::Data::Gauge(gauge) = request.resource_metrics[0].scope_metrics[0].metrics[0]
        .data
        .as_mut()
        .unwrap()
    else {
        panic!("not a gauge");
    };
    gauge.data_points[0].time_unix_nano = 0;
    gauge.data_points[1].time_unix_nano = u64::MAX;
    let answer = server.post_protobuf(request.encode_to_vec()).await;
    assert_eq!(answer.status, 200);
    let partial = ExportMetricsServiceResponse::decode(&*answer.body)
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(partial.rejected_data_points, 2);
    assert!(
        partial.error_message.contains("no_time: 1"),
        "{}",
        partial.error_message
    );
    assert_eq!(server.sink.applied(), 1);
    let rejected = |reason| server.telemetry.rejected.with_label_values(&[reason]).get();
    assert_eq!((rejected("no_time"), rejected("future")), (1, 1));
    // All of it refused is still a 200 that is not tried again.
    let none = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{}]}}]}]}]}"#;
    let answer = server.post("/v1/metrics", &[AS_JSON], none).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains(r#""rejectedDataPoints":"1""#),
        "{}",
        answer.text()
    );
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn paths_methods_and_media_types() {
    let server = start(settings()).await;
    for path in [
        "/",
        "/v1/logs",
        "/v1development/profiles",
        "/v1/metrics/",
        "/V1/metrics",
    ] {
        let answer = server.post(path, &[PROTOBUF], protobuf(1)).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(RpcStatus::decode(&*answer.body).unwrap().code, 12);
    }
    for method in [
        reqwest::Method::GET,
        reqwest::Method::PUT,
        reqwest::Method::OPTIONS,
    ] {
        let answer = server.send(method, "/v1/metrics", &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    for media_type in ["text/plain", "application/xml", "json", ""] {
        let answer = server
            .post("/v1/metrics", &[("content-type", media_type)], JSON)
            .await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (415, "text/plain; charset=utf-8")
        );
    }
    assert_eq!(server.post("/v1/metrics", &[], JSON).await.status, 415);
    for encoding in ["br", "deflate", "gzip, gzip"] {
        let headers = [AS_JSON, ("content-encoding", encoding)];
        let answer = server.post("/v1/metrics", &headers, JSON).await;
        assert_eq!(
            (answer.status, answer.header("accept-encoding")),
            (415, "gzip, zstd")
        );
        assert!(answer.text().starts_with('{'), "{}", answer.text());
    }
    assert_eq!(server.sink.applied(), 0);
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn broken_bodies_rows_1_5_6_8() {
    let server = start(settings()).await;
    let good = gzip(&protobuf(1));
    let mut wrong_crc = good.clone();
    let at = wrong_crc.len() - 8;
    wrong_crc[at] ^= 1;
    for (headers, body) in [
        (vec![PROTOBUF], b"\xff\xff\xff\xff random".to_vec()),
        (vec![PROTOBUF], JSON.as_bytes().to_vec()),
        (vec![AS_JSON], protobuf(1)),
        (vec![AS_JSON], Vec::new()),
        (vec![AS_JSON], b"null".to_vec()),
        (vec![AS_JSON, GZIP], gzip(b"")),
        (
            vec![PROTOBUF, GZIP],
            b"\x1f\x8b\x08\x00garbage and more garbage".to_vec(),
        ),
        (vec![PROTOBUF, GZIP], protobuf(1)),
        (vec![PROTOBUF, GZIP], Vec::new()),
        (vec![PROTOBUF, GZIP], good[..good.len() - 9].to_vec()),
        (vec![PROTOBUF, GZIP], good[..good.len() - 1].to_vec()),
        (vec![PROTOBUF, GZIP], wrong_crc),
        (vec![PROTOBUF, GZIP], gzip(&good)),
        (vec![PROTOBUF, ZSTD], b"garbage".to_vec()),
        (vec![PROTOBUF, ZSTD], Vec::new()),
        (vec![PROTOBUF, ZSTD], zstd(&protobuf(1))[..10].to_vec()),
    ] {
        let answer = server.post("/v1/metrics", &headers, body.clone()).await;
        assert_eq!(answer.status, 400, "{headers:?} {body:?}");
        assert_eq!(answer.header("content-type"), headers[0].1);
        if headers[0] == AS_JSON {
            assert!(
                answer.text().starts_with(r#"{"code":3,"message":""#),
                "{}",
                answer.text()
            );
        } else {
            let status = RpcStatus::decode(&*answer.body).unwrap();
            assert!(status.code == 3 && !status.message.is_empty());
        }
    }
    assert_eq!(server.sink.applied(), 0);
    for (body, points) in [
        (gzip(b""), 0),
        ([gzip(&protobuf(1)), gzip(&protobuf(2))].concat(), 3),
    ] {
        let before = server.sink.applied();
        assert_eq!(
            server
                .post("/v1/metrics", &[PROTOBUF, GZIP], body)
                .await
                .status,
            200
        );
        assert_eq!(server.sink.applied(), before + points);
    }
    let frames = [zstd(&protobuf(1)), zstd(&protobuf(1))].concat();
    assert_eq!(
        server
            .post("/v1/metrics", &[PROTOBUF, ZSTD], frames)
            .await
            .status,
        200
    );
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn bombs_and_large_bodies_rows_7_9() {
    let server = start(settings()).await;
    let zeros = vec![0; LIMIT + 1];
    let half = gzip(&vec![0; LIMIT / 2 + 1]);
    for (headers, body) in [
        (vec![PROTOBUF], zeros.clone()),
        (vec![PROTOBUF, GZIP], gzip(&zeros)),
        (vec![PROTOBUF, GZIP], [half.clone(), half].concat()),
        (vec![PROTOBUF, ZSTD], zstd(&zeros)),
    ] {
        let answer = server.post("/v1/metrics", &headers, body).await;
        assert_eq!(answer.status, 413);
        assert_eq!(RpcStatus::decode(&*answer.body).unwrap().code, 8);
        assert_eq!(answer.header("retry-after"), "");
    }
    // Without Content-Length.
    let pieces = (0..17).map(|_| Ok::<_, std::io::Error>(vec![0_u8; 64 << 10]));
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    assert_eq!(
        server.post("/v1/metrics", &[PROTOBUF], stream).await.status,
        413
    );
    // The limit itself is allowed: here it is just not protobuf.
    assert_eq!(server.post_protobuf(vec![0; LIMIT]).await.status, 400);
    assert_eq!(server.admission.inflight_bytes(), 0);
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_answered_before_the_body() {
    let server = start(settings()).await;
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        LIMIT + 1
    );
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    drop(stream);
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn refusals_that_pass_row_by_row() {
    let server = start(settings()).await;
    for cause in [Cause::Starting, Cause::Memory, Cause::Stopping] {
        server.admission.refuse(cause);
        let answer = server.post("/v1/metrics", &[AS_JSON], JSON).await;
        assert_eq!(answer.status, 503);
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds));
        assert!(answer.text().contains(cause.reason()), "{}", answer.text());
        server.admission.allow(cause);
    }
    server.sink.set(Mood::Refuse(Refused::Retryable {
        after: Duration::from_millis(500),
        reason: "a shard is busy".into(),
    }));
    let answer = server.post_protobuf(protobuf(1)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    let status = RpcStatus::decode(&*answer.body).unwrap();
    assert_eq!((status.code, &*status.message), (14, "a shard is busy"));
    let retry = RetryInfo::decode(&*status.details[0].value).unwrap();
    assert_eq!(retry.retry_delay.unwrap().seconds, 1);

    server
        .sink
        .set(Mood::Refuse(Refused::Internal("a secret".into())));
    let answer = server.post("/v1/metrics", &[AS_JSON], JSON).await;
    assert_eq!(answer.status, 500);
    assert!(!answer.text().contains("secret"));

    server.sink.set(Mood::Panic);
    assert_eq!(server.post_protobuf(protobuf(1)).await.status, 500);
    assert_eq!(server.telemetry.panics.get(), 1);
    assert_eq!(server.sink.applied(), 0);
    server.sink.set(Mood::Apply);
    assert_eq!(server.post_protobuf(protobuf(1)).await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn bytes_in_work_have_a_budget() {
    let server = start(Settings {
        inflight_bytes: 20_000,
        ..settings()
    })
    .await;
    server.sink.close_gate();
    let body = protobuf(200);
    let url = format!("http://{}/v1/metrics", server.http);
    let first = tokio::spawn(
        reqwest::Client::new()
            .post(url)
            .header(PROTOBUF.0, PROTOBUF.1)
            .body(body.clone())
            .send(),
    );
    eventually(|| server.sink.waiting.load(Ordering::SeqCst) == 1).await;
    assert!(server.telemetry.inflight_bytes.get() > 20_000);
    // Compressed bytes count as what they become; an empty request needs no room.
    let zeros = gzip(&[0; 4096]);
    assert_eq!(
        server
            .post("/v1/metrics", &[PROTOBUF, GZIP], zeros)
            .await
            .status,
        503
    );
    assert_eq!(server.post_protobuf(body).await.status, 503);
    assert_eq!(server.post_protobuf(Vec::new()).await.status, 200);
    server.sink.open_gate();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn credentials() {
    let auth = Some(Auth {
        bearer: vec!["sesame".into()],
        ..Auth::default()
    });
    let server = start(Settings { auth, ..settings() }).await;
    for headers in [
        vec![AS_JSON],
        vec![AS_JSON, ("authorization", "Bearer wrong")],
    ] {
        let answer = server.post("/v1/metrics", &headers, JSON).await;
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        assert!(
            answer.text().starts_with(r#"{"code":16"#),
            "{}",
            answer.text()
        );
    }
    let headers = [AS_JSON, ("authorization", "Bearer sesame")];
    assert_eq!(server.post("/v1/metrics", &headers, JSON).await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn browsers_of_known_origins_may_send() {
    let cors_origins = vec!["https://shop.example".to_owned()];
    let cors_headers = vec!["x-team".to_owned()];
    let server = start(Settings {
        cors_origins,
        cors_headers,
        ..settings()
    })
    .await;
    let origin = ("origin", "https://shop.example");
    let headers = [origin, ("access-control-request-method", "POST")];
    let answer = server
        .send(reqwest::Method::OPTIONS, "/v1/metrics", &headers, "")
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), origin.1);
    assert_eq!(answer.header("access-control-allow-methods"), "POST");
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "content-type, content-encoding, x-team"
    );
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let answer = server.post("/v1/metrics", &[AS_JSON, origin], JSON).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, origin.1)
    );
    let stranger = [AS_JSON, ("origin", "https://evil.example")];
    let answer = server.post("/v1/metrics", &stranger, JSON).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    server.end().await;
}

#[tokio::test]
async fn http2_works_on_the_same_port() {
    let server = start(settings()).await;
    let stream = TcpStream::connect(server.http).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let head = ::http::Request::post(format!("http://{}/v1/metrics", server.http))
            .header(AS_JSON.0, AS_JSON.1)
            .body(())
            .unwrap();
        let (answer, mut body) = client.send_request(head, false).unwrap();
        body.send_data(JSON.into(), true).unwrap();
        assert_eq!(within(answer).await.unwrap().status(), 200);
    }
    assert_eq!(server.sink.applied(), 3);
    drop(client);
    server.end().await;
}
