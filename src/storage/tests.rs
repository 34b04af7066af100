use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use redb::backends::FileBackend;
use redb::{BackendError, Builder, DatabaseError, StorageBackend};

use super::file::Opener;
use super::{Change, EVENTS_KEPT, Error, Part, Recovered, Store, Table, event_key, schema};
use crate::model::Timestamp;
use crate::telemetry::Telemetry;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn open(directory: &Path) -> (Store, Recovered) {
    Store::open(directory, NOW, &Telemetry::new()).unwrap()
}

fn file(directory: &Path) -> PathBuf {
    directory.join("tidewatch.redb")
}

fn table(recovered: &Recovered, table: Table) -> BTreeMap<String, Vec<u8>> {
    let owned = |(key, value): (&str, &[u8])| (key.to_owned(), value.to_vec());
    recovered.table(table).map(owned).collect()
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("made/by/us");
    let (store, recovered) = open(&inner);
    assert!(recovered.warnings.is_empty());
    let changes = vec![
        Change::put(Table::Alerts, "a", "1"),
        Change::put(Table::Alerts, "b", "2"),
        Change::put(Table::Modes, "a", "mode"),
        Change::put(Table::Alerts, "a", "3"),
    ];
    store.commit(changes).await.unwrap();
    let changes = vec![Change::remove(Table::Alerts, "b")];
    store.clone().record(changes).await.unwrap();
    store.commit(Vec::new()).await.unwrap();
    store.close().await;
    let closed = store.commit(Vec::new()).await;
    assert_eq!(closed, Err(Error::Closed));

    let (_store, mut recovered) = open(&inner);
    assert!(recovered.warnings.is_empty(), "{:?}", recovered.warnings);
    let alerts = BTreeMap::from([("a".to_owned(), b"3".to_vec())]);
    assert_eq!(table(&recovered, Table::Alerts), alerts);
    assert_eq!(recovered.take(Table::Alerts), alerts);
    assert_eq!(table(&recovered, Table::Modes).len(), 1);
    assert!(recovered.take(Table::Dispatch).is_empty());
}

#[tokio::test]
async fn a_daemon_that_is_killed_has_lost_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    for n in 0..30_u32 {
        let value = n.to_string().repeat(500);
        let changes = vec![Change::put(Table::Alerts, n.to_string(), value)];
        store.commit(changes).await.unwrap();
        // What is in the file while it is open is what a kill leaves.
        let killed = tempfile::tempdir().unwrap();
        std::fs::copy(file(directory.path()), file(killed.path())).unwrap();
        let (_store, recovered) = open(killed.path());
        assert!(recovered.warnings.is_empty(), "{:?}", recovered.warnings);
        assert_eq!(table(&recovered, Table::Alerts).len(), n as usize + 1);
    }
}

#[tokio::test]
async fn the_event_log_keeps_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let kept = EVENTS_KEPT as u64;
    let events = |range: std::ops::RangeInclusive<u64>| range.map(|n| Change::event(n, "{}"));
    store.record(events(1..=kept).collect()).await.unwrap();
    store
        .record(events(kept + 1..=kept + 5).collect())
        .await
        .unwrap();
    store.close().await;
    let (_store, recovered) = open(directory.path());
    let events = table(&recovered, Table::Events);
    assert_eq!(events.len(), EVENTS_KEPT);
    assert_eq!(events.keys().next(), Some(&event_key(6)));
    assert_eq!(events.keys().last(), Some(&event_key(kept + 5)));
}

