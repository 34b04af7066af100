//! The notice board between the deciding core and everyone who looks at it: snapshots that readers
//! take without waiting, the event log, and the commands that people may give.
//!
//! The decision task alone writes here. Readers hold a [`Board`] and never wait for it.

mod acknowledgements;
mod hub;
mod log;
mod place;
#[cfg(test)]
mod tests;
mod topic;

pub use acknowledgements::{ACKNOWLEDGEMENT_QUEUE, Acknowledgements, Acknowledging};
pub use hub::{Feed, Follow, Lost};
pub use log::Entry;
pub use place::Place;
pub use topic::{Kinds, Topic};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::dispatch::Notifying;
use crate::model::{
    Acknowledgement, Alert, Episode, Event, EventBody, Fingerprint, Incident, Levels, ModeState,
    Override, PlanRun, PostedAlert, Proposal, ServiceReport, Timestamp,
};
use crate::mute::{Draft, SilenceId, Silences};
use hub::Hub;

/// Live events that may wait for one watcher; who has more to read goes on from the log. Small, for there
/// may be ten thousand watchers.
pub const WATCHER_BUFFER: usize = 64;
/// Events kept for watchers that are behind, or come back with `Last-Event-ID`; as many changes of modes are
/// kept besides, for those who watch nothing else.
pub const EVENT_LOG: usize = 10_000;
/// Commands that may wait for the decision task; a further caller waits for room.
pub const COMMAND_QUEUE: usize = 64;

/// The kill switch.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Freeze {
    /// Who set it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When.
    pub set_at: Timestamp,
}

/// All modes as of one decision.
#[derive(Debug, Clone, Default)]
pub struct ModesView {
    /// The names of the levels.
    pub levels: Levels,
    /// Every service that is known to the mode machine, by name.
    pub services: BTreeMap<String, ModeState>,
    /// The kill switch, while it is set.
    pub freeze: Option<Freeze>,
    /// Steps that automation leaves to people.
    pub proposals: Vec<Proposal>,
    /// Departures from normal that go on, then those that ended lately, the newest first.
    pub episodes: Vec<Arc<Episode>>,
    /// Plans that go on, then those that ended lately, the newest first.
    pub plans: Vec<Arc<PlanRun>>,
    /// What services that report say, by name.
    pub reports: BTreeMap<String, ServiceReport>,
    /// Why automation changes nothing at present, beside the kill switch: it does not know enough yet
    /// after a start, a gap in the data or a jump of the clock. `None`: it knows.
    pub blind: Option<String>,
    /// Every feature that a level or a policy may set, in force or not, and what sets it, in words.
    pub known_features: Arc<BTreeMap<String, Vec<String>>>,
}

/// What a person may tell the decision task. Each is answered once it is durable.
#[derive(Debug)]
pub enum Command {
    /// Put a service into a mode by hand.
    SetOverride {
        /// The service.
        service: String,
        /// What is set.
        manual: Override,
        /// The answer.
        reply: oneshot::Sender<Result<ModeState, CommandError>>,
    },
    /// Give a service back to the policies.
    RemoveOverride {
        /// The service.
        service: String,
        /// Who removes it.
        author: String,
        /// The answer.
        reply: oneshot::Sender<Result<ModeState, CommandError>>,
    },
    /// Set (`Some`) or remove (`None`) the kill switch.
    Freeze {
        /// The switch.
        freeze: Option<Freeze>,
        /// Who does it.
        author: String,
        /// The answer.
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
    /// Decide on a step that automation leaves to people.
    Decide {
        /// Id of the proposal.
        proposal: String,
        /// Whether the step is to be taken.
        approve: bool,
        /// Who decides.
        author: String,
        /// Why.
        reason: String,
        /// The answer: the proposal that was decided on.
        reply: oneshot::Sender<Result<Proposal, CommandError>>,
    },
    /// Make or change a silence.
    SetSilence {
        /// What is wanted.
        draft: Draft,
        /// The answer: the silence's id.
        reply: oneshot::Sender<Result<SilenceId, CommandError>>,
    },
    /// Take alerts that another system reports.
    PostAlerts {
        /// The alerts.
        alerts: Vec<PostedAlert>,
        /// What became of them.
        reply: oneshot::Sender<Result<PostedAnswer, CommandError>>,
    },
    /// Take the deviation of an alert for normal.
    Dismiss {
        /// Which alert.
        fingerprint: Fingerprint,
        /// Who.
        author: String,
        /// Why.
        comment: String,
        /// The answer: the alert as it ended.
        reply: oneshot::Sender<Result<Arc<Alert>, CommandError>>,
    },
    /// End a silence.
    ExpireSilence {
        /// Which.
        id: SilenceId,
        /// The answer.
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
}

/// What became of alerts that another system reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostedAnswer {
    /// What is wrong with those that were not taken.
    pub invalid: Vec<String>,
    /// Those there was no room for.
    pub refused: usize,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such service, override, silence or alert.
    #[error("{0}")]
    NotFound(String),
    /// The command itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be made durable now.
    #[error("{0}")]
    Unavailable(String),
}

/// A handle on everything published. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Board {
    alerts: Arc<ArcSwap<Vec<Arc<Alert>>>>,
    notifying: Arc<ArcSwap<Notifying>>,
    incidents: Arc<ArcSwap<Vec<Arc<Incident>>>>,
    modes: Arc<ArcSwap<ModesView>>,
    silences: Arc<ArcSwap<Silences>>,
    readiness: Arc<ArcSwap<Option<String>>>,
    hub: Hub,
    /// Number of the newest change of a mode.
    changed: Arc<watch::Sender<u64>>,
    commands: mpsc::Sender<Command>,
    acknowledging: mpsc::Sender<Acknowledging>,
    /// The other end of it, until the decision task takes it.
    acknowledgements: Arc<Mutex<Option<Acknowledgements>>>,
}

