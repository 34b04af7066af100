use std::time::Duration;

use super::*;

/// Deadlines that a test can wait for.
fn hasty() -> Settings {
    Settings {
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        ..settings()
    }
}

#[tokio::test]
async fn slow_clients_are_let_go_row_10() {
    let server = start(hasty()).await;
    let head = "POST /v1/metrics HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    for (name, sent) in [
        ("nothing at all", String::new()),
        ("a byte that could be either version", "P".to_owned()),
        (
            "half of the HTTP/2 preface",
            "PRI * HTTP/2.0\r\n".to_owned(),
        ),
        ("half a head", head.to_owned()),
        (
            "a length and no body",
            format!("{head}content-length: 10\r\n\r\n{{"),
        ),
        (
            "chunks without end",
            format!("{head}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n"),
        ),
    ] {
        let answer = raw(server.http, sent.as_bytes()).await;
        // Closed; if there is an answer at all it is an error that is not final.
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{name}: {answer}"
        );
    }
    assert_eq!(raw(server.grpc, b"").await, b"");
    assert_eq!(raw(server.grpc, b"GET / HTTP/1.1\r\n\r\n").await, b"");
    assert_eq!(server.requests("http", "closed"), 2);
    assert_eq!(server.sink.applied(), 0);
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn a_slow_message_over_grpc_gets_a_deadline() {
    let server = start(hasty()).await;
    let stream = TcpStream::connect(server.grpc).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let path = "opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let head = ::http::Request::post(format!("http://{}/{path}", server.grpc))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(head, false).unwrap();
    body.send_data(vec![0, 0].into(), false).unwrap();
    let answer = within(answer).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4");
    drop((client, body));
    server.end().await;
}

#[tokio::test]
async fn connections_have_a_limit_row_10() {
    let server = start(Settings {
        max_connections: 3,
        ..settings()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(server.http).await.unwrap());
    }
    eventually(|| server.telemetry.connections.get() == 3).await;
    for address in [server.http, server.grpc] {
        assert_eq!(raw(address, b"POST").await, b"");
    }
    held.pop();
    eventually(|| server.telemetry.connections.get() == 2).await;
    server.still_good().await;
    drop(held);
    server.end().await;
}

#[tokio::test]
async fn clients_that_leave_halfway_row_32() {
    let server = start(settings()).await;
    let body = protobuf(50);
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // In the middle of the body: nothing.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..100]).await.unwrap();
    drop(stream);
    eventually(|| server.requests("http", "closed") == 1).await;
    assert_eq!(server.sink.applied(), 0);
    // Before the reply: all of it, once.
    server.sink.close_gate();
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    eventually(|| server.sink.waiting.load(Ordering::SeqCst) == 1).await;
    drop(stream);
    eventually(|| server.telemetry.connections.get() == 0).await;
    server.sink.open_gate();
    eventually(|| server.sink.applied() == 50).await;
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn a_hundred_copies_at_once_row_31() {
    let server = Arc::new(start(settings()).await);
    let copies: Vec<_> = (0..100)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.post_protobuf(protobuf(3)).await.status })
        })
        .collect();
    for copy in copies {
        assert_eq!(copy.await.unwrap(), 200);
    }
    // Which of them are repetitions is for the series to say; none is lost here.
    assert_eq!(server.sink.applied(), 300);
    assert_eq!(server.admission.inflight_bytes(), 0);
}