#[tokio::test]
async fn a_second_daemon_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let telemetry = Telemetry::new();
    let error = Store::open(directory.path(), NOW, &telemetry).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
    let errors = telemetry.storage_errors.with_label_values(&["open"]);
    assert_eq!(errors.get(), 1);
    store.commit(Vec::new()).await.unwrap();
    store.close().await;
    open(directory.path());
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let newer = format!("{}.0", schema::MAJOR + 1);
    let changes = vec![Change::put(Table::Meta, schema::KEY, newer)];
    store.commit(changes).await.unwrap();
    store.close().await;
    let error = Store::open(directory.path(), NOW, &Telemetry::new()).unwrap_err();
    assert!(matches!(error, Error::Newer { .. }), "{error}");
    assert!(file(directory.path()).exists());
}

#[tokio::test]
async fn a_value_beyond_all_measure_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let value = vec![0; super::MAX_VALUE_BYTES + 1];
    let error = store
        .commit(vec![Change::put(Table::Alerts, "a", value)])
        .await;
    assert!(matches!(error, Err(Error::TooLarge { .. })));
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let error = Store::open(&in_the_way, NOW, &Telemetry::new()).unwrap_err();
    assert!(matches!(error, Error::Disk { .. }), "{error}");
    std::fs::create_dir(file(directory.path())).unwrap();
    let error = Store::open(directory.path(), NOW, &Telemetry::new()).unwrap_err();
    assert!(matches!(error, Error::Disk { .. }), "{error}");
}

/// A store with two commits in it; the bytes of its file.
async fn written(directory: &Path) -> Vec<u8> {
    let (store, _) = open(directory);
    for (round, count) in [(1, 40), (2, 60)] {
        let change = |n| {
            let value = format!("value {n} of round {round}").repeat(20);
            Change::put(Table::Alerts, format!("key {n}"), value)
        };
        store
            .commit((0..count).map(change).collect())
            .await
            .unwrap();
    }
    store.close().await;
    std::fs::read(file(directory)).unwrap()
}

/// Puts `bytes` in the place of the store, opens it, and checks that it works: with either exactly
/// what was committed, or a warning.
#[track_caller]
fn check_damaged(name: &str, bytes: &[u8], committed: &BTreeMap<String, Vec<u8>>) -> bool {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(file(directory.path()), bytes).unwrap();
    let (store, recovered) = Store::open(directory.path(), NOW, &Telemetry::new())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let warned = !recovered.warnings.is_empty();
    let alerts = table(&recovered, Table::Alerts);
    assert!(
        warned || alerts == *committed,
        "{name}: no word of the damage"
    );
    if warned {
        assert_eq!(recovered.warnings.len(), 1, "{name}");
        let warning = &recovered.warnings[0];
        let aside = directory.path().join("tidewatch.redb.damaged-1700000000");
        if warning.contains("set aside") {
            assert!(alerts.is_empty(), "{name}");
            assert!(
                warning.contains(&aside.display().to_string()),
                "{name}: {warning}"
            );
            // redb may have touched the file while it tried, but nothing of it is thrown away.
            assert!(aside.exists(), "{name}");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let changes = vec![Change::put(Table::Modes, "a", "b")];
        store
            .commit(changes)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        store.close().await;
    });
    let (_store, again) = open(directory.path());
    assert!(again.warnings.is_empty(), "{name}: {:?}", again.warnings);
    assert_eq!(table(&again, Table::Modes).len(), 1, "{name}");
    assert_eq!(table(&again, Table::Alerts), alerts, "{name}");
    warned
}

#[test]
fn a_damaged_file_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let good = runtime.block_on(written(directory.path()));
    let (_store, recovered) = open(directory.path());
    let committed = table(&recovered, Table::Alerts);
    assert_eq!(committed.len(), 60);
    assert!(!check_damaged("unharmed", &good, &committed));

    for length in [
        0,
        1,
        63,
        64,
        320,
        511,
        512,
        4095,
        4096,
        8192,
        good.len() / 2,
        good.len() - 1,
    ] {
        let name = format!("truncated to {length} of {}", good.len());
        assert!(check_damaged(&name, &good[..length], &committed), "{name}");
    }
    assert!(check_damaged("all zero", &vec![0; good.len()], &committed));
    for (from, to) in [(0, 64), (64, 320), (4096, good.len()), (0, 4096)] {
        let mut bytes = good.clone();
        bytes[from..to].fill(0);
        check_damaged(&format!("zero from {from} to {to}"), &bytes, &committed);
    }
    assert!(check_damaged(
        "text",
        b"this is not the file you are looking for",
        &committed
    ));
}

