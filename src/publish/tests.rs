use std::sync::Arc;

use tokio::sync::Semaphore;

use super::*;
use crate::model::{
    Fingerprint, Instruction, Level, ModeChange, ModeStep, SilenceAction, Timestamp,
};
use crate::telemetry::Telemetry;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn mode(service: &str, sequence: u64) -> ModeState {
    ModeState {
        service: service.into(),
        mode: "degraded".into(),
        level: Level(1),
        since: NOW,
        why: Vec::new(),
        instruction: Instruction::default(),
        manual: None,
        lease_expires_at: NOW,
        sequence,
        episode: None,
    }
}

fn told(sequence: u64, service: &str) -> Event {
    let change = ModeChange {
        step: ModeStep::Degrade,
        from: "normal".into(),
        cause: String::new(),
        state: mode(service, sequence),
    };
    event(sequence, EventBody::Mode(change))
}

fn event(sequence: u64, body: EventBody) -> Event {
    Event {
        sequence,
        time: NOW,
        body,
    }
}

/// Something that watchers of modes do not want to hear of.
fn noise(sequence: u64, service: &str) -> Event {
    let body = EventBody::Dismissed {
        fingerprint: Fingerprint(1),
        alertname: String::new(),
        service: service.into(),
        author: String::new(),
        comment: String::new(),
    };
    event(sequence, body)
}

fn frozen(sequence: u64) -> Event {
    let body = EventBody::Freeze {
        frozen: true,
        author: String::new(),
        reason: String::new(),
    };
    event(sequence, body)
}

struct Room {
    places: Arc<Semaphore>,
    telemetry: Telemetry,
}

impl Room {
    fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(1_000)),
            telemetry: Telemetry::new(),
        }
    }

    fn place(&self) -> Place {
        Place::take(&self.places, &self.telemetry).unwrap()
    }
}

fn modes_of(service: &str) -> Topic {
    Topic {
        service: Some(service.into()),
        kinds: Kinds::MODES,
    }
}

async fn numbers(feed: &mut Feed, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(feed.next().await.unwrap().sequence);
    }
    numbers
}

#[tokio::test]
async fn a_watcher_hears_its_topic_and_what_concerns_all() {
    let (board, _commands) = Board::new(Vec::new());
    let room = Room::new();
    let mut pay = board.subscribe(modes_of("pay"), None, room.place());
    let mut all = board.subscribe(Topic::ALL, None, room.place());
    let silence = EventBody::Silence {
        action: SilenceAction::Set,
        id: String::new(),
        matchers: String::new(),
        starts_at: NOW,
        ends_at: NOW,
        author: String::new(),
        comment: String::new(),
    };
    board.append([
        told(1, "cart"),
        noise(2, "pay"),
        told(3, "pay"),
        event(4, silence),
        frozen(5),
    ]);
    assert_eq!(numbers(&mut pay, 2).await, [3, 5]);
    assert_eq!(numbers(&mut all, 5).await, [1, 2, 3, 4, 5]);
    assert_eq!((pay.idle_at(), all.idle_at()), (Some(5), Some(5)));
}

#[tokio::test]
async fn a_storm_neither_drops_watchers_of_modes_nor_flushes_what_they_missed() {
    let (board, _commands) = Board::new(vec![told(1, "pay")]);
    let room = Room::new();
    let mut live = board.subscribe(modes_of("pay"), Some(1), room.place());
    board.append([told(2, "pay")]);
    let storm = u64::try_from(3 * EVENT_LOG).unwrap();
    board.append((3..storm).map(|n| noise(n, "pay")));
    board.append([told(storm, "pay")]);
    assert_eq!(numbers(&mut live, 2).await, [2, storm]);
    let mut back = board.subscribe(modes_of("pay"), Some(1), room.place());
    assert!(!back.gap());
    assert_eq!(numbers(&mut back, 2).await, [2, storm]);
    // Who wants everything has missed some of it.
    assert!(board.subscribe(Topic::ALL, Some(1), room.place()).gap());
    assert_eq!(room.telemetry.watchers_dropped.get(), 0);
}

