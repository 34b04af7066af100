//! The signature of the Standard Webhooks specification: `v1,base64(HMAC-SHA256(id.timestamp.body))`.
//!
//! A receiver that checks it knows that the body is ours; one that also refuses old timestamps and
//! ids it has seen is safe from replays.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;

use crate::model::Timestamp;

/// Header with the id of the message; the same over all attempts.
pub(super) const ID: &str = "webhook-id";
/// Header with the time of the attempt, in whole seconds since the epoch.
pub(super) const TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signature.
pub(super) const SIGNATURE: &str = "webhook-signature";

/// A key shared with a receiver. It shows itself nowhere, neither in `Debug` nor in errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads a secret: `whsec_` and base64, as the specification writes keys, or any other text, whose
    /// bytes are the key as they are.
    ///
    /// # Errors
    /// It is empty, or what follows `whsec_` is not base64. The message does not contain the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| "the secret after `whsec_` is not base64")?,
            None => text.as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err("the secret is empty".into());
        }
        Ok(Self(key))
    }

    /// The signature of `body`, sent as message `id` at `time`.
    pub fn sign(&self, id: &str, time: Timestamp, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{}.", seconds(time)).as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The headers of message `id`, sent at `time`; without a `secret` all but the signature. `None`: the id cannot
/// stand in a header.
pub(super) fn headers(
    secret: Option<&Secret>,
    id: &str,
    time: Timestamp,
    body: &[u8],
) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(ID, HeaderValue::try_from(id).ok()?);
    headers.insert(TIMESTAMP, seconds(time).into());
    if let Some(secret) = secret {
        let signature = secret.sign(id, time, body);
        headers.insert(SIGNATURE, HeaderValue::try_from(signature).ok()?);
    }
    Some(headers)
}

/// `time` as the header says it.
fn seconds(time: Timestamp) -> i64 {
    time.as_nanos().div_euclid(1_000_000_000)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;
    use crate::model::Timestamp;

    #[test]
    fn the_specification_signs_the_same() {
        // The test vector that the specification's own libraries carry.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp::from_secs(1_614_265_330),
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn text_is_a_key_as_it_is() {
        let raw = Secret::parse("plain text").unwrap();
        let encoded = Secret::parse("whsec_cGxhaW4gdGV4dA==").unwrap();
        assert_eq!(raw, encoded);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::parse("hunter2").unwrap();
        assert_eq!(format!("{secret:?}"), "<secret>");
        for bad in ["", "whsec_", "whsec_hunter2!"] {
            let error = Secret::parse(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