#[test]
fn random_damage_is_never_taken_for_state() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let good = runtime.block_on(written(directory.path()));
    let (_store, recovered) = open(directory.path());
    let committed = table(&recovered, Table::Alerts);
    let mut noticed = 0;
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut bytes = good.clone();
        // Most of a small file is empty: aim at its used pages as well as anywhere.
        let used: Vec<usize> = (0..good.len()).filter(|&at| good[at] != 0).collect();
        for _ in 0..random.random_range(1..=8) {
            let at = match random.random_range(0..4) {
                0 => random.random_range(0..good.len()),
                1 => random.random_range(0..512),
                _ => used[random.random_range(0..used.len())],
            };
            bytes[at] ^= random.random_range(1..=255);
        }
        noticed += usize::from(check_damaged(&format!("seed {seed}"), &bytes, &committed));
    }
    assert!(noticed > 20, "only {noticed} of 60 were even seen");
}

/// A disk that fails while told so, and counts its syncs.
#[derive(Debug, Clone, Default)]
struct Faults {
    failing: Arc<AtomicBool>,
    syncs: Arc<AtomicUsize>,
}

impl Faults {
    fn opener(&self) -> Opener {
        let faults = self.clone();
        Box::new(move |path| {
            faults.check()?;
            let mut options = std::fs::OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let inner = FileBackend::new(options.open(path)?)?;
            let faults = faults.clone();
            Builder::new().create_with_backend(FaultyDisk { inner, faults })
        })
    }

    fn check(&self) -> Result<(), std::io::Error> {
        match self.failing.load(Ordering::SeqCst) {
            true => Err(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
struct FaultyDisk {
    inner: FileBackend,
    faults: Faults,
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.faults.check()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.faults.syncs.fetch_add(1, Ordering::SeqCst);
        self.faults.check()?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.faults.check()?;
        self.inner.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.inner.close()
    }
    fn try_lock_range(&self, from: Edge, to: Edge) -> Result<bool, BackendError> {
        self.inner.try_lock_range(from, to)
    }
    fn unlock_range(&self, from: Edge, to: Edge) -> Result<(), BackendError> {
        self.inner.unlock_range(from, to)
    }
}

type Edge = std::ops::Bound<u64>;

#[tokio::test]
async fn a_disk_that_fails_costs_nothing_once_it_works_again() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let telemetry = Telemetry::new();
    let opened = Store::open_with(directory.path(), NOW, &telemetry, faults.opener());
    let (store, _) = opened.unwrap();
    let put = |key: &str, value: &str| vec![Change::put(Table::Alerts, key, value)];
    store.commit(put("before", "1")).await.unwrap();

    faults.failing.store(true, Ordering::SeqCst);
    for round in ["2", "3"] {
        let error = store.commit(put("command", round)).await.unwrap_err();
        assert!(matches!(error, Error::Disk { .. }), "{error}");
        store.record(put("happened", round)).await.unwrap_err();
        store.commit(put("happened", "not")).await.unwrap_err();
    }
    let errors = telemetry.storage_errors.with_label_values(&["commit"]);
    assert!(errors.get() >= 6);

    faults.failing.store(false, Ordering::SeqCst);
    store.commit(put("after", "4")).await.unwrap();
    store.commit(put("later", "5")).await.unwrap();
    let locked = Store::open(directory.path(), NOW, &telemetry).unwrap_err();
    assert!(
        matches!(locked, Error::Locked { .. }),
        "the new file is locked, too"
    );
    store.close().await;

    let (_store, recovered) = open(directory.path());
    assert!(recovered.warnings.is_empty());
    let pairs = [
        ("after", "4"),
        ("before", "1"),
        ("happened", "3"),
        ("later", "5"),
    ];
    let expected = pairs.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    assert_eq!(table(&recovered, Table::Alerts), BTreeMap::from(expected));
}

#[tokio::test]
async fn waiting_commits_share_a_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let opened = Store::open_with(directory.path(), NOW, &Telemetry::new(), faults.opener());
    let (store, _) = opened.unwrap();
    let before = faults.syncs.load(Ordering::SeqCst);
    let commits = (0..200).map(|n: u32| {
        let changes = vec![Change::put(Table::Alerts, n.to_string(), n.to_string())];
        store.commit(changes)
    });
    for result in futures_util::future::join_all(commits).await {
        result.unwrap();
    }
    let syncs = faults.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < 100, "{syncs} syncs for 200 commits");
    store.close().await;
    let (_store, recovered) = open(directory.path());
    assert_eq!(table(&recovered, Table::Alerts).len(), 200);
}

