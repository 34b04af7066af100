//! Rows 9 to 12: connections that misbehave.

use std::future::Future;
use std::process::Command;
use std::time::Duration;

use bytes::BufMut as _;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
    attack, header_block,
};
use super::grpc::{self, Call, Code};
use super::http::Raw;
use super::make::{good, good_of_length};
use super::{Answer, Body, Counted, Growth, Table};
use crate::harness::{PATIENCE, eventually};

const DEFAULT_LIMIT: usize = 64 << 20;

/// A chunk of HTTP/1.1.
fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_9_bodies_beyond_the_limit() {
    let mut table = Table::start().await;
    table.good_request("0").await;
    let before = table.counted().await;
    // What is announced is answered before it is sent.
    let mut raw = Raw::connect(&table.daemon.http).await;
    let length = (DEFAULT_LIMIT + 1).to_string();
    raw.head(&[("Content-Length", &length)]).await;
    let answer = raw.answer().await.expect("413");
    assert_eq!(answer.status, 413);
    let status = grpc::Status::decode(&*answer.body).expect("a status");
    assert_eq!(status.code, Code::ResourceExhausted as i32);
    table.good_request("9").await;

    // What is not announced is taken up to the limit.
    let growth = Growth::begin(&table.daemon);
    let mut raw = Raw::connect(&table.daemon.http).await;
    raw.head(&[("Transfer-Encoding", "chunked")]).await;
    let mib = chunk(&vec![0x0a; 1 << 20]);
    for _ in 0..64 {
        assert!(raw.send(&mib).await, "9: closed before the limit");
    }
    raw.send(chunk(&[0])).await;
    raw.send("0\r\n\r\n").await;
    assert_eq!(raw.answer().await.expect("413").status, 413);
    // A vector that grows holds its old self for a moment.
    growth.stays_below(&table.daemon, 2 * DEFAULT_LIMIT as u64, "9 chunked");
    table.good_request("9").await;

    // One byte more than is allowed, by real clients; and as much as is allowed.
    let largest = good_of_length(DEFAULT_LIMIT);
    let larger = good_of_length(DEFAULT_LIMIT + 1);
    assert_eq!(
        (largest.len(), larger.len()),
        (DEFAULT_LIMIT, DEFAULT_LIMIT + 1)
    );
    table
        .expect(
            "9 64 MiB + 1",
            Body::protobuf(larger),
            Answer::TooLarge,
            Counted::default(),
        )
        .await;
    let after = table.counted().await.since(&before);
    assert!(after.rejected.is_empty() && after.late.is_empty());
    table
        .expect(
            "9 64 MiB",
            Body::protobuf(largest),
            Answer::Accepted,
            Counted::applied(1),
        )
        .await;
    table.finish("9").await;
}

/// Deadlines short enough to wait for.
const SHORT: &str = "max_request_size: 64KiB, header_timeout: 1s, body_timeout: 1s";

