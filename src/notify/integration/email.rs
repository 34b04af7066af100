//! Mail by SMTP (RFC 5321): STARTTLS, or TLS from the first byte on port 465.

use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use jiff::tz::TimeZone;
use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, Identity, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use super::http::{Client, Credential, causes, shown};
use super::{AttemptError, Context, group_hash};
use crate::model::Timestamp;
use crate::notify::address::Refused;
use crate::notify::message::{Message, Resolved};
use crate::notify::template::{Target, Text, View, words};

/// A mail that was taken does not wait longer for the end of the connection.
const GOODBYE: Duration = Duration::from_millis(500);
/// Headers that are ours to set.
const RESERVED: [&str; 8] = [
    "from",
    "to",
    "date",
    "message-id",
    "references",
    "content-type",
    "content-transfer-encoding",
    "mime-version",
];

/// Mail to somebody.
#[derive(Debug, Clone)]
pub struct Email {
    /// The server: name or address, and port.
    pub smarthost: (String, u16),
    /// What we call ourselves.
    pub hello: String,
    /// Who sends it.
    pub from: Text,
    /// Who gets it, separated by commas.
    pub to: Text,
    /// User name and password.
    pub auth: Option<(String, Credential)>,
    /// How it is encrypted.
    pub tls: Tls,
    /// Further headers; `Subject` among them replaces the built-in title.
    pub headers: Vec<(String, Text)>,
    /// In HTML: the built-in mail, none, or a text.
    pub html: Part,
    /// As plain text.
    pub text: Part,
    /// So long may a whole attempt take.
    pub timeout: Duration,
    /// Whether it is told about resolved alerts.
    pub resolved: Resolved,
    /// In which time zone texts say times.
    pub zone: TimeZone,
}

/// One form of a mail.
#[derive(Debug, Clone)]
pub enum Part {
    /// The built-in one.
    BuiltIn,
    /// None.
    Absent,
    /// This one.
    Text(Text),
}

/// How the way to the server is encrypted.
#[derive(Debug, Clone)]
pub enum Tls {
    /// Not at all.
    Off,
    /// Nothing is sent before the server has agreed to it.
    StartTls(Secured),
    /// From the first byte, as on port 465.
    Implicit(Secured),
}

/// How the server proves who it is. Cheap to clone.
#[derive(Clone)]
pub struct Secured(TlsParameters);

impl Secured {
    /// Towards `host`. Certificates are read now, those of the machine among them, which takes a while.
    ///
    /// # Errors
    /// A certificate or key cannot be read.
    pub fn towards(host: &str, trust: &Trust) -> Result<Self, String> {
        let build = || {
            let mut builder = TlsParameters::builder(host.to_owned());
            if let Some(roots) = &trust.roots {
                builder = builder.add_root_certificate(Certificate::from_pem(roots)?);
            }
            if let Some((certificate, key)) = &trust.identity {
                builder = builder.identify_with(Identity::from_pem(certificate, key)?);
            }
            builder.build()
        };
        let wrong = |error: lettre::transport::smtp::Error| causes(&error);
        build().map(Self).map_err(wrong)
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secured(towards {})", self.0.domain())
    }
}

/// Who is trusted.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Certificate authorities in PEM beside the machine's.
    pub roots: Option<Vec<u8>>,
    /// Our own certificate and its key in PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// A mail, the same over all attempts but for its date.
pub(in crate::notify) struct Mail {
    from: String,
    to: String,
    subject: String,
    headers: Vec<(String, String)>,
    html: Option<String>,
    text: Option<String>,
    /// Mails about one group belong together.
    thread: Option<String>,
}

impl Email {
    /// What is checked of it.
    ///
    /// # Errors
    /// A header is ours to set.
    pub fn checked(self) -> Result<Self, String> {
        for (name, _) in &self.headers {
            header_name(name)?;
        }
        Ok(self)
    }

    pub(super) fn shown(&self) -> String {
        format!("smtp://{}:{}", self.smarthost.0, self.smarthost.1)
    }