#[test]
fn errors_of_the_lock_are_not_taken_for_damage() {
    // What the opener says decides; a lock is no reason to rename another daemon's file.
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(file(directory.path()), "x").unwrap();
    let held: Opener = Box::new(|_| Err(DatabaseError::DatabaseAlreadyOpen));
    let error = Store::open_with(directory.path(), NOW, &Telemetry::new(), held).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }));
    assert!(file(directory.path()).exists());
}

/// The numbers in this part of the audit before `before`, at most `most` of them.
async fn part_of_audit(store: &Store, part: Part, before: Option<u64>, most: usize) -> Vec<u64> {
    let visit = move |numbers: &mut Vec<u64>, number: u64, value: &[u8]| {
        assert_eq!(value, number.to_string().as_bytes());
        if numbers.len() == most {
            return ControlFlow::Break(());
        }
        numbers.push(number);
        ControlFlow::Continue(())
    };
    let numbers = store.audit_back(part, before, Vec::new(), visit).await;
    numbers.unwrap()
}

async fn audited(store: &Store, before: Option<u64>, most: usize) -> Vec<u64> {
    part_of_audit(store, Part::All, before, most).await
}

fn entries(numbers: impl IntoIterator<Item = u64>) -> Vec<Change> {
    let entry = |number: u64| Change::audit(number, number.to_string());
    numbers.into_iter().map(entry).collect()
}

#[tokio::test]
async fn the_audit_is_read_backwards_in_pages_and_not_kept_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    assert!(audited(&store, None, 10).await.is_empty());
    store.record(entries([1, 2, 9, 10, 11])).await.unwrap();
    store.commit(entries([12])).await.unwrap();
    assert_eq!(audited(&store, None, 4).await, [12, 11, 10, 9]);
    assert_eq!(audited(&store, Some(9), 4).await, [2, 1]);
    assert!(audited(&store, Some(1), 4).await.is_empty());
    store.close().await;

    let (store, recovered) = open(directory.path());
    assert!(table(&recovered, Table::Audit).is_empty());
    assert_eq!(audited(&store, Some(12), 2).await, [11, 10]);
    store.close().await;
    let closed = store.audit_back(Part::All, None, (), |(), _, _| ControlFlow::Break(()));
    assert_eq!(closed.await, Err(Error::Closed));
}

