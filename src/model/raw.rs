//! Vectors of numbers in one piece of bytes, for what is saved of very many things: `#[serde(with = "raw")]`
//! writes and reads them at once and not number by number. Numbers are little-endian, so that two bytes always
//! hold 16 bits.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// A number of so many bytes.
pub(crate) trait Number: Sized {
    /// How many.
    const SIZE: usize;

    /// Writes some, where they are no bytes already.
    fn write<S: Serializer>(numbers: &[Self], serializer: S) -> Result<S::Ok, S::Error>;

    /// Those that lie in `bytes`.
    fn read(bytes: &[u8]) -> Vec<Self>;
}

impl Number for u8 {
    const SIZE: usize = 1;

    fn write<S: Serializer>(numbers: &[Self], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(numbers)
    }

    fn read(bytes: &[u8]) -> Vec<Self> {
        bytes.to_vec()
    }
}

macro_rules! wide {
    ($number:ty) => {
        impl Number for $number {
            const SIZE: usize = size_of::<Self>();

            fn write<S: Serializer>(numbers: &[Self], serializer: S) -> Result<S::Ok, S::Error> {
                let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
                serializer.serialize_bytes(&bytes)
            }

            fn read(bytes: &[u8]) -> Vec<Self> {
                let (numbers, _) = bytes.as_chunks();
                numbers.iter().map(|n| Self::from_le_bytes(*n)).collect()
            }
        }
    };
}

wide!(u16);
wide!(u32);

/// See the module.
pub(crate) fn serialize<N: Number, S: Serializer>(
    numbers: &[N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    N::write(numbers, serializer)
}

/// See the module. Fails where the bytes are no whole numbers.
pub(crate) fn deserialize<'de, N: Number, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<N>, D::Error> {
    deserializer.deserialize_bytes(Bytes(PhantomData))
}

struct Bytes<N>(PhantomData<N>);

impl<N: Number> Visitor<'_> for Bytes<N> {
    type Value = Vec<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes of numbers of {} bytes", N::SIZE)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<N>, E> {
        if !bytes.len().is_multiple_of(N::SIZE) {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(N::read(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        #[serde(with = "super")]
        bytes: Vec<u8>,
        #[serde(with = "super")]
        words: Vec<u16>,
        #[serde(with = "super")]
        longs: Vec<u32>,
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes: Vec<u8>, words: Vec<u16>, longs: Vec<u32>) {
            let kept = Kept { bytes, words, longs };
            let written = postcard::to_stdvec(&kept).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Kept>(&written).unwrap(), kept);
        }

        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>) {
            if let Ok(kept) = postcard::from_bytes::<Kept>(&bytes) {
                let all = kept.bytes.len() + 2 * kept.words.len() + 4 * kept.longs.len();
                prop_assert!(all < bytes.len());
            }
        }
    }
}
