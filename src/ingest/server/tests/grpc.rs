use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::*;
use crate::ingest::otlp::answer::{RetryInfo, RpcStatus};
use crate::ingest::{Auth, Cause};

async fn channel(server: &Running) -> Channel {
    Channel::from_shared(format!("http://{}", server.grpc))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn client(server: &Running) -> MetricsServiceClient<Channel> {
    MetricsServiceClient::new(channel(server).await)
}

#[tokio::test]
async fn a_real_client_with_every_compression() {
    let server = start(settings()).await;
    let mut plain = client(&server).await;
    let answer = within(plain.export(request(2))).await.unwrap();
    assert_eq!(answer.into_inner().partial_success, None);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = client(&server)
            .await
            .send_compressed(encoding)
            .accept_compressed(encoding);
        within(client.export(request(2))).await.unwrap();
    }
    let mut traces = TraceServiceClient::new(channel(&server).await);
    within(traces.export(ExportTraceServiceRequest::default()))
        .await
        .unwrap();
    let mut logs = LogsServiceClient::new(channel(&server).await);
    let refused = within(logs.export(ExportLogsServiceRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(server.sink.applied(), 6);
    assert_eq!(
        (
            server.requests("grpc", "OK"),
            server.requests("grpc", "UNIMPLEMENTED")
        ),
        (4, 1)
    );
    drop((plain, traces, logs));
    server.end().await;
}

#[tokio::test]
async fn partial_success_over_grpc() {
    let server = start(settings()).await;
    let mut bad = request(1);
    bad.resource_metrics[0].scope_metrics[0].metrics[0]
        .name
        .clear();
    let answer = within(client(&server).await.export(bad))
        .await
        .unwrap()
        .into_inner();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 1);
    assert!(
        partial.error_message.starts_with("name: 1"),
        "{}",
        partial.error_message
    );
    server.end().await;
}

#[tokio::test]
async fn only_passing_refusals_carry_retry_info() {
    let server = start(settings()).await;
    let mut client = client(&server).await;
    // Over the limit, plain and inflated: final.
    let large = request(LIMIT / 20);
    for encoding in [
        None,
        Some(CompressionEncoding::Gzip),
        Some(CompressionEncoding::Zstd),
    ] {
        let mut client = client.clone();
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding);
        }
        let refused = within(client.export(large.clone())).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.details()),
            (Code::ResourceExhausted, &b""[..]),
            "{refused}"
        );
    }
    server.admission.refuse(Cause::Starting);
    let refused = within(client.export(request(1))).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "starting up")
    );
    let details = RpcStatus::decode(refused.details()).unwrap();
    assert_eq!((details.code, &*details.message), (14, "starting up"));
    assert_eq!(
        details.details[0].type_url,
        "type.googleapis.com/google.rpc.RetryInfo"
    );
    let retry = RetryInfo::decode(&*details.details[0].value).unwrap();
    assert!((1..=30).contains(&retry.retry_delay.unwrap().seconds));
    server.admission.allow(Cause::Starting);

    server.sink.set(Mood::Panic);
    let refused = within(client.export(request(1))).await.unwrap_err();
    assert_eq!(
        (refused.code(), server.telemetry.panics.get()),
        (Code::Internal, 1)
    );
    server.sink.set(Mood::Apply);
    within(client.export(request(1))).await.unwrap();
    drop(client);
    server.end().await;
}

