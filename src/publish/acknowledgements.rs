use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior};

use super::CommandError;
use crate::model::Acknowledgement;

/// Acknowledgements that may wait for the decision task; a further caller waits for room.
pub const ACKNOWLEDGEMENT_QUEUE: usize = 4_096;
/// How long the decision task gathers acknowledgements, which come in thousands when a widely used service
/// is told something: they are decided on and made durable together.
const GATHER: Duration = Duration::from_millis(50);

/// What an instance of a service says, with the way back to it.
#[derive(Debug)]
pub struct Acknowledging {
    /// The service.
    pub service: String,
    /// What it says.
    pub acknowledgement: Acknowledgement,
    /// The answer, once it is decided and durable.
    pub reply: oneshot::Sender<Result<(), CommandError>>,
}

/// The queue of acknowledgements, for the decision task.
#[derive(Debug)]
pub struct Acknowledgements {
    queue: mpsc::Receiver<Acknowledging>,
    waiting: Vec<Acknowledging>,
    pace: Option<Interval>,
}

impl Acknowledgements {
    pub(super) fn new() -> (mpsc::Sender<Acknowledging>, Self) {
        let (sender, queue) = mpsc::channel(ACKNOWLEDGEMENT_QUEUE);
        let waiting = Vec::new();
        let pace = None;
        (
            sender,
            Self {
                queue,
                waiting,
                pace,
            },
        )
    }

    /// All that have come, at least one; the first of them at once, those after it gathered for a moment.
    /// `None`: nobody can send any more. May be dropped while it waits; nothing is lost by that.
    pub async fn gather(&mut self) -> Option<Vec<Acknowledging>> {
        if self.waiting.is_empty() {
            let many = self
                .queue
                .recv_many(&mut self.waiting, ACKNOWLEDGEMENT_QUEUE);
            if many.await == 0 {
                return None;
            }
        }
        let pace = self.pace.get_or_insert_with(|| {
            let mut pace = tokio::time::interval(GATHER);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace
        });
        pace.tick().await;
        while self.waiting.len() < ACKNOWLEDGEMENT_QUEUE
            && let Ok(one) = self.queue.try_recv()
        {
            self.waiting.push(one);
        }
        Some(std::mem::take(&mut self.waiting))
    }
}