impl Board {
    /// A board with the events of earlier runs, oldest first, and the queue of commands that the
    /// decision task reads. It is not ready until [`Board::set_ready`].
    pub fn new(history: Vec<Event>) -> (Self, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let (acknowledging, acknowledgements) = Acknowledgements::new();
        let board = Self {
            alerts: Arc::default(),
            notifying: Arc::default(),
            incidents: Arc::default(),
            modes: Arc::default(),
            silences: Arc::default(),
            readiness: Arc::new(ArcSwap::from_pointee(Some("starting".into()))),
            hub: Hub::new(history),
            changed: Arc::new(watch::Sender::new(0)),
            commands,
            acknowledging,
            acknowledgements: Arc::new(Mutex::new(Some(acknowledgements))),
        };
        (board, queue)
    }

    /// Alerts that are pending or firing, and those resolved a short while ago.
    pub fn alerts(&self) -> Arc<Vec<Arc<Alert>>> {
        self.alerts.load_full()
    }

    /// Who is notified of which alerts, and which are not notified and why.
    pub fn notifying(&self) -> Arc<Notifying> {
        self.notifying.load_full()
    }

    /// Incidents that go on, then those that ended within a day, the newest first.
    pub fn incidents(&self) -> Arc<Vec<Arc<Incident>>> {
        self.incidents.load_full()
    }

    /// The modes.
    pub fn modes(&self) -> Arc<ModesView> {
        self.modes.load_full()
    }

    /// The silences.
    pub fn silences(&self) -> Arc<Silences> {
        self.silences.load_full()
    }

    /// Why the daemon is not ready; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        self.readiness.load().as_ref().clone()
    }

    /// Gives a command to the decision task, waiting for room in its queue.
    ///
    /// # Errors
    /// The decision task has ended.
    pub async fn command(&self, command: Command) -> Result<(), CommandError> {
        let gone = |_| CommandError::Unavailable("shutting down".into());
        self.commands.send(command).await.map_err(gone)
    }

    /// Gives what an instance of a service says to the decision task, and waits until that has decided on
    /// it. Waits for room if very many do so at once.
    ///
    /// # Errors
    /// The service is not known, what it says is wrong, or the decision task has ended.
    pub async fn acknowledge(
        &self,
        service: String,
        acknowledgement: Acknowledgement,
    ) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        let gone = || CommandError::Unavailable("shutting down".into());
        let acknowledging = Acknowledging {
            service,
            acknowledgement,
            reply,
        };
        let sent = self.acknowledging.send(acknowledging).await;
        sent.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// The queue of acknowledgements; `None` if somebody has taken it already. For the decision task only.
    pub fn acknowledgements(&self) -> Option<Acknowledgements> {
        let acknowledgements = self.acknowledgements.lock();
        acknowledgements
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Watches the events of `topic` after the one numbered `after`; `None`: only new ones.
    pub fn subscribe(&self, topic: Topic, after: Option<u64>, place: Place) -> Feed {
        self.hub.subscribe(topic, after, place)
    }

    /// Follows what `service` is told, also before it is known.
    pub fn follow(&self, service: &str) -> Follow {
        let now = self.modes.load().services.get(service).cloned();
        self.hub.follow(service, now)
    }

    /// The number of the newest change of a mode in this run; changes with each.
    pub fn mode_changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Number of the newest event; 0 when there was none yet.
    pub fn last_sequence(&self) -> u64 {
        self.hub.newest()
    }

    /// Publishes alerts. For the decision task only.
    pub fn set_alerts(&self, alerts: Vec<Arc<Alert>>) {
        self.alerts.store(Arc::new(alerts));
    }

    /// Publishes who is notified of what. For the decision task only.
    pub fn set_notifying(&self, notifying: Notifying) {
        self.notifying.store(Arc::new(notifying));
    }

    /// Publishes incidents. For the decision task only.
    pub fn set_incidents(&self, incidents: Vec<Arc<Incident>>) {
        self.incidents.store(Arc::new(incidents));
    }

    /// Publishes modes. For the decision task only.
    pub fn set_modes(&self, modes: ModesView) {
        let modes = Arc::new(modes);
        self.modes.store(Arc::clone(&modes));
        self.hub.introduce(|service| modes.services.get(service));
    }

    /// Publishes silences. For the decision task only.
    pub fn set_silences(&self, silences: Silences) {
        self.silences.store(Arc::new(silences));
    }

    /// Says that the daemon is ready (`None`) or why not.
    pub fn set_ready(&self, reason: Option<String>) {
        self.readiness.store(Arc::new(reason));
    }

    /// Appends events that are durable already, after what they brought was made public. For the decision
    /// task only.
    pub fn append(&self, events: impl IntoIterator<Item = Event>) {
        let mut changed = None;
        let events = events.into_iter().inspect(|event| {
            if matches!(event.body, EventBody::Mode(_)) {
                changed = Some(event.sequence);
            }
        });
        self.hub.append(events);
        if let Some(sequence) = changed {
            self.changed.send_replace(sequence);
        }
    }
}