#[tokio::test]
async fn credentials_over_grpc() {
    let auth = Some(Auth::Basic(vec![("me".into(), "pass".into())]));
    let server = start(Settings { auth, ..settings() }).await;
    let mut client = client(&server).await;
    let refused = within(client.export(request(1))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut call = tonic::Request::new(request(1));
    call.metadata_mut()
        .insert("authorization", "Basic bWU6cGFzcw==".parse().unwrap());
    within(client.export(call)).await.unwrap();
    drop(client);
    server.end().await;
}

#[tokio::test]
async fn grpc_timeout_is_honoured_and_what_began_is_finished() {
    let server = start(settings()).await;
    server.sink.close_gate();
    let call = Call {
        timeout: Some("50m"),
        ..Call::new(framed(0, &protobuf(1)))
    };
    let (status, _) = call.send(server.grpc).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    server.sink.open_gate();
    eventually(|| server.sink.applied() == 1).await;
    for wrong in ["", "1", "S", "123456789S", "1x", "-1S"] {
        let call = Call {
            timeout: Some(wrong),
            ..Call::new(framed(0, &protobuf(1)))
        };
        assert_eq!(
            call.send(server.grpc).await.0.code(),
            Code::InvalidArgument,
            "{wrong}"
        );
    }
    let call = Call {
        timeout: Some("99999999H"),
        ..Call::new(framed(0, &protobuf(1)))
    };
    assert_eq!(call.send(server.grpc).await.0.code(), Code::Ok);
    server.end().await;
}

/// A call with bytes of our choice, sent with a bare HTTP/2 client.
struct Call {
    pieces: Vec<Bytes>,
    encoding: Option<&'static str>,
    timeout: Option<&'static str>,
    content_type: &'static str,
    path: &'static str,
}

impl Call {
    fn new(body: Vec<u8>) -> Self {
        Self {
            pieces: vec![body.into()],
            encoding: None,
            timeout: None,
            content_type: "application/grpc+proto",
            path: "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// The status, and the message if there is one.
    async fn send(self, address: SocketAddr) -> (Status, Vec<u8>) {
        let (status, body, _) = within(self.exchange(address)).await;
        (status, body)
    }

    async fn exchange(self, address: SocketAddr) -> (Status, Vec<u8>, ::http::HeaderMap) {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut head = ::http::Request::post(format!("http://{address}/{}", self.path))
            .header("content-type", self.content_type)
            .header("te", "trailers");
        for (name, value) in [
            ("grpc-encoding", self.encoding),
            ("grpc-timeout", self.timeout),
        ] {
            if let Some(value) = value {
                head = head.header(name, value);
            }
        }
        let (answer, mut sender) = client.send_request(head.body(()).unwrap(), false).unwrap();
        for piece in self.pieces {
            // The server may have answered and reset the stream already.
            sender.send_data(piece, false).ok();
        }
        sender.send_data(Bytes::new(), true).ok();
        let (head, mut body) = answer.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            bytes.extend_from_slice(&data.unwrap());
        }
        let trailers = body
            .trailers()
            .await
            .unwrap()
            .unwrap_or(head.headers.clone());
        let status = Status::from_header_map(&trailers)
            .unwrap_or_else(|| Status::unknown(head.status.as_str()));
        (status, bytes, head.headers)
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes
}

#[tokio::test]
async fn framing_row_12() {
    let server = start(settings()).await;
    let good = framed(0, &protobuf(1));
    let mut too_long = vec![0];
    too_long.extend(u32::MAX.to_be_bytes());
    for (name, call, code) in [
        (
            "compressed without an encoding",
            Call::new(framed(1, &gzip(&protobuf(1)))),
            Code::Internal,
        ),
        (
            "compressed, encoding identity",
            Call {
                encoding: Some("identity"),
                ..Call::new(framed(1, &protobuf(1)))
            },
            Code::Ok,
        ),
        ("flag 2", Call::new(framed(2, &protobuf(1))), Code::Internal),
        (
            "4 GiB announced",
            Call::new(too_long),
            Code::ResourceExhausted,
        ),
        ("no message", Call::new(Vec::new()), Code::Internal),
        ("half a prefix", Call::new(vec![0, 0, 0]), Code::Internal),
        (
            "half a message",
            Call::new(good[..good.len() - 1].to_vec()),
            Code::Internal,
        ),
        (
            "two messages",
            Call::new([good.clone(), good.clone()].concat()),
            Code::InvalidArgument,
        ),
        (
            "a message and a byte",
            Call::new([&good[..], &[0]].concat()),
            Code::InvalidArgument,
        ),
        (
            "random bytes",
            Call::new(framed(0, b"\xff\xff\xff")),
            Code::InvalidArgument,
        ),
        (
            "broken gzip",
            Call {
                encoding: Some("gzip"),
                ..Call::new(framed(1, b"garbage"))
            },
            Code::InvalidArgument,
        ),
        (
            "unknown encoding",
            Call {
                encoding: Some("snappy"),
                ..Call::new(good.clone())
            },
            Code::Unimplemented,
        ),
        (
            "unknown service",
            Call {
                path: "opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
                ..Call::new(good.clone())
            },
            Code::Unimplemented,
        ),
    ] {
        let (status, _) = call.send(server.grpc).await;
        assert_eq!(status.code(), code, "{name}: {status}");
        assert_eq!(status.details(), b"", "{name}");
    }
    assert_eq!(server.sink.applied(), 1);
    for (name, call) in [
        ("an empty message", Call::new(framed(0, b""))),
        (
            "gzip",
            Call {
                encoding: Some("gzip"),
                ..Call::new(framed(1, &gzip(&protobuf(1))))
            },
        ),
        (
            "an encoding that is not used",
            Call {
                encoding: Some("gzip"),
                ..Call::new(good.clone())
            },
        ),
        (
            "several members",
            Call {
                encoding: Some("gzip"),
                ..Call::new(framed(
                    1,
                    &[gzip(&protobuf(1)), gzip(&protobuf(1))].concat(),
                ))
            },
        ),
        (
            "a byte at a time",
            Call {
                pieces: good.iter().map(|b| vec![*b].into()).collect(),
                ..Call::new(Vec::new())
            },
        ),
    ] {
        let (status, body) = call.send(server.grpc).await;
        assert_eq!(status.code(), Code::Ok, "{name}: {status}");
        assert_eq!(
            ExportMetricsServiceResponse::decode(&body[5..])
                .unwrap()
                .partial_success,
            None
        );
    }
    assert_eq!(server.sink.applied(), 6);
    let unknown = Call {
        encoding: Some("br"),
        ..Call::new(good.clone())
    };
    let (_, _, headers) = within(unknown.exchange(server.grpc)).await;
    assert_eq!(headers["grpc-accept-encoding"], "identity,gzip,zstd");
    for content_type in ["application/grpc-web", "application/json", ""] {
        let call = Call {
            content_type,
            ..Call::new(good.clone())
        };
        assert_eq!(call.send(server.grpc).await.0.message(), "415");
    }
    server.still_good().await;
    server.end().await;
}
