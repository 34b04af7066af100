//! The snapshot of learning: one file, written and read as a stream.
//!
//! It is a cache of what the detectors have learned, in chunks whose meaning the engine knows. It is
//! written beside the old one, synced and renamed, so that a crash leaves one or the other. Losing it
//! costs learning, never alerts.
//!
//! Numbers are little-endian. Every checksum (CRC-32) covers the fields before it in its record, and
//! a chunk's also its position, so that lost, swapped and repeated chunks show.
//!
//! ```text
//! header  magic "TWLEARN\n" · version u32 · created i64 (ns since the epoch) · crc u32
//! chunk   length u32 · crc u32 · bytes                                       (as many as there are)
//! end     0xffff_ffff u32 · chunks u64 · bytes of all chunks u64 · crc u32
//! ```
//!
//! An addition is a file of the same form with one chunk, and with the time of the snapshot that it belongs to.
//! One of another snapshot is not used: it is of the one before. Neither is a damaged one, with a warning.
//!
//! Of a damaged file the chunks before the damage are used, the series in the others learn again, and the
//! file is set aside with a warning.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::{set_aside, sync_directory};
use crate::model::Timestamp;

/// Name of the file in the data directory.
pub const FILE: &str = "learning.snapshot";
/// Name of the file beside it with what an [addition](add) holds.
pub const ADDITION: &str = "learning.addition";
/// No chunk is longer. A reader never takes this much on the word of a damaged length: memory grows
/// only with the bytes that are there.
pub const MAX_CHUNK_BYTES: usize = 1 << 30;

/// A chunk may claim so many bytes without having them.
const BELIEVED_BYTES: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"TWLEARN\n";
const VERSION: u32 = 1;
const END: u32 = u32::MAX;

/// What a snapshot had to give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// When it was written; `None` when there is no readable one.
    pub created: Option<Timestamp>,
    /// Chunks handed over.
    pub chunks: u64,
    /// What was wrong with it, for the operator.
    pub warning: Option<String>,
}

/// Writes the chunks that `next` gives, until it gives `None`, as the snapshot in `directory` (which
/// exists), in place of an earlier one, and returns its size in bytes. Blocks; it is on the disk when this
/// returns.
///
/// # Errors
/// The disk's and those of `next`; or a chunk is longer than [`MAX_CHUNK_BYTES`]. The earlier snapshot is
/// still there then.
pub fn write<C: AsRef<[u8]>>(
    directory: &Path,
    created: Timestamp,
    next: impl FnMut() -> io::Result<Option<C>>,
) -> io::Result<u64> {
    let size = write_as(FILE, directory, created, next)?;
    // It belongs to the one before, and is known for that should it stay.
    drop(std::fs::remove_file(directory.join(ADDITION)));
    Ok(size)
}

/// Whether there is a snapshot in `directory`, readable or not.
pub fn is_there(directory: &Path) -> bool {
    directory.join(FILE).is_file()
}

/// Adds a chunk to the snapshot that was `created` then, in place of an earlier one: it is read behind the
/// others, so that little that changes can be told without writing all of them.
///
/// # Errors
/// See [`write()`].
pub fn add(directory: &Path, created: Timestamp, chunk: &[u8]) -> io::Result<u64> {
    let mut chunk = Some(chunk);
    write_as(ADDITION, directory, created, || Ok(chunk.take()))
}

fn write_as<C: AsRef<[u8]>>(
    file: &str,
    directory: &Path,
    created: Timestamp,
    next: impl FnMut() -> io::Result<Option<C>>,
) -> io::Result<u64> {
    let path = directory.join(file);
    let new = directory.join(format!("{file}.new"));
    let size = write_file(&new, created, next).inspect_err(|_| {
        // A full disk needs the room; what cannot be removed is overwritten next time.
        drop(std::fs::remove_file(&new));
    })?;
    std::fs::rename(&new, &path).map_err(|error| {
        drop(std::fs::remove_file(&new));
        let message = format!("{} cannot be replaced: {error}", path.display());
        io::Error::new(error.kind(), message)
    })?;
    sync_directory(directory)?;
    Ok(size)
}

