//! What both transports do with a request once its bytes are here: inflate, decode, apply, count.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::clock::{self, Clock};
use crate::ingest::admission::{Admission, NoRoom, Permit};
use crate::ingest::log_limit::LogLimit;
use crate::ingest::otlp::answer::Refusal;
use crate::ingest::otlp::auth::Gate;
use crate::ingest::otlp::body::{self, Encoding};
use crate::ingest::otlp::decode::{DecodeError, Decoder, Format};
use crate::ingest::{Refused, Settings, Sink};
use crate::model::{Batch, MetricPoint, Rejections, SeriesIdentity, SpanRecord};
use crate::telemetry::Telemetry;

/// The two signals of OTLP that have a door here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

/// A request whose bytes are here.
pub(crate) struct Received {
    pub(crate) signal: Signal,
    pub(crate) format: Format,
    pub(crate) encoding: Encoding,
    pub(crate) body: Vec<u8>,
    pub(crate) permit: Permit,
}

/// The part of the servers that all connections share.
pub(crate) struct Intake {
    pub(crate) settings: Settings,
    pub(crate) gate: Gate,
    pub(crate) admission: Arc<Admission>,
    pub(crate) telemetry: Telemetry,
    /// Everything that must end before the server has ended.
    pub(crate) tasks: TaskTracker,
    pub(crate) log: LogLimit,
    sink: Arc<dyn Sink>,
    clock: Clock,
    decoder: Decoder,
    /// Places for large requests to be decoded: as many as there are cores, so that bytes which are
    /// being turned into points, and are not yet counted as such, stay few.
    decoders: Semaphore,
}

/// How long a client is asked to wait when the budget is used up or everything is refused.
const BACK_OFF: Duration = Duration::from_secs(2);
/// Up to this many bytes are decoded where they are, in about a millisecond; more go to a thread of
/// their own, so that other connections do not wait.
const DECODE_HERE: usize = 128 << 10;
/// The same for compressed bytes, which may become a thousand times as many.
const INFLATE_HERE: usize = 4 << 10;

impl Intake {
    pub(crate) fn new(
        settings: Settings,
        sink: Arc<dyn Sink>,
        admission: Arc<Admission>,
        telemetry: Telemetry,
        clock: Clock,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            gate: Gate::new(settings.auth.as_ref()),
            admission,
            telemetry,
            tasks: TaskTracker::new(),
            log: LogLimit::default(),
            sink,
            clock,
            decoder: Decoder::new(settings.known_series),
            decoders: Semaphore::new(cores),
            settings,
        }
    }

    /// The answer to every request for now, if everything is refused.
    pub(crate) fn refusing(&self) -> Result<(), Refusal> {
        match self.admission.refusing() {
            None => Ok(()),
            Some(cause) => Err(Refusal::Unavailable {
                after: BACK_OFF,
                reason: cause.reason().to_owned(),
            }),
        }
    }

    /// Applies a request. Once begun it runs to its end, even if the client goes away or stops
    /// waiting, so that a batch is never applied by half.
    pub(crate) async fn take(self: &Arc<Self>, received: Received) -> Result<Rejections, Refusal> {
        let this = Arc::clone(self);
        let work = self.tasks.spawn(async move { this.apply(received).await });
        work.await.unwrap_or_else(|error| {
            self.telemetry.panics.inc();
            Err(Refusal::Internal(error.to_string()))
        })
    }

    async fn apply(self: &Arc<Self>, received: Received) -> Result<Rejections, Refusal> {
        let here = match received.encoding {
            Encoding::Identity => DECODE_HERE,
            Encoding::Gzip | Encoding::Zstd => INFLATE_HERE,
        };
        // The permit is held until the batch is applied.
        let (mut batch, _permit) = if received.body.len() <= here {
            self.decode(received)?
        } else {
            // The semaphore is never closed.
            let _place = self.decoders.acquire().await.ok();
            let this = Arc::clone(self);
            let decoded = tokio::task::spawn_blocking(move || this.decode(received)).await;
            decoded.unwrap_or_else(|error| {
                self.telemetry.panics.inc();
                Err(Refusal::Internal(error.to_string()))
            })?
        };
        let mut rejections = std::mem::take(&mut batch.rejections);
        if !batch.points.is_empty() || !batch.spans.is_empty() {
            rejections.merge(self.sink.apply(batch).await?);
        }
        self.count(&rejections);
        Ok(rejections)
    }

    /// Inflates and decodes; afterwards the permit covers the batch, and the bytes if it keeps them.
    fn decode(&self, received: Received) -> Result<(Batch, Permit), Refusal> {
        let limit = self.settings.max_request_bytes;
        let Received {
            signal,
            format,
            encoding,
            body,
            mut permit,
        } = received;
        let body = body::inflate(encoding, body, limit, &mut permit)?;
        let length = body.len();
        let now = self.clock.now();
        let batch = match signal {
            Signal::Metrics => self.decoder.metrics(format, body, now),
            Signal::Traces => self.decoder.traces(format, body, now),
        }
        .map_err(|error| match error {
            DecodeError::Malformed(what) => Refusal::Malformed(what),
            DecodeError::TooLarge => Refusal::TooLarge { limit },
        })?;
        let kept = if batch.names.is_some() { length } else { 0 };
        permit.set(footprint(&batch) + kept);
        Ok((batch, permit))
    }

    /// Writes a line about a refused request, if there was none about its reason lately.
    pub(crate) fn log_refusal(&self, refusal: &Refusal) {
        let reason = refusal.log_reason();
        if let Some(left_out) = self.log.permit(reason, clock::instant()) {
            let detail = refusal.detail();
            tracing::warn!(
                reason,
                detail,
                lines_left_out = left_out,
                "refused an OTLP request"
            );
        }
    }

    fn count(&self, rejections: &Rejections) {
        for (reason, count, example) in rejections.iter() {
            let name = reason.name();
            self.telemetry
                .rejected
                .with_label_values(&[name])
                .inc_by(count);
            if let Some(left_out) = self.log.permit(name, clock::instant()) {
                tracing::warn!(
                    reason = name,
                    count,
                    example,
                    lines_left_out = left_out,
                    "refused points or spans of an OTLP request"
                );
            }
        }
    }
}

/// About how many bytes a batch takes; what its attributes hold is in proportion.
fn footprint(batch: &Batch) -> usize {
    let point = size_of::<MetricPoint>() + size_of::<SeriesIdentity>() + 64;
    batch.points.len() * point + batch.spans.len() * size_of::<SpanRecord>()
}

impl From<NoRoom> for Refusal {
    fn from(_: NoRoom) -> Self {
        Self::Unavailable {
            after: BACK_OFF,
            reason: "too many bytes of requests are in work".to_owned(),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Retryable { after, reason } => Self::Unavailable { after, reason },
            Refused::Internal(what) => Self::Internal(what),
        }
    }
}