#[tokio::test]
async fn the_oldest_entries_of_the_audit_leave_by_age_and_by_number() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    let below = |end: u64| -> super::IsOld {
        Box::new(move |value| std::str::from_utf8(value).unwrap().parse::<u64>().unwrap() < end)
    };
    assert_eq!(store.prune_audit(10, below(5)).await, Ok(0));
    store.record(entries(1..=20)).await.unwrap();
    assert_eq!(store.prune_audit(100, below(5)).await, Ok(4));
    assert_eq!(store.prune_audit(100, below(5)).await, Ok(0));
    assert_eq!(audited(&store, None, 100).await.last(), Some(&5));
    assert_eq!(store.prune_audit(3, below(0)).await, Ok(13));
    assert_eq!(audited(&store, None, 100).await, [20, 19, 18]);
    // More than one portion.
    store.record(entries(100..12_100)).await.unwrap();
    assert_eq!(store.prune_audit(3, below(0)).await, Ok(10_000));
    assert_eq!(store.prune_audit(3, below(0)).await, Ok(2_000));
    assert_eq!(store.prune_audit(3, below(0)).await, Ok(0));
}

#[tokio::test]
async fn a_disk_that_fails_costs_nothing_of_the_audit() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let telemetry = Telemetry::new();
    let opened = Store::open_with(directory.path(), NOW, &telemetry, faults.opener());
    let (store, _) = opened.unwrap();
    store.record(entries(1..=15_000)).await.unwrap();

    faults.failing.store(true, Ordering::SeqCst);
    store.record(entries([15_001])).await.unwrap_err();
    store.commit(entries([15_002])).await.unwrap_err();
    store.record(entries([15_003])).await.unwrap_err();
    faults.failing.store(false, Ordering::SeqCst);
    store.commit(entries([15_004])).await.unwrap();
    let all = audited(&store, None, 20_000).await;
    assert_eq!(all[..3], [15_004, 15_003, 15_001]);
    assert_eq!(all.len(), 15_003);
    store.close().await;
    let (store, recovered) = open(directory.path());
    assert!(recovered.warnings.is_empty());
    assert_eq!(audited(&store, None, 20_000).await.len(), 15_003);
}

#[tokio::test]
async fn acknowledgements_push_nothing_else_out_of_the_audit() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let opened = Store::open_with(directory.path(), NOW, &Telemetry::new(), faults.opener());
    let (store, _) = opened.unwrap();
    let heard = |numbers: std::ops::RangeInclusive<u64>| -> Vec<Change> {
        let entry = |number: u64| Change::acknowledgement(number, number.to_string());
        numbers.map(entry).collect()
    };
    let never = || -> super::IsOld { Box::new(|_| false) };
    store.record(entries([1, 5, 900])).await.unwrap();
    store.record(heard(2..=4)).await.unwrap();
    store.record(heard(6..=800)).await.unwrap();
    // Both are read as one, in pages.
    assert_eq!(audited(&store, None, 3).await, [900, 800, 799]);
    assert_eq!(audited(&store, Some(7), 10).await, [6, 5, 4, 3, 2, 1]);
    let decided = || part_of_audit(&store, Part::WithoutAcknowledgements, None, 10);
    assert_eq!(decided().await, [900, 5, 1]);
    // A new file in the place of one that failed has both.
    faults.failing.store(true, Ordering::SeqCst);
    store.record(heard(901..=901)).await.unwrap_err();
    faults.failing.store(false, Ordering::SeqCst);
    store.commit(Vec::new()).await.unwrap();
    assert_eq!(audited(&store, None, 1_000).await.len(), 802);
    // Each has room for so many.
    assert_eq!(store.prune_audit(3, never()).await, Ok(796));
    assert_eq!(store.prune_audit(3, never()).await, Ok(0));
    assert_eq!(audited(&store, None, 10).await, [901, 900, 800, 799, 5, 1]);
    let old = Box::new(|value: &[u8]| value == b"799" || value == b"1");
    assert_eq!(store.prune_audit(3, old).await, Ok(2));
    assert_eq!(audited(&store, None, 10).await, [901, 900, 800, 5]);
    store.close().await;
    let (store, recovered) = open(directory.path());
    assert!(table(&recovered, Table::Acknowledgements).is_empty());
    assert_eq!(audited(&store, None, 10).await, [901, 900, 800, 5]);
}