// ---- HTTP/2, row 11: frames written by hand ----

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Our settings (none), and the acknowledgement of theirs.
const HELLO: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HPACK for `POST http /v1/metrics` from the static table and one literal.
fn head() -> Vec<u8> {
    let path = b"/v1/metrics";
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend(path);
    block
}

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// Sends an attack while another client goes on sending, and waits until the server ends the
/// connection. Returns the kinds of the frames that it sent.
async fn attack(server: &Running, frames: Vec<u8>) -> Vec<u8> {
    let stream = TcpStream::connect(server.http).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let writing = tokio::spawn(async move {
        write.write_all(&[PREFACE, HELLO].concat()).await.ok();
        for piece in frames.chunks(16 << 10) {
            // The server may hang up in the middle.
            if write.write_all(piece).await.is_err() {
                break;
            }
        }
        write.shutdown().await.ok();
    });
    let mut answer = Vec::new();
    let reading = within(read.read_to_end(&mut answer));
    let others = async {
        for _ in 0..5 {
            let before = crate::clock::instant();
            server.still_good().await;
            assert!(before.elapsed() < Duration::from_secs(2), "others wait");
        }
    };
    let (ended, ()) = tokio::join!(reading, others);
    drop(ended);
    writing.await.unwrap();
    let mut kinds = Vec::new();
    let mut rest = &answer[..];
    while let [a, b, c, kind, _, tail @ ..] = rest {
        kinds.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize + 4;
        rest = tail.get(length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn rapid_reset_row_11() {
    let server = start(settings()).await;
    let mut frames = Vec::new();
    for index in 0..10_000 {
        let stream = 2 * index + 1;
        frames.extend(frame(HEADERS, END_HEADERS, stream, &head()));
        frames.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    let kinds = attack(&server, frames).await;
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn continuation_flood_row_11() {
    let server = start(settings()).await;
    let mut frames = frame(HEADERS, 0, 1, &head());
    for _ in 0..10_000 {
        frames.extend(frame(CONTINUATION, 0, 1, b"\0\x01a\x01b"));
    }
    let kinds = attack(&server, frames).await;
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn header_list_of_a_mebibyte_row_11() {
    let server = start(settings()).await;
    let mut block = head();
    // A literal of 16 KiB, again and again.
    let value = vec![b'x'; 16 << 10];
    for _ in 0..64 {
        block.extend([0x00, 0x01, b'a', 0x7f, 0x81, 0x7f]);
        block.extend(&value);
    }
    let mut pieces = block.chunks(16 << 10);
    let mut frames = frame(HEADERS, 0, 1, pieces.next().unwrap());
    for piece in pieces {
        frames.extend(frame(CONTINUATION, 0, 1, piece));
    }
    frames.extend(frame(CONTINUATION, END_HEADERS, 1, b""));
    let kinds = attack(&server, frames).await;
    assert!(
        kinds.contains(&GOAWAY) || kinds.contains(&RST_STREAM) || kinds.contains(&HEADERS),
        "{kinds:?}"
    );
    assert_eq!(server.requests("http", "200"), server.sink.applied() as u64);
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn floods_of_small_frames_row_11() {
    let server = start(settings()).await;
    let mut pings = Vec::new();
    let mut settings_frames = Vec::new();
    for _ in 0..20_000 {
        pings.extend(frame(PING, 0, 0, &[0; 8]));
        settings_frames.extend(frame(SETTINGS, 0, 0, b""));
    }
    let mut data = frame(HEADERS, END_HEADERS, 1, &head());
    for _ in 0..20_000 {
        data.extend(frame(DATA, 0, 1, b"x"));
    }
    let mut empty = frame(HEADERS, END_HEADERS, 1, &head());
    for _ in 0..20_000 {
        empty.extend(frame(DATA, 0, 1, b""));
    }
    empty.extend(frame(DATA, END_STREAM, 1, b""));
    for flood in [pings, settings_frames, data, empty] {
        // Answered, reset or hung up on: the others do not notice.
        attack(&server, flood).await;
    }
    server.still_good().await;
    server.end().await;
}

#[tokio::test]
async fn at_most_256_streams_are_offered() {
    let server = start(settings()).await;
    let stream = TcpStream::connect(server.grpc).await.unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    within(std::future::poll_fn(|cx| {
        let ended = std::pin::pin!(&mut connection).poll(cx).is_ready();
        if ended || connection.max_concurrent_send_streams() == 256 {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    }))
    .await;
    assert_eq!(connection.max_concurrent_send_streams(), 256);
    drop((client, connection));
    server.end().await;
}
