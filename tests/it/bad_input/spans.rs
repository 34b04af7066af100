//! Rows 29 to 31: spans that contradict themselves, and requests that come again.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::Value;

use super::make::{Metrics, SECOND, number, span, sum, traces};
use super::{Body, Counted, Table, grpc, make, partial_json};
use crate::harness::eventually;
use crate::harness::otlp::now_nanos;

/// Sends spans and a good one beside them, over each transport; checks what is answered and counted.
async fn check(table: &mut Table, row: &str, edit: fn(&mut Span), counts: Counted) {
    for by in ["protobuf", "gRPC", "JSON"] {
        table.good += 1;
        let trace = u128::from(table.good) << 64 | 1;
        let mut bad = span(trace, 1, None, "bad");
        edit(&mut bad);
        let request = traces(by, vec![bad, span(trace, 2, None, "beside")]);
        let before = table.counted().await;
        let rejected = export(table, by, row, request).await;
        assert_eq!(
            rejected,
            counts.rejected.values().sum::<u64>(),
            "row {row} by {by}"
        );
        let after = table.counted().await.since(&before);
        assert_eq!(after, counts.clone().and_applied(1), "row {row} by {by}");
        table.good_request(row).await;
    }
}

/// How many spans were refused.
async fn export(table: &Table, by: &str, row: &str, request: ExportTraceServiceRequest) -> u64 {
    let partial = |answer: ExportTraceServiceResponse| {
        answer.partial_success.map_or(0, |partial| {
            assert!(partial.rejected_spans > 0 && !partial.error_message.is_empty());
            partial.rejected_spans as u64
        })
    };
    match by {
        "gRPC" => {
            let mut client = grpc::traces_client(&table.daemon.grpc).await;
            let answer = client.export(request).await;
            partial(
                answer
                    .unwrap_or_else(|status| panic!("row {row}: {status}"))
                    .into_inner(),
            )
        }
        "JSON" => {
            let body = serde_json::to_vec(&request).expect("JSON");
            let (status, _, answer) = table.post(&Body::json(body).of_traces()).await;
            assert_eq!(
                status,
                200,
                "row {row}: {}",
                String::from_utf8_lossy(&answer)
            );
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            partial_json(&answer).unwrap_or_default().0
        }
        _ => {
            let body = Body::protobuf(request.encode_to_vec()).of_traces();
            let (status, _, answer) = table.post(&body).await;
            assert_eq!(status, 200, "row {row}");
            partial(ExportTraceServiceResponse::decode(&*answer).expect("a response"))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_29_spans_that_contradict_themselves() {
    let mut table = Table::start().await;
    let bad_id = || Counted::rejected("bad_id", 1);
    type Case = (&'static str, fn(&mut Span), Counted);
    let cases: [Case; 15] = [
        ("29 no trace id", |s| s.trace_id.clear(), bad_id()),
        (
            "29 a trace id of 8 bytes",
            |s| s.trace_id = vec![1; 8],
            bad_id(),
        ),
        (
            "29 a trace id of 17 bytes",
            |s| s.trace_id = vec![1; 17],
            bad_id(),
        ),
        (
            "29 a trace id of zeros",
            |s| s.trace_id = vec![0; 16],
            bad_id(),
        ),
        ("29 no span id", |s| s.span_id.clear(), bad_id()),
        (
            "29 a span id of 7 bytes",
            |s| s.span_id = vec![1; 7],
            bad_id(),
        ),
        (
            "29 a span id of zeros",
            |s| s.span_id = vec![0; 8],
            bad_id(),
        ),
        (
            "29 a parent of 3 bytes",
            |s| s.parent_span_id = vec![1; 3],
            bad_id(),
        ),
        (
            "29 end before start",
            |s| s.end_time_unix_nano = s.start_time_unix_nano - 1,
            Counted::rejected("negative_duration", 1),
        ),
        (
            "29 no end",
            |s| s.end_time_unix_nano = 0,
            Counted::rejected("no_time", 1),
        ),
        (
            "29 in the future",
            |s| s.end_time_unix_nano += 700 * SECOND,
            Counted::rejected("future", 1),
        ),
        (
            "29 longer than a day",
            |s| s.start_time_unix_nano -= 90_000 * SECOND,
            Counted::applied(1),
        ),
        ("29 no name", |s| s.name.clear(), Counted::applied(1)),
        (
            "29 a name of 1 MiB",
            |s| s.name = "long ".repeat(1 << 18),
            Counted::applied(1),
        ),
        (
            "29 a kind of 77",
            |s| {
                s.kind = 77;
                s.name = "kind".to_owned();
            },
            Counted::applied(1),
        ),
    ];
    for (row, edit, counts) in cases {
        check(&mut table, row, edit, counts).await;
    }
    let names: BTreeSet<String> = eventually("all span series", || async {
        let found = table
            .daemon
            .series("{service=\"gRPC\",metric=\"span.duration\",signal=\"rate\"}")
            .await;
        let names: BTreeSet<String> = found
            .iter()
            .filter_map(|signal| Some(signal["attributes"]["span.name"].as_str()?.to_owned()))
            .collect();
        (names.len() >= 5).then_some(names)
    })
    .await;
    assert!(names.contains("unknown") && names.contains("bad") && names.contains("beside"));
    let long = names
        .iter()
        .find(|name| name.starts_with("long "))
        .expect("cut");
    assert!((1024..1100).contains(&long.len()), "{}", long.len());
    let kind = table
        .daemon
        .series("{service=\"gRPC\",span_name=\"kind\"}")
        .await;
    assert_eq!(
        kind[0]["attributes"]["span.kind"], "unspecified",
        "{kind:?}"
    );
    // A day and an hour, as it is.
    let slow = table
        .daemon
        .series("{service=\"gRPC\",span_name=\"bad\",signal=\"p99\"}")
        .await;
    let p99 = slow[0]["window"]["max"].as_f64().expect("a duration");
    assert!((p99 / 90_001.0 - 1.0).abs() < 0.011, "{p99}");
    table.finish("29").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_30_strange_parents() {
    let table = Table::start().await;
    let send = async |table: &Table, service: &str, trace: u128, id: u64, parent: Option<u64>| {
        let request = traces(service, vec![span(trace, id, parent, "op")]);
        assert_eq!(export(table, "protobuf", "30", request).await, 0);
    };
    // A parent never seen; a parent in itself; a cycle of two services, and one of three.
    send(&table, "orphan", 1, 1, Some(99)).await;
    send(&table, "narcissus", 2, 1, Some(1)).await;
    send(&table, "cycle-a", 3, 1, Some(2)).await;
    send(&table, "cycle-b", 3, 2, Some(1)).await;
    for (service, id, parent) in [("ring-a", 1, 3), ("ring-b", 2, 1), ("ring-c", 3, 2)] {
        send(&table, service, 4, id, Some(parent)).await;
    }
    // The same span id twice: counted once. In another trace it is another span.
    let before = table.counted().await;
    send(&table, "twice", 5, 1, None).await;
    send(&table, "twice", 5, 1, None).await;
    send(&table, "twice", 6, 1, None).await;
    let mut counts = Counted::late("repeated", 1);
    counts.applied = 2;
    assert_eq!(table.counted().await.since(&before), counts);
    // A child before its parent is an edge all the same: that is what the others are compared with.
    send(&table, "callee", 7, 2, Some(1)).await;
    send(&table, "caller", 7, 1, None).await;
    let edges = eventually("the edge", || async {
        let topology = table.daemon.get("/api/v1/topology").await;
        let edges = topology["data"].as_array()?.clone();
        let edge = |e: &Value| e["caller"] == "caller" && e["callee"] == "callee";
        edges.iter().any(edge).then_some(edges)
    })
    .await;
    for edge in &edges {
        let (caller, callee) = (edge["caller"].as_str(), edge["callee"].as_str());
        let named = |name: &str| caller == Some(name) || callee == Some(name);
        for name in ["orphan", "narcissus", "cycle-a", "cycle-b"] {
            assert!(!named(name), "30: an edge {edge}");
        }
    }
    // Of three services in a ring at least the call that closes it makes no edge.
    let ring = |edge: &&Value| {
        edge["caller"]
            .as_str()
            .is_some_and(|name| name.starts_with("ring"))
    };
    assert!(edges.iter().filter(ring).count() <= 2, "30: {edges:?}");
    table.finish("30").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_the_same_request_again() {
    let table = Table::start().await;
    let now = now_nanos();
    let mut metrics = Metrics::of("again");
    for i in 0..20 {
        let mut point = number(now, 5.0);
        point.start_time_unix_nano = now - 10 * SECOND;
        point.attributes.push(make::text("i", &i.to_string()));
        metrics = metrics.metric(sum("orders", make::DELTA, true, vec![point]));
    }
    let metrics = Body::protobuf(metrics.encode());
    let spans = (1..=20).map(|id| span(31, id, None, "op")).collect();
    let spans = Body::protobuf(traces("again", spans).encode_to_vec()).of_traces();

    let before = table.counted().await;
    let mut sent = Vec::new();
    for _ in 0..100 {
        for body in [&metrics, &spans] {
            let url = format!("http://{}/v1/{}", table.daemon.http, body.signal);
            let request = table
                .client
                .post(url)
                .header("content-type", super::PROTOBUF)
                .body(body.bytes.clone());
            sent.push(tokio::spawn(async move {
                let answer = request.send().await.expect("an answer");
                let status = answer.status().as_u16();
                (status, answer.bytes().await.expect("all of it"))
            }));
        }
    }
    let mut again = 0;
    for answer in sent {
        let (status, body) = answer.await.expect("sent");
        // A full queue is answered with a plea to try again; nothing of it was applied then.
        match status {
            200 => assert_eq!(body, "", "31: a copy is answered like the first"),
            503 => again += 1,
            _ => panic!("31: {status}"),
        }
    }
    assert!(again < 200, "31: all were put off");
    for body in [&metrics, &spans] {
        let (status, _, answer) = table.post(body).await;
        assert_eq!(
            (status, answer.as_slice()),
            (200, &b""[..]),
            "31: once more"
        );
    }
    let after = table.counted().await.since(&before);
    assert_eq!(after.applied, 40, "31: each point and span exactly once");
    assert_eq!(after.late["repeated"], (202 - again) * 20 - 40);
    assert!(after.rejected.is_empty());
    // 5 orders in 10 seconds, not five hundred.
    let rates = eventually("the rates", || async {
        let found = table
            .daemon
            .series("{service=\"again\",metric=\"orders\"}")
            .await;
        (found.len() == 20).then_some(found)
    })
    .await;
    for signal in rates {
        assert_eq!(signal["last"]["value"].as_f64(), Some(0.5), "31: {signal}");
    }
    table.finish("31").await;
}