fn write_file<C: AsRef<[u8]>>(
    path: &Path,
    created: Timestamp,
    mut next: impl FnMut() -> io::Result<Option<C>>,
) -> io::Result<u64> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut header = Vec::from(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(created.as_nanos().to_le_bytes());
    header.extend(crc32fast::hash(&header).to_le_bytes());
    file.write_all(&header)?;

    let (mut count, mut bytes) = (0_u64, 0_u64);
    while let Some(chunk) = next()? {
        let chunk = chunk.as_ref();
        let length = u32::try_from(chunk.len())
            .ok()
            .filter(|&length| length as usize <= MAX_CHUNK_BYTES)
            .ok_or_else(|| {
                let message = format!("a chunk of {} bytes is too long", chunk.len());
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&checksum(count, length, chunk).to_le_bytes())?;
        file.write_all(chunk)?;
        count += 1;
        bytes += u64::from(length);
    }

    let mut end = Vec::from(END.to_le_bytes());
    end.extend(count.to_le_bytes());
    end.extend(bytes.to_le_bytes());
    end.extend(crc32fast::hash(&end).to_le_bytes());
    file.write_all(&end)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok((header.len() + end.len()) as u64 + bytes + 8 * count)
}

fn checksum(position: u64, length: u32, chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(chunk);
    hasher.finalize()
}

/// The snapshot of a directory, read chunk by chunk.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// When it is read, for the name of one that is set aside.
    now: Timestamp,
    /// `None`: it was read to its end, or is not there.
    file: Option<BufReader<File>>,
    found: Found,
    /// Of all chunks so far.
    bytes: u64,
}

impl Reader {
    /// Opens the snapshot in `directory`, if there is one. A damaged one is set aside as
    /// `learning.snapshot.damaged-SECONDS` (of `now`), after its good chunks. Blocks, and so does each
    /// chunk.
    pub fn open(directory: &Path, now: Timestamp) -> Self {
        let mut reader = Self {
            path: directory.join(FILE),
            now,
            file: None,
            found: Found::default(),
            bytes: 0,
        };
        match File::open(&reader.path) {
            Ok(file) => {
                // Chunks are longer, and come without a detour.
                let mut file = BufReader::with_capacity(1 << 16, file);
                match read_header(&mut file) {
                    Ok(created) => {
                        reader.found.created = Some(created);
                        reader.file = Some(file);
                    }
                    Err(problem) => reader.set_aside(problem),
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if reader.addition_path().exists() {
                    let path = reader.path.display();
                    let warning = format!(
                        "{path} is not there, though something was added to it: everything learns anew"
                    );
                    reader.found.warning = Some(warning);
                }
            }
            // The next saving would take its place.
            Err(e) => reader.set_aside(Problem::Disk(e)),
        }
        reader
    }

    /// What was found so far; all there is to say once there are no more chunks.
    pub fn found(self) -> Found {
        self.found
    }

    fn addition_path(&self) -> PathBuf {
        self.path.with_file_name(ADDITION)
    }

    /// What was added to the snapshot, if it can be used.
    fn addition(&mut self) -> Option<Vec<u8>> {
        let path = self.addition_path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => return self.without_addition(&path, e.into()),
        };
        read_addition(BufReader::new(file), self.found.created)
            .unwrap_or_else(|problem| self.without_addition(&path, problem))
    }

    fn without_addition(&mut self, path: &Path, problem: Problem) -> Option<Vec<u8>> {
        self.found.warning = Some(format!(
            "{} cannot be used ({problem}): series that were silent last may seem to have been so for longer",
            path.display()
        ));
        None
    }

    fn set_aside(&mut self, problem: Problem) {
        self.file = None;
        let aside = set_aside(&self.path, self.now);
        drop(std::fs::remove_file(self.addition_path()));
        let warning = describe(&self.path, &problem, self.found.chunks, aside);
        self.found.warning = Some(warning);
    }
}

impl Iterator for Reader {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let file = self.file.as_mut()?;
        match read_chunk(file, self.found.chunks, self.bytes) {
            Ok(Some(chunk)) => {
                self.found.chunks += 1;
                self.bytes += chunk.len() as u64;
                Some(chunk)
            }
            Ok(None) => {
                self.file = None;
                self.addition()
            }
            Err(problem) => {
                self.set_aside(problem);
                None
            }
        }
    }
}

