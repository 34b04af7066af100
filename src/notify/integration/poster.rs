use std::net::IpAddr;
use std::time::Duration;

use http::Method;

use super::AttemptError;
use super::http::{Address, Client, Endpoint, Interest, Outgoing};
use crate::model::Timestamp;
use crate::notify::Error;
use crate::notify::address::Guard;
use crate::notify::signature::{self, Secret};

/// Posts signed JSON with the care that webhooks get, for those who tell somebody else than receivers. Cheap
/// to clone.
#[derive(Debug, Clone)]
pub struct Poster {
    client: Client,
    /// So long may a whole attempt take.
    timeout: Duration,
}

impl Poster {
    /// Gives a whole attempt `timeout`, of which opening a connection may take all. Of link-local addresses
    /// only those `allowed` are connected to.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(timeout: Duration, allowed: &[IpAddr]) -> Result<Self, Error> {
        let client = Client::new(Guard::new(allowed), timeout).map_err(Error::Client)?;
        Ok(Self { client, timeout })
    }

    /// Posts `body` as message `id` at time `now` to `url`, and returns the answer, at most 64 KiB of it and
    /// as far as it comes at once.
    ///
    /// # Errors
    /// It was not taken. What is said of that holds no secret.
    pub async fn post(
        &self,
        url: &str,
        secret: Option<&Secret>,
        id: &str,
        now: Timestamp,
        body: Vec<u8>,
    ) -> Result<String, AttemptError> {
        let permanent = |reason: String| AttemptError::Permanent { reason };
        let mut endpoint = Endpoint::new(Address::parse(url).map_err(permanent)?);
        endpoint.timeout = self.timeout;
        let headers = signature::headers(secret, id, now, &body);
        let headers = headers.ok_or_else(|| permanent("its id is no header".into()))?;
        let outgoing = Outgoing {
            method: Method::POST,
            path: Vec::new(),
            query: None,
            body,
        };
        let sent = self
            .client
            .send(&endpoint, &outgoing, headers, Interest::Answer, now);
        Ok(sent.await?.unwrap_or_default())
    }
}
