//! A shard's thread and the mailbox in front of it; or, for replays, a shard that works on the thread of
//! whoever asks.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot};

use super::shard::Shard;
use crate::telemetry::Telemetry;

/// Something to do with a shard, on its thread. The answer travels in a channel of its own.
pub(super) type Job = Box<dyn FnOnce(&mut Shard) + Send>;

/// Something longer to do with a shard, in slices: it is called until it breaks.
pub(super) type Work = Box<dyn FnMut(&mut Shard) -> ControlFlow<()> + Send>;

pub(super) enum Message {
    Run(Job),
    Work(Work),
    Stop,
}

/// The way to one shard. Jobs are done one after the other in the order in which they were sent. Work in
/// slices goes on beside them: after each job one slice of it is done, and all of it while no job waits, so
/// that a job waits no longer for work than a slice takes, and work at most as many slices for jobs.
#[derive(Clone)]
pub(super) enum Mailbox {
    /// The shard has a thread.
    Thread(mpsc::Sender<Message>),
    /// Whoever sends a job does it.
    InPlace(InPlace),
}

/// A shard without a thread. The lock is held while a job is done, and never over an await.
#[derive(Clone)]
pub(super) struct InPlace {
    /// `None`: a job panicked, or the engine was stopped.
    shard: Arc<Mutex<Option<Shard>>>,
    panics: IntCounter,
}

/// Room for one job that nobody else can take.
pub(super) enum Permit {
    Thread(mpsc::OwnedPermit<Message>),
    InPlace(InPlace),
}

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
    Ok((Mailbox::Thread(sender), thread))
}

/// `shard` without a thread.
pub(super) fn in_place(shard: Shard, telemetry: Telemetry) -> Mailbox {
    Mailbox::InPlace(InPlace {
        shard: Arc::new(Mutex::new(Some(shard))),
        panics: telemetry.panics,
    })
}