fn describe(path: &Path, problem: &Problem, chunks: u64, aside: io::Result<PathBuf>) -> String {
    let fate = match aside {
        Ok(aside) => format!("it was set aside as {}", aside.display()),
        Err(e) => format!("it could not be set aside: {e}"),
    };
    let path = path.display();
    match problem {
        Problem::Damage(_) => format!(
            "{path} is damaged ({problem}): {chunks} chunks before the damage are used, other series learn again; {fate}"
        ),
        Problem::Version | Problem::Disk(_) => format!(
            "{path} cannot be used ({problem}): series that were not read from it learn again; {fate}"
        ),
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Damage(&'static str),
    #[error("another version of Tidewatch wrote it")]
    Version,
    #[error("{0}")]
    Disk(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damage("it ends too early"),
            _ => Self::Disk(error),
        }
    }
}

/// When the snapshot was written.
fn read_header(from: &mut impl Read) -> Result<Timestamp, Problem> {
    let header: [u8; 24] = array(from)?;
    let (fields, crc) = header.split_at(20);
    if crc32fast::hash(fields).to_le_bytes() != crc || !fields.starts_with(MAGIC) {
        return Err(Problem::Damage("its header makes no sense"));
    }
    let (version, created) = fields[8..].split_at(4);
    if version != VERSION.to_le_bytes() {
        return Err(Problem::Version);
    }
    let created = created.try_into().map_or(0, i64::from_le_bytes);
    Ok(Timestamp::from_nanos(created))
}

/// What is added to the snapshot of that time; `None` if it is of another.
fn read_addition(
    mut from: impl Read,
    created: Option<Timestamp>,
) -> Result<Option<Vec<u8>>, Problem> {
    if Some(read_header(&mut from)?) != created {
        return Ok(None);
    }
    let chunk = read_chunk(&mut from, 0, 0)?.ok_or(Problem::Damage("it is empty"))?;
    match read_chunk(&mut from, 1, chunk.len() as u64)? {
        None => Ok(Some(chunk)),
        Some(_) => Err(Problem::Damage("it holds too much")),
    }
}

/// The chunk behind `chunks` others of `bytes` together; `None` at the end.
fn read_chunk(from: &mut impl Read, chunks: u64, bytes: u64) -> Result<Option<Vec<u8>>, Problem> {
    let length = u32::from_le_bytes(array(from)?);
    if length == END {
        return read_end(from, chunks, bytes).map(|()| None);
    }
    if length as usize > MAX_CHUNK_BYTES {
        return Err(Problem::Damage("a chunk's length makes no sense"));
    }
    let crc = u32::from_le_bytes(array(from)?);
    // Grows with what is there, not with what the length claims.
    let mut data = Vec::with_capacity(BELIEVED_BYTES.min(length as usize));
    from.take(u64::from(length)).read_to_end(&mut data)?;
    if data.len() < length as usize {
        return Err(Problem::Damage("it ends too early"));
    }
    if checksum(chunks, length, &data) != crc {
        return Err(Problem::Damage("a chunk's checksum is wrong"));
    }
    Ok(Some(data))
}

fn read_end(from: &mut impl Read, chunks: u64, bytes: u64) -> Result<(), Problem> {
    let end: [u8; 20] = array(from)?;
    let mut expected = Vec::from(END.to_le_bytes());
    expected.extend(chunks.to_le_bytes());
    expected.extend(bytes.to_le_bytes());
    expected.extend(crc32fast::hash(&expected).to_le_bytes());
    if end != expected[4..] {
        return Err(Problem::Damage("its end makes no sense"));
    }
    match from.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(Problem::Damage("it goes on after its end")),
    }
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

    use super::{FILE, Found, Reader};
    use crate::model::Timestamp;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn write<C: AsRef<[u8]>>(
        directory: &Path,
        chunks: impl IntoIterator<Item = C>,
    ) -> std::io::Result<u64> {
        let mut chunks = chunks.into_iter();
        super::write(directory, NOW, || Ok(chunks.next()))
    }

    fn read_all(directory: &Path) -> (Vec<Vec<u8>>, Found) {
        let mut reader = Reader::open(directory, NOW);
        let chunks = reader.by_ref().collect();
        (chunks, reader.found())
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read_all(directory.path()), (Vec::new(), Found::default()));
        let cases: [&[Vec<u8>]; 4] = [
            &[],
            &[Vec::new()],
            &[vec![1, 2, 3]],
            &[vec![7; 3_000_000], Vec::new(), vec![9]],
        ];
        for chunks in cases {
            let size = write(directory.path(), chunks).unwrap();
            let on_disk = std::fs::metadata(directory.path().join(FILE)).unwrap();
            assert_eq!(size, on_disk.len());
            let (again, found) = read_all(directory.path());
            assert_eq!(again, chunks);
            assert_eq!(found.created, Some(NOW));
            assert_eq!(found.warning, None);
        }
        let entries = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(entries, 1, "no temporary file is left");
    }

    #[test]
    fn a_snapshot_that_cannot_be_written_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), [b"old"]).unwrap();
        // A directory in the place of the temporary file makes every write fail, even root's.
        std::fs::create_dir(directory.path().join(format!("{FILE}.new"))).unwrap();
        write(directory.path(), [b"new"]).unwrap_err();
        assert_eq!(read_all(directory.path()).0, [b"old"]);
    }

    #[test]
    fn one_that_is_not_finished_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), [b"old"]).unwrap();
        let mut chunks = [b"new"].into_iter();
        let next = || match chunks.next() {
            Some(chunk) => Ok(Some(chunk)),
            None => Err(std::io::Error::other("interrupted")),
        };
        super::write(directory.path(), NOW, next).unwrap_err();
        assert_eq!(read_all(directory.path()).0, [b"old"]);
        let entries = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(entries, 1, "no temporary file is left");
    }

    #[test]
    fn good_chunks_before_the_damage_are_used_and_the_file_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        for round in 0..2 {
            write(directory.path(), [vec![1; 100], vec![2; 100]]).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            // Header 24, first chunk 8 + 100, second chunk's frame 8.
            bytes[24 + 108 + 8 + 50] ^= 1;
            std::fs::write(&path, bytes).unwrap();

            let (chunks, found) = read_all(directory.path());
            assert_eq!(chunks, [vec![1; 100]]);
            let warning = found.warning.unwrap();
            let aside = match round {
                0 => format!("{FILE}.damaged-1700000000"),
                _ => format!("{FILE}.damaged-1700000000-1"),
            };
            assert!(warning.contains("1 chunks before the damage"), "{warning}");
            assert!(warning.ends_with(&aside), "{warning}");
            assert!(directory.path().join(aside).exists());
            assert!(!path.exists());
        }
    }

    #[test]
    fn an_addition_comes_last_and_belongs_to_one_snapshot() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), [b"one", b"two"]).unwrap();
        let chunks = || read_all(directory.path()).0;
        for added in [b"old", b"new"] {
            super::add(directory.path(), NOW, added).unwrap();
        }
        assert_eq!(chunks(), [b"one", b"two", b"new"]);
        super::add(
            directory.path(),
            NOW.minus(std::time::Duration::from_secs(1)),
            b"x",
        )
        .unwrap();
        assert_eq!(chunks(), [b"one", b"two"]);
        super::add(directory.path(), NOW, b"new").unwrap();
        let path = directory.path().join(super::ADDITION);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (found, all) = read_all(directory.path());
        assert_eq!(found.len(), 2);
        let warning = all.warning.unwrap();
        assert!(warning.contains("learning.addition cannot be used (it ends too early)"));
        std::fs::remove_file(directory.path().join(FILE)).unwrap();
        let warning = read_all(directory.path()).1.warning.unwrap();
        assert!(warning.contains("is not there, though"), "{warning}");
    }

    #[test]
    fn what_another_version_wrote_is_not_called_damage() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        write(directory.path(), [b"one"]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] += 1;
        let crc = crc32fast::hash(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let (chunks, found) = read_all(directory.path());
        assert!(chunks.is_empty());
        let warning = found.warning.unwrap();
        let expected = "cannot be used (another version of Tidewatch wrote it)";
        assert!(warning.contains(expected), "{warning}");
        assert!(!path.exists());
    }

    #[test]
    fn one_that_cannot_be_read_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        // Nobody, not even root, reads a directory as a file.
        std::fs::create_dir(directory.path().join(FILE)).unwrap();
        let warning = read_all(directory.path()).1.warning.unwrap();
        assert!(warning.contains("cannot be used"), "{warning}");
        assert!(!directory.path().join(FILE).exists());
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        write(directory.path(), [vec![1; 100]]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[24..28].copy_from_slice(&0x3fff_ffff_u32.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let (chunks, found) = read_all(directory.path());
        assert!(chunks.is_empty());
        assert!(found.warning.unwrap().contains("ends too early"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_flipped_byte_is_noticed(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
            at in any::<prop::sample::Index>(),
            mask in 1..=u8::MAX,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE);
            write(directory.path(), &chunks).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
            std::fs::write(&path, bytes).unwrap();
            let (good, found) = read_all(directory.path());
            prop_assert!(found.warning.is_some());
            prop_assert_eq!(&good[..], &chunks[..good.len()]);
        }

        #[test]
        fn any_other_length_is_noticed(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
            length in any::<prop::sample::Index>(),
            more in prop::option::of(any::<u8>()),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE);
            write(directory.path(), &chunks).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            match more {
                Some(byte) => bytes.push(byte),
                None => bytes.truncate(length.index(bytes.len())),
            }
            std::fs::write(&path, bytes).unwrap();
            let (good, found) = read_all(directory.path());
            prop_assert!(found.warning.is_some());
            prop_assert_eq!(&good[..], &chunks[..good.len()]);
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join(FILE), bytes).unwrap();
            let (chunks, found) = read_all(directory.path());
            prop_assert!(chunks.is_empty() && found.warning.is_some());
        }
    }
}