#[tokio::test]
async fn who_falls_behind_goes_on_from_the_log_without_loss_or_repetition() {
    let (board, _commands) = Board::new(Vec::new());
    let room = Room::new();
    let mut feed = board.subscribe(Topic::ALL, None, room.place());
    let mut expected = 1;
    for burst in [10, 1_000, 1, 64, 65, 5_000, 3] {
        board.append((expected..expected + burst).map(|n| told(n, "pay")));
        assert_eq!(feed.idle_at(), None);
        // Half of it is read before more comes.
        let half = usize::try_from(burst / 2).unwrap();
        let mut read = numbers(&mut feed, half).await;
        board.append([told(expected + burst, "pay")]);
        read.extend(numbers(&mut feed, usize::try_from(burst).unwrap() + 1 - half).await);
        assert_eq!(read, Vec::from_iter(expected..=expected + burst));
        expected += burst + 1;
        assert_eq!(feed.idle_at(), Some(expected - 1));
    }
    assert_eq!(room.telemetry.watchers_dropped.get(), 0);
    assert_eq!(room.telemetry.watchers.get(), 1);
}

#[tokio::test]
async fn who_never_reads_loses_its_place_once_the_log_does_not_reach_back() {
    let (board, _commands) = Board::new(Vec::new());
    let room = Room::new();
    let mut feed = board.subscribe(Topic::ALL, None, room.place());
    let log = u64::try_from(EVENT_LOG).unwrap();
    board.append((1..=log).map(|n| noise(n, "pay")));
    assert_eq!(room.telemetry.watchers.get(), 1);
    board.append((log + 1..=log + 65).map(|n| noise(n, "pay")));
    assert_eq!(room.telemetry.watchers.get(), 0);
    assert_eq!(room.telemetry.watchers_dropped.get(), 1);
    // What was in its queue is still there; then it is told.
    assert_eq!(numbers(&mut feed, 64).await.last(), Some(&64));
    assert_eq!(feed.next().await.unwrap_err(), Lost);
}

#[tokio::test]
async fn places_are_given_back() {
    let (board, _commands) = Board::new(Vec::new());
    let room = Room::new();
    let feed = board.subscribe(modes_of("pay"), None, room.place());
    let behind = board.subscribe(Topic::ALL, None, room.place());
    board.append((1..=100).map(|n| noise(n, "pay")));
    assert_eq!(room.telemetry.watchers.get(), 2);
    drop((feed, behind));
    assert_eq!(room.telemetry.watchers.get(), 0);
    assert_eq!(room.telemetry.watchers_dropped.get(), 0);
}

#[tokio::test]
async fn followers_hear_the_newest_state_also_of_services_that_come_later() {
    let (board, _commands) = Board::new(Vec::new());
    let mut follow = board.follow("pay");
    let mut other = board.follow("pay");
    assert_eq!(follow.now(), None);
    let services = [("pay".to_owned(), mode("pay", 0))].into();
    board.set_modes(ModesView {
        services,
        ..ModesView::default()
    });
    let sequence = |state: Option<Arc<ModeState>>| state.map(|state| state.sequence);
    assert_eq!(sequence(follow.changed().await), Some(0));
    board.append((1..=1_000).map(|n| told(n, "pay")));
    board.append([told(1_001, "cart")]);
    assert_eq!(sequence(follow.changed().await), Some(1_000));
    drop(follow);
    board.append([told(1_002, "pay")]);
    assert_eq!(sequence(other.changed().await), Some(1_002));
    assert_eq!(*board.mode_changes().borrow(), 1_002);
}

#[tokio::test]
async fn acknowledgements_are_gathered() {
    let (board, _commands) = Board::new(Vec::new());
    let mut queue = board.acknowledgements().unwrap();
    assert!(board.acknowledgements().is_none());
    let acknowledgement = |instance: u32| Acknowledgement {
        instance: instance.to_string(),
        mode: "degraded".into(),
        sequence: 7,
        detail: String::new(),
    };
    let send = |instance| {
        let board = board.clone();
        tokio::spawn(async move {
            let said = acknowledgement(instance);
            board.acknowledge("pay".into(), said).await
        })
    };
    let first = send(0);
    let one = queue.gather().await.unwrap();
    assert_eq!(one.len(), 1);
    let more: Vec<_> = (1..=100).map(send).collect();
    // Dropping the wait loses nothing.
    tokio::select! {
        biased;
        _ = queue.gather() => panic!("gathered at once"),
        () = tokio::task::yield_now() => {}
    }
    let many = queue.gather().await.unwrap();
    assert_eq!(many.len(), 100);
    for said in one.into_iter().chain(many) {
        assert_eq!(said.service, "pay");
        said.reply.send(Ok(())).unwrap();
    }
    for answered in more.into_iter().chain([first]) {
        assert_eq!(answered.await.unwrap(), Ok(()));
    }
    drop(queue);
    let gone = send(1).await.unwrap();
    assert!(matches!(gone, Err(CommandError::Unavailable(_))));
}