/// Sends `byte` again and again until the daemon closes; how long that took.
async fn drip(raw: &mut Raw, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let (mut read, mut write) = raw.0.split();
    let dripping = async {
        loop {
            pace.tick().await;
            if write.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let end = async {
        let mut answer = Vec::new();
        read.read_to_end(&mut answer).await.ok();
        assert!(
            answer.is_empty() || !answer.starts_with(b"HTTP/1.1 2"),
            "10: a success"
        );
    };
    let both = async {
        tokio::select! { () = dripping => {}, () = end => {} }
    };
    timeout(PATIENCE, both).await.expect("10: never closed");
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_9_and_10_what_takes_too_long_is_closed() {
    let table = Table::start_otlp(SHORT, "").await;
    let (http, grpc) = (table.daemon.http.clone(), table.daemon.grpc.clone());
    let before = table.counted().await;
    let enough = Duration::from_millis(900)..Duration::from_secs(20);

    // Chunked without end: fast, and one byte at a time.
    let fast = async {
        let mut raw = Raw::connect(&http).await;
        raw.head(&[("Transfer-Encoding", "chunked")]).await;
        let block = chunk(&[0x0a; 16 << 10]);
        while raw.send(&block).await {}
    };
    let slow = async {
        let mut raw = Raw::connect(&http).await;
        raw.head(&[("Transfer-Encoding", "chunked")]).await;
        let took = drip(&mut raw, &chunk(b"\x0a")).await;
        assert!(enough.contains(&took), "9 chunked without end: {took:?}");
    };
    // Nothing, half a head, half a preface, on both ports.
    let silent = [&http, &grpc].into_iter().flat_map(|address| {
        [
            "",
            "POST /v1/metrics HTTP/1.1\r\nHost: x\r\n",
            "PRI * HTTP/2.0\r\n",
        ]
        .map(async |said| {
            let mut raw = Raw::connect(address).await;
            assert!(raw.send(said).await);
            raw.closed().await;
        })
    });
    // A head and a body by single bytes.
    let head = async {
        let mut raw = Raw::connect(&http).await;
        assert!(raw.send("POST /v1/metrics HTTP/1.1\r\nX-Slow: ").await);
        let took = drip(&mut raw, b"x").await;
        assert!(enough.contains(&took), "10 slow head: {took:?}");
    };
    let body = async {
        let mut raw = Raw::connect(&http).await;
        raw.head(&[("Content-Length", "60000")]).await;
        let took = drip(&mut raw, b"\x0a").await;
        assert!(enough.contains(&took), "10 slow body: {took:?}");
    };
    tokio::join!(
        fast,
        slow,
        futures_util::future::join_all(silent),
        head,
        body
    );

    // A message that stops in the middle: gRPC has a word for it, which clients try again.
    let (answer, mut sending) = grpc::connect(&grpc)
        .await
        .ready()
        .await
        .expect("ready")
        .send_request(Call::raw(Vec::new()).request(), false)
        .expect("a stream");
    let message = grpc::framed(0, &good("slow", "slow"));
    sending
        .send_data(message[..9].to_vec().into(), false)
        .expect("sent");
    let called = timeout(PATIENCE, grpc::finish(answer))
        .await
        .expect("10: never answered");
    assert_eq!(
        called.code,
        Code::DeadlineExceeded,
        "10 slow message: {called:?}"
    );

    let after = table.counted().await.since(&before);
    assert_eq!(after, Counted::default());
    table.finish("10").await;
}

/// Limits the open files of a running daemon, or of this process.
fn limit_files(pid: u32, limit: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={limit}")])
        .status()
        .expect("prlimit, of util-linux");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_10_ten_thousand_idle_connections() {
    let mut table = Table::start().await;
    // Room for them here, whatever the shell allows that runs the tests; the daemon sees to its own.
    limit_files(std::process::id(), "12000:");
    let growth = Growth::begin(&table.daemon);
    let mut idle = Vec::new();
    for batch in 0..10 {
        for _ in 0..1000 {
            idle.push(
                TcpStream::connect(&table.daemon.http)
                    .await
                    .expect("a connection"),
            );
        }
        // Whoever was there before is served as ever.
        table.good_request(&format!("10, {batch},000 idle")).await;
    }
    let refused = || {
        let closed = |stream: &&TcpStream| !matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        idle.iter().filter(closed).count()
    };
    eventually("those beyond the limit are closed", || async {
        (refused() >= 10_000 - 2048).then_some(())
    })
    .await;
    let open = table.daemon.metric("tidewatch_otlp_connections").await;
    assert!(open <= Some(2048.0), "{open:?}");
    growth.stays_below(&table.daemon, 64 << 20, "10 idle connections");
    drop(idle);
    eventually("all are gone", || async {
        // The table's own connections stay.
        let open = table.daemon.metric("tidewatch_otlp_connections").await;
        (open <= Some(3.0)).then_some(())
    })
    .await;
    assert!(table.daemon.log_line(r#""reason":"connections""#).is_some());
    table.finish("10").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_10_no_file_descriptor_left() {
    let table = Table::start().await;
    let pid = table.daemon.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("lives")
        .count();
    limit_files(pid, &format!("{}:", open + 5));
    let mut greedy = Vec::new();
    for _ in 0..50 {
        greedy.push(
            TcpStream::connect(&table.daemon.http)
                .await
                .expect("a connection"),
        );
    }
    eventually("the daemon notices", || async {
        table.daemon.log_line(r#""reason":"accept""#)
    })
    .await;
    drop(greedy);
    // It goes on by itself, with the few that it has.
    eventually("it takes connections again", || async {
        let mut raw = Raw::connect(&table.daemon.http).await;
        raw.send("GET /v1/metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        raw.answer()
            .await
            .filter(|answer| answer.status == 405)
            .map(|_| ())
    })
    .await;
    limit_files(pid, "4096:");
    table.finish("10").await;
}

/// The slowest but one in a hundred of good requests that are sent while `busy` goes on, at least 50.
async fn latency_during<T>(table: &Table, busy: impl Future<Output = T>) -> (Duration, T) {
    let body = Body::protobuf([]);
    let mut taken = Vec::new();
    tokio::pin!(busy);
    let mut done = None;
    while done.is_none() || taken.len() < 50 {
        let start = Instant::now();
        let request = table.post(&body);
        tokio::pin!(request);
        loop {
            tokio::select! {
                outcome = &mut busy, if done.is_none() => done = Some(outcome),
                (status, _, _) = &mut request => {
                    assert_eq!(status, 200);
                    break;
                }
            }
        }
        taken.push(start.elapsed());
    }
    taken.sort_unstable();
    let p99 = taken[taken.len() * 99 / 100];
    (p99, done.expect("done"))
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_abuse_of_http_2() {
    let mut table = Table::start().await;
    table.good_request("0").await;
    let before = table.counted().await;
    let call = header_block(&[]);

    // What these frames are made of is good: a call made of them is answered.
    let message = grpc::framed(0, &good("frames", "frames"));
    let honest = Frames::hello()
        .frame(HEADERS, END_HEADERS, 1, &call)
        .frame(DATA, END_STREAM, 1, &message);
    let outcome = attack(&table.daemon.grpc, honest.0, 1).await;
    assert!(
        !outcome.ended && outcome.resets == 0 && outcome.answers == 1,
        "{outcome:?}"
    );
    let after = table.counted().await.since(&before);
    assert_eq!(after, Counted::applied(1));

    let mut reset = Frames::hello();
    for i in 0..10_000 {
        reset = reset.frame(HEADERS, END_HEADERS, 2 * i + 1, &call);
        reset = reset.frame(RST_STREAM, 0, 2 * i + 1, &[0, 0, 0, 8]);
    }
    let mut flood = Frames::hello().frame(HEADERS, 0, 1, &call);
    for _ in 0..5_000 {
        // Headers of no name and no value, as many as fit.
        flood = flood.frame(CONTINUATION, 0, 1, &[0; 4096]);
    }
    let mut empty = Frames::hello().frame(HEADERS, 0, 1, &call);
    for _ in 0..100_000 {
        empty = empty.frame(CONTINUATION, 0, 1, b"");
    }
    let long = header_block(&[("x-long", &vec![b'x'; 1 << 20])]);
    let mut list = Frames::hello();
    let mut pieces = long.chunks(16 << 10).peekable();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        list = list.frame(kind, flags, 1, piece);
        kind = CONTINUATION;
    }
    let mut single = Frames::hello().frame(HEADERS, END_HEADERS, 1, &call);
    for byte in grpc::framed(0, &good_of_length(50_000)) {
        single = single.frame(DATA, 0, 1, &[byte]);
    }
    let mut nothing = Frames::hello().frame(HEADERS, END_HEADERS, 1, &call);
    for _ in 0..100_000 {
        nothing = nothing.frame(DATA, 0, 1, b"");
    }
    let mut settings = Frames::hello();
    let mut pings = Frames::hello();
    for _ in 0..50_000 {
        // SETTINGS_MAX_CONCURRENT_STREAMS, back and forth.
        settings = settings.frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        pings = pings.frame(PING, 0, 0, b"a flood!");
    }
    let mut streams = Frames::hello();
    for i in 0..2_000 {
        streams = streams.frame(HEADERS, END_HEADERS, 2 * i + 1, &call);
    }
    // Those that no honest client does must end the connection, or at least the stream.
    let attacks = [
        ("11 rapid reset", reset, true),
        ("11 CONTINUATION flood", flood, true),
        ("11 empty CONTINUATION flood", empty, true),
        ("11 1 MiB of headers", list, true),
        ("11 DATA of one byte", single, false),
        ("11 DATA of nothing", nothing, false),
        ("11 SETTINGS flood", settings, false),
        ("11 PING flood", pings, false),
        ("11 2,000 streams", streams, true),
    ];
    let (calm, ()) = latency_during(&table, async {}).await;
    // On a machine that is busy with other tests, what is calm is slow as well.
    let bound = Duration::from_millis(100).max(calm * 5);
    let growth = Growth::begin(&table.daemon);
    for (row, frames, must_end) in attacks {
        for address in [table.daemon.grpc.clone(), table.daemon.http.clone()] {
            let bytes = frames.0.clone();
            let attack = tokio::spawn(async move { attack(&address, bytes, 0).await });
            let (p99, outcome) = latency_during(&table, attack).await;
            let outcome = outcome.expect("it ran");
            let stopped = outcome.ended || outcome.resets > 0 || outcome.answers > 0;
            assert!(stopped || !must_end, "row {row}: {outcome:?}");
            assert!(
                p99 < bound,
                "row {row}: p99 of others {p99:?}, calm {calm:?}"
            );
            table.good_request(row).await;
        }
    }
    growth.stays_below(&table.daemon, 64 << 20, "11");

    // Whoever does not read the answers of a flood is not read, either, and holds up nobody.
    let mut deaf = TcpStream::connect(&table.daemon.grpc)
        .await
        .expect("a connection");
    deaf.write_all(&Frames::hello().0).await.expect("taken");
    let ping = Frames(Vec::new())
        .frame(PING, 0, 0, b"no reply")
        .0
        .repeat(4096);
    let growth = Growth::begin(&table.daemon);
    for _ in 0..1000 {
        let written = timeout(Duration::from_secs(1), deaf.write_all(&ping)).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    growth.stays_below(&table.daemon, 16 << 20, "11 PINGs to the deaf");
    let after = table.counted().await.since(&before);
    assert!(after.rejected.is_empty(), "{after:?}");
    table.finish("11").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_broken_framing_of_grpc() {
    let mut table = Table::start().await;
    table.good_request("0").await;
    let message = good("framed", "framed");
    let two = [grpc::framed(0, &message), grpc::framed(0, &message)].concat();
    let before = table.counted().await;
    let growth = Growth::begin(&table.daemon);
    let giant = |length: u32| {
        let mut bytes = vec![0];
        bytes.put_u32(length);
        bytes
    };
    let cases: [(&str, Vec<u8>, &[Code]); 12] = [
        (
            "12 compressed without grpc-encoding",
            grpc::framed(1, &message),
            &[Code::Internal],
        ),
        ("12 flag 2", grpc::framed(2, &message), &[Code::Internal]),
        (
            "12 flag 255",
            grpc::framed(255, &message),
            &[Code::Internal],
        ),
        (
            "12 a length of 4 GiB",
            giant(u32::MAX),
            &[Code::ResourceExhausted],
        ),
        (
            "12 a length of the limit and one",
            giant((64 << 20) + 1),
            &[Code::ResourceExhausted],
        ),
        (
            "12 a length of the limit, and nothing",
            giant(64 << 20),
            &[Code::Internal],
        ),
        (
            "12 no message",
            Vec::new(),
            &[Code::Internal, Code::InvalidArgument],
        ),
        ("12 half a prefix", vec![0, 0], &[Code::Internal]),
        (
            "12 half a message",
            grpc::framed(0, &message)[..20].to_vec(),
            &[Code::Internal],
        ),
        (
            "12 two messages",
            two,
            &[Code::Internal, Code::InvalidArgument],
        ),
        (
            "12 a message and a byte",
            [&grpc::framed(0, &message)[..], &[0]].concat(),
            &[Code::Internal, Code::InvalidArgument],
        ),
        (
            "12 not a message",
            grpc::framed(0, &[0xff; 30]),
            &[Code::Internal, Code::InvalidArgument],
        ),
    ];
    for (row, bytes, codes) in cases {
        let called = table.grpc.call(Call::raw(bytes)).await;
        assert_eq!(called.http, 200, "row {row}");
        assert!(codes.contains(&called.code), "row {row}: {called:?}");
        assert_eq!(
            called.retry_delay(),
            None,
            "row {row}: never to be tried again"
        );
        assert!(!called.text.is_empty(), "row {row}");
        table.good_request(row).await;
    }
    growth.stays_below(&table.daemon, 16 << 20, "12");
    let after = table.counted().await.since(&before);
    assert_eq!(after, Counted::applied(12));
    // A message in two frames, cut within its prefix, is good.
    let (answer, mut sending) = grpc::connect(&table.daemon.grpc)
        .await
        .ready()
        .await
        .expect("ready")
        .send_request(Call::raw(Vec::new()).request(), false)
        .expect("a stream");
    let bytes = grpc::framed(0, &message);
    for piece in bytes.chunks(3) {
        sending
            .send_data(piece.to_vec().into(), false)
            .expect("sent");
    }
    sending.send_data(bytes::Bytes::new(), true).expect("sent");
    assert_eq!(grpc::finish(answer).await.code, Code::Ok);
    table.finish("12").await;
}