    pub(super) fn prepare(
        &self,
        context: &Context,
        receiver: &str,
        message: &Message,
    ) -> Option<Mail> {
        let view = context.view_in(message, receiver, "email", self.resolved, &self.zone)?;
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, text)| (name.clone(), view.text(Some(text), "", Target::Line)))
            .collect();
        let own = headers.iter().position(|(name, subject)| {
            name.eq_ignore_ascii_case("subject") && !subject.is_empty()
        });
        let subject = match own {
            Some(at) => headers.swap_remove(at).1,
            None => view.text(None, words::TITLE, Target::Line),
        };
        headers.retain(|(name, value)| !name.eq_ignore_ascii_case("subject") && !value.is_empty());
        let part = |part: &Part, built_in, target| match part {
            Part::BuiltIn => Some(view.text(None, built_in, target)),
            Part::Absent => None,
            Part::Text(text) => Some(view.text(Some(text), built_in, target)),
        };
        Some(Mail {
            from: address(&view, &self.from),
            to: address(&view, &self.to),
            subject,
            headers,
            html: part(&self.html, words::HTML, Target::Html),
            text: part(&self.text, words::PLAIN, Target::Plain),
            thread: match message {
                Message::Alerts(notification) => Some(group_hash(&notification.group_key)),
                Message::Mode { .. } => None,
            },
        })
    }

    pub(super) async fn attempt(
        &self,
        client: &Client,
        id: &str,
        mail: &Mail,
        now: Timestamp,
    ) -> Result<(), AttemptError> {
        let message = mail
            .build(id, now)
            .map_err(|reason| AttemptError::Permanent { reason })?;
        let sent = tokio::time::timeout(self.timeout, self.send(client, &message)).await;
        let mut connection = sent.unwrap_or_else(|_| {
            Err(AttemptError::Retryable {
                after: None,
                reason: format!("the server took longer than {:?}", self.timeout),
            })
        })?;
        // The server has the mail; how it says goodbye no longer matters.
        drop(tokio::time::timeout(GOODBYE, connection.quit()).await);
        Ok(())
    }

    /// Hands the mail to the server. A connection on which that fails is closed without a word: after a
    /// failed handshake there is nothing to speak on, and a server that hangs must not hide the reason.
    async fn send(
        &self,
        client: &Client,
        message: &lettre::Message,
    ) -> Result<AsyncSmtpConnection, AttemptError> {
        let (host, port) = (self.smarthost.0.as_str(), self.smarthost.1);
        let addresses = client.guard.lookup(host, port).await.map_err(|error| {
            let reason = format!("{host}: {error}");
            match Refused::is_behind(error.as_ref()) {
                Some(_) => AttemptError::Permanent { reason },
                None => AttemptError::Retryable {
                    after: None,
                    reason,
                },
            }
        })?;
        let mut connection = self.connect(client, &addresses).await.map_err(judge)?;
        self.talk(&mut connection, message).await?;
        Ok(connection)
    }

    async fn connect(
        &self,
        client: &Client,
        addresses: &[SocketAddr],
    ) -> Result<AsyncSmtpConnection, lettre::transport::smtp::Error> {
        let hello = ClientId::Domain(self.hello.clone());
        let tls = match &self.tls {
            Tls::Implicit(secured) => Some(secured.0.clone()),
            Tls::Off | Tls::StartTls(_) => None,
        };
        let timeout = Some(client.connect_timeout);
        AsyncSmtpConnection::connect_tokio1(addresses, timeout, &hello, tls, None).await
    }

    async fn talk(
        &self,
        connection: &mut AsyncSmtpConnection,
        message: &lettre::Message,
    ) -> Result<(), AttemptError> {
        let hello = ClientId::Domain(self.hello.clone());
        if let Tls::StartTls(secured) = &self.tls {
            if !connection.can_starttls() {
                return Err(AttemptError::Permanent {
                    reason: "the server offers no STARTTLS, and nothing is sent without TLS".into(),
                });
            }
            let started = connection.starttls(secured.0.clone(), &hello).await;
            started.map_err(judge)?;
        }
        if let Some((user, password)) = &self.auth {
            let credentials = Credentials::new(user.clone(), password.read().await?);
            connection
                .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
                .await
                .map_err(judge)?;
        }
        let formatted = message.formatted();
        let sent = connection.send(message.envelope(), &formatted);
        sent.await.map(drop).map_err(judge)
    }
}

/// Without the parts that failed, an address is none; the mail then fails with that reason.
fn address(view: &View<'_>, text: &Text) -> String {
    view.text(Some(text), "", Target::Line)
}

impl Mail {
    fn build(&self, id: &str, now: Timestamp) -> Result<lettre::Message, String> {
        let from: Mailbox = self
            .from
            .parse()
            .map_err(|error| format!("`from` is no address: {error}"))?;
        let to: Mailboxes = self
            .to
            .parse()
            .map_err(|error| format!("`to` is no list of addresses: {error}"))?;
        let domain = domain(&from.email);
        let seconds = u64::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(0);
        let mut builder = lettre::Message::builder()
            .from(from)
            .subject(self.subject.clone())
            .date(UNIX_EPOCH + Duration::from_secs(seconds))
            // The same over all attempts, so that whoever stores it keeps one.
            .message_id(Some(format!("<{id}@{domain}>")));
        for mailbox in to {
            builder = builder.to(mailbox);
        }
        if let Some(thread) = &self.thread {
            builder = builder.references(format!("<{thread}@{domain}>"));
        }
        for (name, value) in &self.headers {
            builder = builder.raw_header(HeaderValue::new(header_name(name)?, value.clone()));
        }
        let html = self.html.clone().map(SinglePart::html);
        let text = self.text.clone().map(SinglePart::plain);
        let message = match (text, html) {
            (Some(text), Some(html)) => {
                builder.multipart(MultiPart::alternative().singlepart(text).singlepart(html))
            }
            (Some(part), None) | (None, Some(part)) => builder.singlepart(part),
            (None, None) => return Err("the mail is empty".into()),
        };
        message.map_err(|error| format!("the mail cannot be written: {error}"))
    }
}

fn domain(address: &Address) -> String {
    address.domain().to_owned()
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("the header `{name}` is set by Tidewatch itself"));
    }
    HeaderName::new_from_ascii(name.to_owned()).map_err(|_| format!("`{name}` is no header name"))
}

/// What a failure means: the server says by 5yz that the same again would fail the same way (RFC 5321,
/// 4.2.1).
fn judge(error: lettre::transport::smtp::Error) -> AttemptError {
    let reason = shown(&match error.source() {
        Some(_) => causes(&error),
        None => error.to_string(),
    });
    if error.is_permanent() || error.is_client() {
        AttemptError::Permanent { reason }
    } else {
        AttemptError::Retryable {
            after: None,
            reason,
        }
    }
}
