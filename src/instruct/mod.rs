//! Tells services their mode by signed requests to them: for those that can be called more easily than they
//! can ask.
//!
//! In: what services are told, from the [`Board`]. Out: one request for each new instruction, and again
//! within each lease; acknowledgements, where the answer says in which mode the service runs. What always
//! holds: only the newest instruction is told; one that could not be told is tried again, as the same message
//! for half of a lease, until it is superseded; what does not hold any more is not told. No service holds up
//! another: at most one request is under way for each, and a bounded number for all.

mod agenda;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use regex::Regex;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::{Acknowledgement, ModeState, Timestamp};
use crate::notify::{AttemptError, Error, Policy, Poster, Secret};
use crate::publish::Board;
use crate::telemetry::Telemetry;
use agenda::{Agenda, Job, Message};

/// Longest time between two looks at who is known.
const LOOK: Duration = Duration::from_secs(1);
/// How long the decision task may take to note an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(10);
/// What stands for the service's name in an address.
const PLACEHOLDERS: [&str; 2] = ["{{ service }}", "{{service}}"];

/// Services that are told by a request.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Which; to match the whole of a name it has to be anchored.
    pub service: Regex,
    /// Where they listen; `{{ service }}` stands for the service's name. What a name cannot contribute to a
    /// URL without changing its meaning is escaped.
    pub url: String,
    /// Signs the requests.
    pub secret: Option<Secret>,
}

/// Settings of telling services.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who is told; the first that matches a service tells it.
    pub webhooks: Vec<Webhook>,
    /// How long an instruction holds; it is told again after half of it.
    pub lease: Duration,
    /// Requests at the same time. Default 64.
    pub concurrency: usize,
    /// Longest time of one request. Default 5 s, and never more than half of a lease.
    pub timeout: Duration,
    /// Link-local addresses that may be connected to all the same. Default none.
    pub link_local_allowed: Vec<IpAddr>,
    /// Seed of the jitter between attempts.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            webhooks: Vec::new(),
            lease: Duration::from_secs(30),
            concurrency: 64,
            timeout: Duration::from_secs(5),
            link_local_allowed: Vec::new(),
            seed: 0,
        }
    }
}

/// The body of a request.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: &'a ModeState,
}

/// The body of an answer; it may be anything else, too, which says nothing.
#[derive(Deserialize)]
struct Answer {
    mode: String,
    /// `None`: what it was just told.
    sequence: Option<u64>,
    #[serde(default)]
    instance: String,
    #[serde(default)]
    detail: String,
}

/// What became of telling one service.
struct Outcome {
    job: Job,
    /// Number of the instruction.
    sequence: u64,
    /// What was sent.
    message: Option<Arc<Message>>,
    result: Result<Heard, AttemptError>,
}

enum Heard {
    /// There was nothing to tell that holds.
    Nothing,
    Silently,
    /// And it said in which mode it runs.
    Acknowledged,
}

/// Tells services. See the module.
#[derive(Debug)]
pub struct Instructor {
    settings: Settings,
    board: Board,
    clock: Clock,
    telemetry: Telemetry,
    poster: Poster,
    agenda: Agenda,
    policy: Policy,
    random: SmallRng,
}

