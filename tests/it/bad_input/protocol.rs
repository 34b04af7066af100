//! What every request is answered that is not about its content: paths, methods, media types,
//! credentials, foreign pages, overload; and OTLP's own JSON.

use base64::Engine as _;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, logs_service_client::LogsServiceClient,
};
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use prost::Message as _;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::grpc::{self, Call, Code};
use super::http::Raw;
use super::make::{CUMULATIVE, Metrics, good, histogram, span, traces};
use super::{Body, Counted, JSON, NO_RULES, PROTOBUF, Table};
use crate::harness::otlp::{self, now_nanos};
use crate::harness::{Daemon, eventually, root};

async fn ask(
    table: &Table,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (u16, HeaderMap, Vec<u8>) {
    let url = format!("http://{}{path}", table.daemon.http);
    let mut request = table.client.request(method, url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    (
        status,
        headers,
        answer.bytes().await.expect("all of it").to_vec(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_methods_and_media_types() {
    let table = Table::start().await;
    for path in [
        "/",
        "/v1/logs",
        "/v1development/profiles",
        "/v1/metrics/",
        "/v1/metricsx",
        "/v1",
        "/V1/METRICS",
        "/..%2fv1/metrics",
    ] {
        for (media_type, reads) in [(PROTOBUF, true), (JSON, true), ("text/xml", false)] {
            let headers = [("content-type", media_type)];
            let (status, answered, body) =
                ask(&table, Method::POST, path, &headers, Vec::new()).await;
            assert_eq!(status, 404, "{path}");
            let said = answered["content-type"].to_str().expect("ASCII");
            assert_eq!(
                said,
                if reads {
                    media_type
                } else {
                    "text/plain; charset=utf-8"
                }
            );
            match media_type {
                PROTOBUF => {
                    let status = grpc::Status::decode(&*body).expect("a status");
                    assert!(!status.message.is_empty());
                }
                JSON => {
                    let status: Value = serde_json::from_slice(&body).expect("a status");
                    assert!(status["message"].is_string() && status["code"].is_number());
                }
                _ => assert!(!body.is_empty()),
            }
            // Only what is retried forever asks to be retried.
            assert!(answered.get("retry-after").is_none());
        }
    }
    for method in [
        Method::GET,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
    ] {
        for path in ["/v1/metrics", "/v1/traces"] {
            let (status, headers, _) = ask(&table, method.clone(), path, &[], Vec::new()).await;
            assert_eq!(status, 405, "{method} {path}");
            assert_eq!(headers["allow"], "POST", "{method} {path}");
        }
    }
    // The media type is compared without case and parameters; headers nobody knows are nobody's affair.
    for media_type in [
        "application/x-protobuf",
        "Application/X-Protobuf",
        "application/x-protobuf; proto=otlp",
        " application/x-protobuf ;x",
    ] {
        let before = table.counted().await;
        let headers = [
            ("content-type", media_type),
            ("user-agent", "\"; DROP TABLE"),
            ("x-scope-orgid", "somebody"),
            ("content-encoding", "identity"),
        ];
        let body = good("shop", "media.type");
        let (status, _, _) = ask(&table, Method::POST, "/v1/metrics", &headers, body).await;
        assert_eq!(status, 200, "{media_type}");
        assert_eq!(table.counted().await.since(&before), Counted::applied(1));
    }
    for media_type in [
        "Application/JSON; charset=utf-8",
        "application/json",
        "APPLICATION/JSON;odata=verbose",
    ] {
        let headers = [("content-type", media_type)];
        let (status, headers, body) =
            ask(&table, Method::POST, "/v1/traces", &headers, b"{}".to_vec()).await;
        assert_eq!((status, body.as_slice()), (200, &b"{}"[..]), "{media_type}");
        assert_eq!(headers["content-type"], JSON);
    }
    // HTTP/2 without TLS, on the port of HTTP/1.1.
    let mut both = grpc::connect(&table.daemon.http)
        .await
        .ready()
        .await
        .expect("ready");
    let request = http::Request::post("http://tidewatch/v1/metrics")
        .header("content-type", PROTOBUF)
        .body(())
        .expect("a request");
    let (answer, mut sending) = both.send_request(request, false).expect("a stream");
    sending
        .send_data(good("shop", "http2").into(), true)
        .expect("sent");
    assert_eq!(answer.await.expect("an answer").status(), 200);
    table.finish("paths and methods").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grpc_does_not_have() {
    let mut table = Table::start().await;
    let mut logs = LogsServiceClient::connect(format!("http://{}", table.daemon.grpc))
        .await
        .expect("a connection");
    let status = logs
        .export(ExportLogsServiceRequest::default())
        .await
        .expect_err("no logs");
    assert_eq!(status.code(), Code::Unimplemented);
    for path in [
        "/",
        "/a/b",
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Import",
    ] {
        let called = table.grpc.call(Call::metrics([]).to(path)).await;
        assert_eq!(
            (called.http, called.code),
            (200, Code::Unimplemented),
            "{path}"
        );
    }
    // Metadata nobody knows is ignored, and a deadline is kept.
    let call = Call::metrics(good("shop", "metadata")).header("x-tenant", "somebody");
    assert_eq!(table.grpc.call(call).await.code, Code::Ok);
    let call = Call::metrics(good("shop", "deadline")).header("grpc-timeout", "1M");
    assert_eq!(table.grpc.call(call).await.code, Code::Ok);
    let (answer, mut sending) = grpc::connect(&table.daemon.grpc)
        .await
        .ready()
        .await
        .expect("ready")
        .send_request(
            Call::raw(Vec::new())
                .header("grpc-timeout", "200m")
                .request(),
            false,
        )
        .expect("a stream");
    let start = tokio::time::Instant::now();
    sending
        .send_data(vec![0, 0, 0].into(), false)
        .expect("sent");
    assert_eq!(grpc::finish(answer).await.code, Code::DeadlineExceeded);
    let took = start.elapsed().as_millis();
    assert!((150..20_000).contains(&took), "{took} ms");
    for nonsense in ["", "1", "S", "123456789S", "-1S", "1x"] {
        let call = Call::metrics([]).header("grpc-timeout", nonsense);
        assert_eq!(
            table.grpc.call(call).await.code,
            Code::InvalidArgument,
            "{nonsense:?}"
        );
    }
    // What is not gRPC at all.
    let call = Call::metrics([]).header("content-type", "application/json");
    assert_eq!(table.grpc.call(call).await.http, 415);
    let mut raw = Raw::connect(&table.daemon.grpc).await;
    assert!(
        raw.send("POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            .await
    );
    raw.closed().await;
    // Both compressions of a real client, and each one's own answer.
    for encoding in [
        tonic::codec::CompressionEncoding::Gzip,
        tonic::codec::CompressionEncoding::Zstd,
    ] {
        let mut client = grpc::metrics_client(&table.daemon.grpc)
            .await
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let request = Metrics::of("shop")
            .gauge("compressed", &[(now_nanos(), 1.0)])
            .request();
        let answer = client.export(request).await.expect("taken").into_inner();
        assert_eq!(answer.partial_success, None);
    }
    table.finish("gRPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials() {
    let auth =
        r#"auth: {bearer: "${env:TOKEN}", basic: {username: "me", password: "${env:PASSWORD}"}}"#;
    let env = [("TOKEN", "sesame-opens"), ("PASSWORD", "pa:ss-word")];
    let daemon = Daemon::start_otlp("127.0.0.1:0", auth, super::CONFIG, &env).await;
    let mut table = Table::of(daemon).await;
    let basic = |text: &str| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        format!("Basic {encoded}")
    };
    let right = [
        "Bearer sesame-opens".to_owned(),
        "bearer sesame-opens".to_owned(),
        basic("me:pa:ss-word"),
    ];
    let wrong = [
        String::new(),
        "Bearer sesame-open".to_owned(),
        "Bearer sesame-openss".to_owned(),
        "Bearer ".to_owned(),
        "sesame-opens".to_owned(),
        "Basic sesame-opens".to_owned(),
        basic("me:wrong"),
        basic("you:pa:ss-word"),
        basic("me"),
        "Basic ????".to_owned(),
    ];
    let before = table.counted().await;
    for value in &wrong {
        let mut headers = vec![("content-type", PROTOBUF)];
        if !value.is_empty() {
            headers.push(("authorization", value));
        }
        let (status, headers, body) = ask(
            &table,
            Method::POST,
            "/v1/metrics",
            &headers,
            good("shop", "locked"),
        )
        .await;
        assert_eq!(status, 401, "{value}");
        assert!(headers.get("www-authenticate").is_some(), "{value}");
        let status = grpc::Status::decode(&*body).expect("a status");
        assert_eq!(status.code, Code::Unauthenticated as i32);
        let mut call = Call::metrics(good("shop", "locked"));
        if !value.is_empty() {
            call = call.header("authorization", Box::leak(value.clone().into_boxed_str()));
        }
        assert_eq!(
            table.grpc.call(call).await.code,
            Code::Unauthenticated,
            "{value}"
        );
    }
    assert_eq!(table.counted().await.since(&before), Counted::default());
    for value in &right {
        let headers = [("content-type", PROTOBUF), ("authorization", value)];
        let (status, _, _) = ask(
            &table,
            Method::POST,
            "/v1/metrics",
            &headers,
            good("shop", "open"),
        )
        .await;
        assert_eq!(status, 200, "{value}");
        let call = Call::metrics(good("shop", "open"))
            .header("authorization", Box::leak(value.clone().into_boxed_str()));
        assert_eq!(table.grpc.call(call).await.code, Code::Ok, "{value}");
    }
    assert_eq!(table.counted().await.since(&before), Counted::applied(6));
    let shown = [
        table.daemon.log(),
        table.daemon.text("/metrics").await,
        table.daemon.get("/api/v2/status").await.to_string(),
    ];
    for text in shown {
        assert!(
            !text.contains("sesame") && !text.contains("ss-word"),
            "a secret in {text}"
        );
    }
    super::is_sound(&table.daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_in_browsers() {
    let origin = |name: &'static str| [("origin", name), ("content-type", PROTOBUF)];
    // Off unless it is configured.
    let table = Table::start().await;
    let (status, headers, _) = ask(
        &table,
        Method::POST,
        "/v1/metrics",
        &origin("https://a.example"),
        Vec::new(),
    )
    .await;
    assert_eq!(status, 200);
    assert!(
        headers
            .keys()
            .all(|name| !name.as_str().starts_with("access-control"))
    );
    table.finish("without CORS").await;

    let table = Table::start_otlp(
        r#"cors: {allowed_origins: ["https://a.example", "http://b.example:8080"]}"#,
        "",
    )
    .await;
    for (name, allowed) in [
        ("https://a.example", true),
        ("http://b.example:8080", true),
        ("http://a.example", false),
        ("https://a.example.evil.example", false),
        ("https://a.example:443", false),
        ("null", false),
    ] {
        let preflight = [
            ("origin", name),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        for (method, headers, promised) in [
            (Method::OPTIONS, &preflight[..], 204),
            (Method::POST, &origin(name)[..], 200),
            (Method::GET, &origin(name)[..], 405),
        ] {
            let (status, headers, _) =
                ask(&table, method.clone(), "/v1/traces", headers, Vec::new()).await;
            assert_eq!(status, promised, "{method} from {name}");
            let said = headers
                .get("access-control-allow-origin")
                .map(|value| value.to_str().expect("ASCII"));
            assert_eq!(said, allowed.then_some(name), "{method} from {name}");
            assert!(headers.get("access-control-allow-credentials").is_none());
            assert_eq!(headers["vary"], "Origin");
            if method == Method::OPTIONS {
                assert_eq!(headers["access-control-allow-methods"], "POST");
                assert_eq!(
                    headers["access-control-allow-headers"],
                    "content-type, content-encoding"
                );
            }
        }
    }
    table.finish("CORS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_work_have_one_budget() {
    // A quarter of it is for requests in work.
    let mut table = Table::start_otlp("", "limits: {memory: 256MiB}").await;
    table.good_request("0").await;
    let mut holding = Raw::connect(&table.daemon.http).await;
    let half = 60 << 20;
    holding
        .head(&[("Content-Length", &(63 << 20).to_string())])
        .await;
    let piece = vec![0x0a; 1 << 20];
    for _ in 0..60 {
        assert!(holding.send(&piece).await);
    }
    eventually("its bytes are counted", || async {
        let bytes = table.daemon.metric("tidewatch_otlp_inflight_bytes").await;
        (bytes == Some(f64::from(half))).then_some(())
    })
    .await;
    let before = table.counted().await;
    let request = super::make::good_of_length(6 << 20);
    for encoding in [None, Some("zstd")] {
        let body = Body {
            encoding,
            ..Body::protobuf(
                encoding.map_or_else(|| request.clone(), |_| super::make::zstd(&request)),
            )
        };
        let (status, headers, answer) = table.post(&body).await;
        assert_eq!(status, 503);
        let wait: u64 = headers["retry-after"]
            .to_str()
            .ok()
            .and_then(|s| s.parse().ok())
            .expect("seconds");
        assert!((1..=30).contains(&wait), "{wait}");
        let status = grpc::Status::decode(&*answer).expect("a status");
        assert_eq!(status.code, Code::Unavailable as i32);
        let mut call = Call::metrics(body.bytes);
        if let Some(encoding) = encoding {
            call = call.encoded(encoding);
        }
        let called = table.grpc.call(call).await;
        assert_eq!(called.code, Code::Unavailable, "{called:?}");
        let wait = called.retry_delay().expect("RetryInfo");
        assert!((1..=30).contains(&wait), "{wait}");
    }
    assert_eq!(
        table.counted().await.since(&before),
        Counted::default(),
        "nothing of it is applied"
    );
    // What is small enough finds room all the while, and the rest once there is room again.
    table.good_request("budget").await;
    drop(holding);
    eventually("there is room", || async {
        let (status, _, _) = table.post(&Body::protobuf(request.clone())).await;
        (status == 200).then_some(())
    })
    .await;
    table.finish("budget").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_has_a_soft_limit() {
    let mut table = Table::start_otlp("", &format!("limits: {{memory: 96MiB}}\n{NO_RULES}")).await;
    table.good_request("0").await;
    // Histograms of thousands of buckets, which are kept to be compared with the next point.
    let point = HistogramDataPoint {
        start_time_unix_nano: now_nanos(),
        time_unix_nano: now_nanos() + 1,
        count: 4096,
        bucket_counts: vec![1; 4096],
        explicit_bounds: (0..4095).map(f64::from).collect(),
        ..HistogramDataPoint::default()
    };
    let mut sent = 0;
    let refused = loop {
        let mut request = Metrics::of("large");
        for _ in 0..16 {
            sent += 1;
            let metric = histogram(&format!("h{sent}"), CUMULATIVE, vec![point.clone()]);
            request = request.metric(metric);
        }
        let before = table.counted().await;
        let body = request.encode();
        let (status, headers, _) = table.post(&Body::protobuf(body.clone())).await;
        let after = table.counted().await.since(&before);
        assert!(sent < 10_000, "memory never reaches its limit");
        match status {
            200 => assert_eq!(after, Counted::applied(16)),
            503 => {
                assert_eq!(after, Counted::default(), "nothing of it is applied");
                let wait = headers["retry-after"]
                    .to_str()
                    .ok()
                    .and_then(|s| s.parse().ok());
                assert!(wait.is_some_and(|wait: u64| (1..=30).contains(&wait)));
                break body;
            }
            other => panic!("{other}"),
        }
    };
    let called = table.grpc.call(Call::metrics(refused)).await;
    assert_eq!(called.code, Code::Unavailable, "{called:?}");
    assert!(
        called
            .retry_delay()
            .is_some_and(|wait| (1..=30).contains(&wait))
    );
    let resident = super::memory(&table.daemon, "VmRSS");
    assert!(resident < 128 << 20, "{resident} bytes");
    super::is_sound(&table.daemon).await;
}

/// One of the files that the protocol gives as examples.
fn example(name: &str) -> String {
    let path = root().join("src/ingest/otlp/testdata").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_protocol() {
    let table = Table::start().await;
    // Their times are of 2018, so their points are late; what they say is understood all the same.
    for (name, signal, late) in [
        ("metrics.json", "metrics", 4),
        ("trace.json", "traces", 1),
        ("logs.json", "traces", 0),
        ("events.json", "metrics", 0),
    ] {
        let before = table.counted().await;
        let mut body = Body::json(example(name));
        body.signal = signal;
        let (status, _, answer) = table.post(&body).await;
        assert_eq!((status, answer.as_slice()), (200, &b"{}"[..]), "{name}");
        let after = table.counted().await.since(&before);
        let expected = if late > 0 {
            Counted::late("late", late)
        } else {
            Counted::default()
        };
        assert_eq!(after, expected, "{name}");
    }
    // The same with the times of now.
    let now = now_nanos();
    let fresh = |text: String| {
        let times = regex::Regex::new(r#""1544712660\d{9}"|"1544712661\d{9}""#).expect("a pattern");
        let text = times.replace_all(&text, format!("\"{now}\"")).into_owned();
        assert!(text.contains(&now.to_string()));
        text
    };
    for (name, signal, count) in [("metrics.json", "metrics", 4), ("trace.json", "traces", 1)] {
        let before = table.counted().await;
        let mut body = Body::json(fresh(example(name)));
        body.signal = signal;
        let (status, _, answer) = table.post(&body).await;
        assert_eq!((status, answer.as_slice()), (200, &b"{}"[..]), "{name}");
        assert_eq!(
            table.counted().await.since(&before),
            Counted::applied(count),
            "{name}"
        );
    }
    eventually("its gauge", || async {
        let found = table
            .daemon
            .series("{service=\"my.service\",metric=\"my.gauge\"}")
            .await;
        let gauge = found.into_iter().next()?;
        assert_eq!(gauge["last"]["value"].as_f64(), Some(10.0));
        Some(())
    })
    .await;
    table.finish("the examples").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_json_is_not_quite_protobufs() {
    let mut table = Table::start().await;
    let now = now_nanos();
    let ids = |trace: &str, id: &str| {
        otlp::traces("json", &[json!({
            "traceId": trace, "spanId": id, "parentSpanId": "", "name": "json", "kind": 2,
            "startTimeUnixNano": now - 5, "endTimeUnixNano": now.to_string(), "status": {"code": 2},
        })])
        .to_string()
    };
    let send = async |signal: &'static str, text: String| {
        let before = table.counted().await;
        let mut body = Body::json(text);
        body.signal = signal;
        let (status, _, answer) = table.post(&body).await;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        (status, answer, table.counted().await.since(&before))
    };
    // Ids are hexadecimal, in either case; the same span in the other case is the same span.
    let lower = ids("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174");
    let (status, answer, counts) = send("traces", lower.clone()).await;
    assert_eq!(
        (status, answer, counts),
        (200, json!({}), Counted::applied(1))
    );
    let upper = ids("5B8EFFF798038103D269B633813FC60C", "EEE19B7EC3C1B174");
    let (status, answer, counts) = send("traces", upper).await;
    assert_eq!(
        (status, answer, counts),
        (200, json!({}), Counted::late("repeated", 1))
    );
    for (trace, id) in [
        ("W47/95gDgQPSabYzgT/GDA==", "eee19b7ec3c1b174"),
        ("5b8efff798038103d269b633813fc60c", "7uGbfsPBsXQ="),
        ("5b8efff798038103d269b633813fc60", "eee19b7ec3c1b174"),
        ("5b8efff798038103d269b633813fc60g", "eee19b7ec3c1b174"),
    ] {
        let (status, answer, counts) = send("traces", ids(trace, id)).await;
        assert_eq!(
            (status, counts),
            (400, Counted::default()),
            "{trace} {id}: {answer}"
        );
    }
    // Enums are numbers, also those that nobody knows.
    for (kind, promised) in [
        (json!("SPAN_KIND_SERVER"), 400),
        (json!("2"), 400),
        (json!(99), 200),
    ] {
        let text = ids("0b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174")
            .replace("\"kind\":2", &format!("\"kind\":{kind}"));
        assert_eq!(send("traces", text).await.0, promised, "kind {kind}");
    }

    // Numbers of 64 bits as text or as number, doubles by their names, null for absent, the last of a
    // repeated key, base64 for bytes.
    let point = |i: u64, point: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"numbers"}}}}]}},
            "scopeMetrics":[{{"metrics":[{{"name":"m{i}","gauge":{{"dataPoints":[{{{point}}}]}}}}]}}]}}]}}"#
        )
    };
    let good: [(&str, f64); 10] = [
        (
            r#""timeUnixNano":"NOW","asInt":"9007199254740993""#,
            9007199254740992.0,
        ),
        (r#""timeUnixNano":NOW,"asInt":-7"#, -7.0),
        (r#""timeUnixNano":"NOW","asDouble":"1.5""#, 1.5),
        (r#""timeUnixNano":"NOW","asDouble":2"#, 2.0),
        (r#""timeUnixNano":"NOW","asDouble":null,"asInt":"3""#, 3.0),
        (
            r#""timeUnixNano":"NOW","asDouble":1e-3,"flags":null,"attributes":null,"exemplars":[null]"#,
            0.001,
        ),
        (
            r#""timeUnixNano":"1","timeUnixNano":"NOW","asDouble":1,"asDouble":5"#,
            5.0,
        ),
        (
            r#""timeUnixNano":"NOW","asDouble":6,"flags":0,"attributes":[{"key":"b","value":{"bytesValue":"AAEC/w=="}}]"#,
            6.0,
        ),
        (r#""timeUnixNano":"NOW","asInt":1e3"#, 1000.0),
        (r#""timeUnixNano":"NOW","asDouble":0.1"#, 0.1),
    ];
    for (i, (text, _)) in good.iter().enumerate() {
        let text = point(i as u64, &text.replace("NOW", &now.to_string()));
        let (status, answer, counts) = send("metrics", text.clone()).await;
        assert_eq!(
            (status, answer, counts),
            (200, json!({}), Counted::applied(1)),
            "{text}"
        );
    }
    for (i, (text, value)) in good.iter().enumerate() {
        let selector = format!("{{service=\"numbers\",metric=\"m{i}\"}}");
        let last = eventually(&selector, || async {
            let found = table.daemon.series(&selector).await;
            found.first()?["last"]["value"].as_f64()
        })
        .await;
        assert_eq!(last, *value, "{text}");
    }
    for bad in [
        r#""timeUnixNano":"NOW","asInt":"1.5""#,
        r#""timeUnixNano":"NOW","asInt":1.5"#,
        r#""timeUnixNano":"NOW","asInt":"9223372036854775808""#,
        r#""timeUnixNano":"-1","asInt":1"#,
        r#""timeUnixNano":"NOW","asDouble":"nan""#,
        r#""timeUnixNano":"NOW","asDouble":"one""#,
        r#""timeUnixNano":"NOW","asDouble":true"#,
        r#""timeUnixNano":"NOW","asDouble":[1]"#,
        r#""timeUnixNano":"NOW","asDouble":1,"attributes":{}"#,
        r#""timeUnixNano":"NOW","asDouble":1,"attributes":[{"key":"b","value":{"bytesValue":"%%"}}]"#,
        r#""timeUnixNano":"NOW","asDouble":1,"flags":4294967296"#,
        r#""timeUnixNano":"NOW","asDouble":NaN"#,
        r#""timeUnixNano":"NOW","asDouble":1,"#,
    ] {
        let text = point(99, &bad.replace("NOW", &now.to_string()));
        let (status, answer, counts) = send("metrics", text).await;
        assert_eq!(
            (status, counts),
            (400, Counted::default()),
            "{bad}: {answer}"
        );
        assert_eq!(answer["code"], 3, "{bad}");
    }
    // How many were refused is an int64, so it is a text.
    let (status, answer, _) = send("metrics", point(99, r#""asDouble":1"#)).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer["partialSuccess"]["rejectedDataPoints"], "1",
        "{answer}"
    );
    let (status, answer, _) = send("traces", ids("", "")).await;
    assert_eq!(status, 200);
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1", "{answer}");
    let sent = traces("json", vec![span(7, 7, None, "op")]);
    let (status, _, counts) = send("traces", serde_json::to_string(&sent).expect("JSON")).await;
    assert_eq!((status, counts), (200, Counted::applied(1)));
    table.good_request("JSON").await;
    table.finish("JSON").await;
}