impl InPlace {
    fn lock(&self) -> MutexGuard<'_, Option<Shard>> {
        self.shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` at once.
    pub(super) fn run<T>(&self, work: impl FnOnce(&mut Shard) -> T) -> Result<T, Gone> {
        let mut shard = self.lock();
        let there = shard.as_mut().ok_or(Gone)?;
        let done = catch_unwind(AssertUnwindSafe(|| work(there)));
        done.map_err(|_| {
            *shard = None;
            self.panics.inc();
            tracing::error!("the engine panicked; what it learned is lost");
            Gone
        })
    }
}

fn run(mut shard: Shard, mut inbox: mpsc::Receiver<Message>, telemetry: &Telemetry) {
    // After a panic the shard's state may be half changed, so it is not used again. Whoever waits for an
    // answer learns of it by its channel, and whoever comes later by the mailbox.
    if catch_unwind(AssertUnwindSafe(|| serve(&mut shard, &mut inbox))).is_err() {
        telemetry.panics.inc();
        let name = thread::current().name().unwrap_or_default().to_owned();
        tracing::error!(
            shard = name,
            "a shard panicked; its series are lost until a restart"
        );
    }
}

/// Does what comes until it is told to stop; what was begun before is brought to its end.
fn serve(shard: &mut Shard, inbox: &mut mpsc::Receiver<Message>) {
    let mut works: VecDeque<Work> = VecDeque::new();
    let mut open = true;
    while open || !works.is_empty() {
        let message = match works.is_empty() {
            true => inbox.blocking_recv(),
            false if open => inbox.try_recv().ok(),
            false => None,
        };
        match message {
            Some(Message::Run(job)) => job(shard),
            Some(Message::Work(work)) => works.push_back(work),
            Some(Message::Stop) => open = false,
            // Nobody is there who could ask for more.
            None if works.is_empty() => return,
            None => {}
        }
        if let Some(mut work) = works.pop_front()
            && work(shard).is_continue()
        {
            works.push_back(work);
        }
    }
}

impl Mailbox {
    /// Room for one job, at once or not at all.
    pub(super) fn try_reserve(&self) -> Result<Permit, NoRoom> {
        match self {
            Self::Thread(sender) => match sender.clone().try_reserve_owned() {
                Ok(permit) => Ok(Permit::Thread(permit)),
                Err(mpsc::error::TrySendError::Full(_)) => Err(NoRoom::Full),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(NoRoom::Gone),
            },
            Self::InPlace(shard) if self.is_open() => Ok(Permit::InPlace(shard.clone())),
            Self::InPlace(_) => Err(NoRoom::Gone),
        }
    }

    /// Waits for room, then has `work` done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        match self {
            Self::Thread(sender) => {
                let (job, answer) = job(work);
                sender.send(job).await.map_err(|_| Gone)?;
                answer.await.map_err(|_| Gone)
            }
            Self::InPlace(shard) => shard.run(work),
        }
    }

    /// Waits for room, then has work done slice by slice, until one breaks with the answer. If whoever asks
    /// does not wait for it any more, it ends early.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        mut slice: impl FnMut(&mut Shard) -> ControlFlow<T> + Send + 'static,
    ) -> Result<T, Gone> {
        match self {
            Self::Thread(sender) => {
                let (reply, answer) = oneshot::channel();
                let mut reply = Some(reply);
                let work = move |shard: &mut Shard| {
                    if reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
                        return ControlFlow::Break(());
                    }
                    slice(shard).map_break(|done| {
                        // Whoever asked may have gone just now.
                        drop(reply.take().map(|reply| reply.send(done)));
                    })
                };
                let work = Message::Work(Box::new(work));
                sender.send(work).await.map_err(|_| Gone)?;
                answer.await.map_err(|_| Gone)
            }
            Self::InPlace(shard) => loop {
                if let ControlFlow::Break(done) = shard.run(&mut slice)? {
                    return Ok(done);
                }
            },
        }
    }

    /// The same for those who can wait: the processor is given away after each slice, since whoever brings the
    /// next job may wait for it.
    pub(super) async fn work_in_turns<T: Send + 'static>(
        &self,
        mut slice: impl FnMut(&mut Shard) -> ControlFlow<T> + Send + 'static,
    ) -> Result<T, Gone> {
        let in_turns = move |shard: &mut Shard| {
            let flow = slice(shard);
            thread::yield_now();
            flow
        };
        self.work(in_turns).await
    }

    /// Whether somebody still reads it.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Thread(sender) => !sender.is_closed(),
            Self::InPlace(shard) => shard.lock().is_some(),
        }
    }

    /// Ends the thread once it has done what was sent before.
    pub(super) async fn stop(&self) {
        match self {
            // If the mailbox is closed, the thread has ended already.
            Self::Thread(sender) => drop(sender.send(Message::Stop).await),
            Self::InPlace(shard) => *shard.lock() = None,
        }
    }
}

impl Permit {
    /// Has `work` done; its answer comes by the channel.
    pub(super) fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        match self {
            Self::Thread(permit) => {
                let (job, answer) = job(work);
                permit.send(job);
                answer
            }
            Self::InPlace(shard) => {
                let (reply, answer) = oneshot::channel();
                // Without an answer the channel closes, which says that the shard is gone.
                if let Ok(done) = shard.run(work) {
                    drop(reply.send(done));
                }
                answer
            }
        }
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::mpsc as blocking;

    use super::*;
    use crate::engine::Settings;
    use crate::engine::plan::Plan;

    fn mailbox() -> (Mailbox, JoinHandle<()>) {
        let settings = Settings {
            shards: NonZeroUsize::MIN,
            ..Settings::default()
        };
        let telemetry = Telemetry::new();
        let plan = Plan::new(settings, [].into(), telemetry.clone()).unwrap();
        start(0, Shard::new(Arc::new(plan)), 8, telemetry).unwrap()
    }

    #[tokio::test]
    async fn a_job_waits_for_one_slice_and_work_for_one_job() {
        let (mailbox, thread) = mailbox();
        let (begin, begun) = blocking::sync_channel(1);
        let (slices, seen) = blocking::sync_channel(128);
        let mut done = 0;
        let work = mailbox.work(move |_| {
            if done == 0 {
                // Until the jobs are there.
                begun.recv().unwrap();
            }
            done += 1;
            slices.send(done).unwrap();
            match done {
                100 => ControlFlow::Break(done),
                _ => ControlFlow::Continue(()),
            }
        });
        let jobs = async {
            let seen = Arc::new(Mutex::new(seen));
            let answers: Vec<_> = (0..5)
                .map(|_| {
                    let seen = Arc::clone(&seen);
                    let last = move || seen.lock().unwrap().try_iter().last();
                    mailbox
                        .try_reserve()
                        .unwrap_or_else(|_| unreachable!())
                        .run(move |_| last())
                })
                .collect();
            begin.send(()).unwrap();
            let mut at = Vec::new();
            for answer in answers {
                at.push(answer.await.unwrap());
            }
            // Slices are sent until the last.
            (at, seen)
        };
        let (work, (jobs, _seen)) = futures_util::future::join(work, jobs).await;
        assert_eq!(work, Ok(100));
        assert_eq!(jobs, [1, 2, 3, 4, 5].map(Some));
        mailbox.stop().await;
        thread.join().unwrap();
        assert!(!mailbox.is_open());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_ends_and_work_that_was_begun_is_finished() {
        let (mailbox, thread) = mailbox();
        let left = mailbox.work(|_| ControlFlow::<()>::Continue(()));
        let left = tokio::time::timeout(std::time::Duration::ZERO, left).await;
        assert!(left.is_err());
        let mut slices = 0;
        let work = mailbox.work(move |_| {
            slices += 1;
            match slices {
                50 => ControlFlow::Break(slices),
                _ => ControlFlow::Continue(()),
            }
        });
        let (work, ()) = futures_util::future::join(work, mailbox.stop()).await;
        assert_eq!(work, Ok(50));
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_panic_in_work_closes_the_mailbox() {
        let (mailbox, thread) = mailbox();
        let work = mailbox.work(|_| -> ControlFlow<()> { panic!("on purpose") });
        assert_eq!(work.await, Err(Gone));
        thread.join().unwrap();
        assert!(!mailbox.is_open());
    }
}
