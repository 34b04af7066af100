//! HTTP/2 frame by frame, in any order.

use bytes::BufMut as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// Frames of HTTP/2, good and bad.
pub struct Frames(pub Vec<u8>);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_HEADERS: u8 = 4;
pub const END_STREAM: u8 = 1;

impl Frames {
    /// The preface and empty settings.
    pub fn hello() -> Self {
        Self(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()).frame(SETTINGS, 0, 0, b"")
    }

    pub fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).expect("short");
        self.0.extend(&length.to_be_bytes()[1..]);
        self.0.extend([kind, flags]);
        self.0.put_u32(stream);
        self.0.extend(payload);
        self
    }
}

/// The headers of a call, without compression.
pub fn header_block(more: &[(&str, &[u8])]) -> Vec<u8> {
    let path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let mut block = Vec::new();
    let call: [(&str, &[u8]); 6] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", b"tidewatch"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    for (name, value) in call.iter().chain(more) {
        block.push(0);
        block.push(name.len() as u8);
        block.extend(name.as_bytes());
        // A length of seven bits, and what is beyond in more bytes.
        let mut length = value.len();
        if length < 127 {
            block.push(length as u8);
        } else {
            block.push(127);
            length -= 127;
            while length >= 128 {
                block.push((length & 127) as u8 | 128);
                length >>= 7;
            }
            block.push(length as u8);
        }
        block.extend(*value);
    }
    block
}

/// What became of a connection that attacks.
#[derive(Debug, Default)]
pub struct Outcome {
    /// GOAWAY, or the connection was closed.
    pub ended: bool,
    /// Streams that were reset by the daemon.
    pub resets: usize,
    /// Answers' headers.
    pub answers: usize,
}

/// Sends `bytes` and reads until the daemon ends the connection or has answered the last PING in them
/// and so many calls.
pub async fn attack(address: &str, bytes: Vec<u8>, answers: usize) -> Outcome {
    let last = Frames(bytes).frame(PING, 0, 0, b"the last").0;
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let (mut read, mut write) = stream.split();
    let writing = async {
        for piece in last.chunks(64 << 10) {
            if write.write_all(piece).await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let mut outcome = Outcome::default();
        let mut read_all = false;
        while !read_all || outcome.answers < answers {
            let mut head = [0; 9];
            if read.read_exact(&mut head).await.is_err() {
                outcome.ended = true;
                return outcome;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if read.read_exact(&mut payload).await.is_err() {
                outcome.ended = true;
                return outcome;
            }
            match head[3] {
                GOAWAY => outcome.ended = true,
                RST_STREAM => outcome.resets += 1,
                HEADERS => outcome.answers += 1,
                PING if payload == b"the last" => read_all = true,
                _ => {}
            }
        }
        outcome
    };
    let both = async {
        tokio::pin!(writing, reading);
        let mut written = false;
        loop {
            tokio::select! {
                () = &mut writing, if !written => written = true,
                outcome = &mut reading => return outcome,
            }
        }
    };
    timeout(PATIENCE, both)
        .await
        .expect("11: the attack never ends")
}
