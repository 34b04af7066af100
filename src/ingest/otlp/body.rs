//! Reads the bytes of a request and inflates them, within the limit and the budget at every step.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::ingest::admission::Permit;
use crate::ingest::otlp::answer::Refusal;

/// The compressions that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// By the name that HTTP and gRPC share; `None`: not understood.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let name = name.trim();
        if name.is_empty() || name.eq_ignore_ascii_case("identity") {
            Some(Self::Identity)
        } else if name.eq_ignore_ascii_case("gzip") {
            Some(Self::Gzip)
        } else if name.eq_ignore_ascii_case("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// Why the next bytes did not come.
#[derive(Debug)]
pub(crate) enum Stalled {
    /// Time ran out.
    Deadline,
    /// The client is gone or broke the protocol; nobody waits for an answer.
    Gone,
}

/// The next bytes of `body`; `None` at its end.
pub(crate) async fn next<B>(body: &mut B, deadline: Instant) -> Result<Option<Bytes>, Stalled>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(Stalled::Deadline),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Stalled::Gone),
            // Trailers say nothing here.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Appends `data` to `to`, unless it would exceed the limit or the budget.
pub(crate) fn append(
    to: &mut Vec<u8>,
    data: &[u8],
    limit: usize,
    permit: &mut Permit,
) -> Result<(), Refusal> {
    let length = to.len() + data.len();
    if length > limit {
        return Err(Refusal::TooLarge { limit });
    }
    permit.cover(length)?;
    to.extend_from_slice(data);
    Ok(())
}

/// Bytes inflated between two looks at limit and budget.
const CHUNK: usize = 64 << 10;
/// Largest window of zstd, as a power of two: 32 MiB, the most that the Go implementation uses at any
/// level. A header can ask for far more.
const ZSTD_WINDOW_LOG: u32 = 25;

/// `body` without its compression. Never holds more than `limit` bytes and a chunk.
pub(crate) fn inflate(
    encoding: Encoding,
    body: Vec<u8>,
    limit: usize,
    permit: &mut Permit,
) -> Result<Vec<u8>, Refusal> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(&*body), limit, permit),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&*body).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
            if body.is_empty() {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
            read_all(decoder, limit, permit)
        }
    }
}

fn read_all(mut from: impl Read, limit: usize, permit: &mut Permit) -> Result<Vec<u8>, Refusal> {
    let mut chunk = vec![0; CHUNK];
    let mut all = Vec::new();
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(all),
            Ok(length) => append(
                &mut all,
                chunk.get(..length).unwrap_or_default(),
                limit,
                permit,
            )?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

fn broken(error: io::Error) -> Refusal {
    Refusal::Malformed(format!("cannot decompress: {error}"))
}

/// Takes in and forgets what a client still sends after its answer, up to `limit` bytes: closing at
/// once would make TCP throw the answer away before the client has read it.
pub(crate) async fn discard<B>(mut body: B, limit: usize, deadline: Instant)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut left = limit;
    while let Ok(Some(data)) = next(&mut body, deadline).await {
        match left.checked_sub(data.remaining()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