impl Instructor {
    /// Ready to tell what `board` shows.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(
        settings: Settings,
        board: Board,
        clock: Clock,
        telemetry: Telemetry,
    ) -> Result<Self, Error> {
        let half = settings.lease / 2;
        let poster = Poster::new(settings.timeout.min(half), &settings.link_local_allowed)?;
        let policy = Policy {
            max: half.max(Duration::from_secs(1)),
            max_elapsed: Duration::MAX,
            max_retry_after: half,
            ..Policy::default()
        };
        Ok(Self {
            random: SmallRng::seed_from_u64(settings.seed),
            agenda: Agenda::default(),
            settings,
            board,
            clock,
            telemetry,
            poster,
            policy,
        })
    }

    /// Tells until `stop`. Returns at once when there is nobody to be told.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.settings.webhooks.is_empty() {
            return;
        }
        let mut changes = self.board.mode_changes();
        let mut jobs = JoinSet::new();
        let mut look = tokio::time::interval(LOOK);
        loop {
            let now = Instant::now();
            while jobs.len() < self.settings.concurrency
                && let Some(job) = self.agenda.take(now)
            {
                jobs.spawn(self.told(job));
            }
            let next = self
                .agenda
                .next()
                .filter(|_| jobs.len() < self.settings.concurrency);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = jobs.join_next() => self.done(done),
                // The board outlives this task, so it never ends.
                Ok(()) = changes.changed() => self.look(),
                _ = look.tick() => self.look(),
                () = sleep_until(next) => {}
            }
        }
        // What is under way ends here: the lease says how long it held.
    }

    fn look(&mut self) {
        let modes = self.board.modes();
        let wanted = modes.services.values();
        let wanted = wanted.map(|told| (told.service.as_str(), told.sequence));
        let webhooks = &self.settings.webhooks;
        let hook = |service: &str| {
            webhooks
                .iter()
                .position(|webhook| webhook.service.is_match(service))
        };
        self.agenda.look(Instant::now(), wanted, hook);
    }

    /// One request, with what is told by then.
    fn told(&self, job: Job) -> impl Future<Output = Outcome> + Send + use<> {
        let webhook = self.settings.webhooks[job.hook].clone();
        let (board, clock, poster) = (self.board.clone(), self.clock.clone(), self.poster.clone());
        let renew = self.settings.lease / 2;
        async move {
            let now = clock.now();
            let modes = board.modes();
            let told = modes.services.get(&*job.service);
            // Nobody decides any more: the service is to hear silence, and to find its own way.
            let told = told.filter(|told| told.lease_expires_at > now);
            let sequence = told.map_or(0, |told| told.sequence);
            let again = job.message.clone();
            let message = told
                .map(|told| message(told, again, now, renew))
                .transpose();
            let (message, result) = match (told, message) {
                (Some(told), Ok(Some(message))) => {
                    let result = tell(&webhook, told, &message, &poster, now).await;
                    (Some(message), result.map(Some))
                }
                (_, Ok(_)) => (None, Ok(None)),
                (_, Err(error)) => (None, Err(error)),
            };
            let result = match result {
                Err(error) => Err(error),
                Ok(None) => Ok(Heard::Nothing),
                Ok(Some(None)) => Ok(Heard::Silently),
                Ok(Some(Some(said))) => {
                    let noted = board.acknowledge(job.service.to_string(), said);
                    // Should it not be noted, the next renewal says it again.
                    drop(tokio::time::timeout(PATIENCE, noted).await);
                    Ok(Heard::Acknowledged)
                }
            };
            Outcome {
                job,
                sequence,
                message,
                result,
            }
        }
    }

    fn done(&mut self, done: Result<Outcome, JoinError>) {
        let Outcome {
            job,
            sequence,
            message,
            result,
        } = match done {
            Ok(outcome) => outcome,
            Err(_) => {
                // The service stays underway and is not told any more, which its lease makes safe.
                self.telemetry.panics.inc();
                return;
            }
        };
        let now = Instant::now();
        let count = |result| {
            self.telemetry
                .mode_webhooks
                .with_label_values(&[result])
                .inc()
        };
        let failed = match result {
            Ok(Heard::Nothing) => {
                self.agenda.rest(now, &job.service, LOOK);
                return;
            }
            Ok(heard) => {
                count(match heard {
                    Heard::Acknowledged => "acknowledged",
                    Heard::Nothing | Heard::Silently => "delivered",
                });
                let renew = self.settings.lease / 2;
                let failures = self.agenda.done(now, &job.service, sequence, renew);
                if failures > 0 {
                    tracing::info!(service = &*job.service, failures, "told its mode again");
                }
                return;
            }
            Err(failed) => failed,
        };
        count("failed");
        let after = match &failed {
            AttemptError::Retryable { after, .. } | AttemptError::Limited { after, .. } => *after,
            AttemptError::Permanent { .. } | AttemptError::Gone { .. } => Some(Duration::MAX),
        };
        let (policy, random) = (&self.policy, self.random.random());
        let wait = |failed| {
            let wait = policy.wait(failed, Duration::ZERO, Duration::MAX, after, random);
            wait.unwrap_or(policy.max)
        };
        let agenda = &mut self.agenda;
        if agenda.failed(now, &job.service, sequence, message, wait) == 1 {
            tracing::warn!(
                service = &*job.service,
                sequence,
                "could not be told its mode: {failed}"
            );
        }
    }
}

/// What a service is sent: `again`, what it did not take, while that still says the same and need not be
/// renewed; else a new one, which need not be for `renew`.
fn message(
    told: &ModeState,
    again: Option<Arc<Message>>,
    now: Timestamp,
    renew: Duration,
) -> Result<Arc<Message>, AttemptError> {
    let same = again.filter(|message| {
        message.sequence == told.sequence
            && message.holds_until > now
            && message.renewal > Instant::now()
    });
    if let Some(message) = same {
        return Ok(message);
    }
    let body = Body {
        r#type: "mode",
        timestamp: now,
        data: told,
    };
    let body = serde_json::to_vec(&body).map_err(|error| AttemptError::Permanent {
        reason: error.to_string(),
    })?;
    Ok(Arc::new(Message {
        // Of its own for each renewal, so that receivers which refuse repeats take it.
        id: format!("mode_{}_{}", told.sequence, now.as_nanos()),
        body,
        sequence: told.sequence,
        holds_until: told.lease_expires_at,
        renewal: Instant::now() + renew,
    }))
}

/// Tells one service once, at `now`; what it acknowledges, if it does.
async fn tell(
    webhook: &Webhook,
    told: &ModeState,
    message: &Message,
    poster: &Poster,
    now: Timestamp,
) -> Result<Option<Acknowledgement>, AttemptError> {
    let url = address(&webhook.url, &told.service);
    let secret = webhook.secret.as_ref();
    let Message { id, body, .. } = message;
    let answer = poster.post(&url, secret, id, now, body.clone()).await?;
    Ok(serde_json::from_str(&answer)
        .ok()
        .map(|answer: Answer| Acknowledgement {
            instance: answer.instance,
            mode: answer.mode,
            sequence: answer.sequence.unwrap_or(told.sequence),
            detail: answer.detail,
        }))
}

/// `template` with the service's name in it. Names come from outside: one that holds a slash, an `@` or the
/// like leads nowhere else.
fn address(template: &str, service: &str) -> String {
    let mut escaped = String::with_capacity(service.len());
    for byte in service.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    // A path of dots would be taken for a way up.
    if matches!(service, "." | "..") {
        escaped = escaped.replace('.', "%252E");
    }
    PLACEHOLDERS
        .iter()
        .fold(template.to_owned(), |url, name| url.replace(name, &escaped))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
