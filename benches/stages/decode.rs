//! The bytes of a request become a batch, which is then dropped.

use tidewatch::ingest::{Decoder, Format};
use tidewatch::model::Batch;

use super::requests::Requests;
use super::{Size, Stage, at, nanos};

/// Series that the decoder may know again, as in the daemon.
const KNOWN: usize = 1_000_000;

struct Decode {
    requests: Requests,
    turn: u64,
    body: Vec<u8>,
    items: usize,
    decoder: Decoder,
    /// Every request is the first.
    forgets: bool,
}

pub(crate) fn metrics(size: Size) -> Box<dyn Stage> {
    Decode::start(super::metrics(size), false)
}

/// Series that the decoder meets for the first time.
pub(crate) fn new_metrics(size: Size) -> Box<dyn Stage> {
    Decode::start(super::metrics(size), true)
}

pub(crate) fn traces(size: Size) -> Box<dyn Stage> {
    Decode::start(super::traces(size), false)
}

impl Decode {
    fn start(requests: Requests, forgets: bool) -> Box<dyn Stage> {
        let rounds = 2 * requests.count();
        let mut decode = Self {
            requests,
            turn: 0,
            body: Vec::new(),
            items: 0,
            decoder: Decoder::new(KNOWN),
            forgets,
        };
        // All series are known then.
        for _ in 0..rounds {
            decode.prepare();
            decode.run();
        }
        Box::new(decode)
    }
}

impl Stage for Decode {
    fn prepare(&mut self) {
        let time = at(self.turn / self.requests.count());
        (self.body, self.items) = self.requests.make(self.turn, nanos(time));
        self.turn += 1;
        if self.forgets {
            self.decoder = Decoder::new(KNOWN);
        }
    }

    fn run(&mut self) {
        let batch = decode(&self.decoder, &self.requests, &self.body, self.turn);
        drop(std::hint::black_box(batch));
    }

    fn items(&self) -> u64 {
        self.items as u64
    }
}

/// What is in `body`, of the turn before `turn`.
pub(crate) fn decode(decoder: &Decoder, requests: &Requests, body: &[u8], turn: u64) -> Batch {
    let now = at(turn / requests.count());
    let batch = if requests.are_traces() {
        decoder.traces(Format::Protobuf, body, now)
    } else {
        decoder.metrics(Format::Protobuf, body, now)
    };
    batch.expect("a sound request")
}
