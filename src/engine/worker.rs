//! A shard's thread and the mailbox in front of it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use super::shard::Shard;
use crate::telemetry::Telemetry;

/// Something to do with a shard, on its thread. The answer travels in a channel of its own.
type Job = Box<dyn FnOnce(&mut Shard) + Send>;

enum Message {
    Run(Job),
    Stop,
}

/// The way to one shard. Jobs are done one after the other in the order in which they were sent.
#[derive(Clone)]
pub(super) struct Mailbox(mpsc::Sender<Message>);

/// Room for one job that nobody else can take.
pub(super) struct Permit(mpsc::OwnedPermit<Message>);

/// The shard's thread is gone: it panicked, or the engine was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// The mailbox is full.
    Full,
    /// Nobody reads it any more.
    Gone,
}

/// Starts the thread of `shard`. `queue` jobs may wait for it: points that come while it is full are
/// refused as retryable, everything else waits for its turn.
pub(super) fn start(
    number: usize,
    shard: Shard,
    queue: usize,
    telemetry: Telemetry,
) -> io::Result<(Mailbox, JoinHandle<()>)> {
    let (sender, inbox) = mpsc::channel(queue);
    let thread = thread::Builder::new()
        .name(format!("tidewatch-shard-{number}"))
        .spawn(move || run(shard, inbox, &telemetry))?;
    Ok((Mailbox(sender), thread))
}

fn run(mut shard: Shard, mut inbox: mpsc::Receiver<Message>, telemetry: &Telemetry) {
    while let Some(Message::Run(job)) = inbox.blocking_recv() {
        // After a panic the shard's state may be half changed, so it is not used again. Whoever waits
        // for an answer learns of it by its channel, and whoever comes later by the mailbox.
        if catch_unwind(AssertUnwindSafe(|| job(&mut shard))).is_err() {
            telemetry.panics.inc();
            let name = thread::current().name().unwrap_or_default().to_owned();
            tracing::error!(
                shard = name,
                "a shard panicked; its series are lost until a restart"
            );
            return;
        }
    }
}

impl Mailbox {
    /// Room for one job, at once or not at all.
    pub(super) fn try_reserve(&self) -> Result<Permit, NoRoom> {
        match self.0.clone().try_reserve_owned() {
            Ok(permit) => Ok(Permit(permit)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(NoRoom::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NoRoom::Gone),
        }
    }

    /// Waits for room, then has `work` done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (job, answer) = job(work);
        self.0.send(job).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    /// Whether somebody still reads it.
    pub(super) fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Ends the thread once it has done what was sent before.
    pub(super) async fn stop(&self) {
        // If the mailbox is closed, the thread has ended already.
        drop(self.0.send(Message::Stop).await);
    }
}

impl Permit {
    /// Has `work` done; its answer comes by the channel.
    pub(super) fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (job, answer) = job(work);
        self.0.send(job);
        answer
    }
}

fn job<T: Send + 'static>(
    work: impl FnOnce(&mut Shard) -> T + Send + 'static,
) -> (Message, oneshot::Receiver<T>) {
    let (reply, answer) = oneshot::channel();
    let job = move |shard: &mut Shard| {
        // Whoever asked may have gone; the work is done all the same.
        drop(reply.send(work(shard)));
    };
    (Message::Run(Box::new(job)), answer)
}
