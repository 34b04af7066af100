//! Mail servers that behave in ways that real ones seldom show.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{NOW, PATIENCE, context, notification};
use crate::notify::integration::{AttemptError, Email, Integration, Part, Secured, Tls, Trust};
use crate::notify::{Message, Resolved, Target, Templates};

/// What a server answers to the command that begins so; the first that fits. No answer: it hangs.
type Script = &'static [(&'static str, Option<&'static str>)];

const GOOD: Script = &[
    ("", Some("220 here\r\n")),
    ("EHLO", Some("250 here\r\n")),
    ("MAIL", Some("250 ok\r\n")),
    ("RCPT", Some("250 ok\r\n")),
    ("DATA", Some("354 go\r\n")),
    (".", Some("250 taken\r\n")),
    ("QUIT", Some("221 bye\r\n")),
];

/// Plays `script` with `exceptions` before it, and returns the mail's text.
async fn play(stream: impl AsyncRead + AsyncWrite + Unpin, exceptions: Script) {
    let mut stream = BufReader::new(stream);
    let mut mail = false;
    let mut command = String::new();
    loop {
        let is_end = command == ".\r\n";
        let answer =
            exceptions
                .iter()
                .chain(GOOD)
                .find(|(beginning, _)| match beginning.is_empty() {
                    true => command.is_empty(),
                    false => command.starts_with(beginning) && (!mail || is_end),
                });
        if !mail || is_end {
            match answer {
                Some((_, Some(answer))) => {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    mail = answer.starts_with("354");
                }
                Some((_, None)) => std::future::pending().await,
                None => panic!("{command}"),
            }
        }
        command.clear();
        if !matches!(stream.read_line(&mut command).await, Ok(1..)) {
            return;
        }
    }
}

fn email(port: u16, tls: Tls) -> Email {
    let text = |source| Templates::default().text(Target::Line, source).unwrap();
    Email {
        smarthost: ("127.0.0.1".into(), port),
        hello: "localhost".into(),
        from: text("a@example.org"),
        to: text("b@example.org"),
        auth: None,
        tls,
        headers: Vec::new(),
        html: Part::BuiltIn,
        text: Part::BuiltIn,
        timeout: PATIENCE,
        resolved: Resolved::Send,
        zone: jiff::tz::TimeZone::UTC,
    }
}

async fn attempt(email: Email) -> Result<(), AttemptError> {
    let integration = Integration::Email(Box::new(email));
    let message = Message::Alerts(Arc::new(notification("oncall", "g")));
    let context = context();
    let prepared = integration.prepare(&context, "oncall", &message).unwrap();
    integration.attempt(&context, "msg_1", &prepared, NOW).await
}

async fn serve(exceptions: Script) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        play(stream, exceptions).await;
    });
    port
}

#[track_caller]
fn kind(outcome: &Result<(), AttemptError>) -> &'static str {
    match outcome {
        Ok(()) => "delivered",
        Err(AttemptError::Retryable { .. }) => "again",
        Err(AttemptError::Limited { .. }) => "later",
        Err(AttemptError::Permanent { .. }) => "final",
        Err(AttemptError::Gone { .. }) => "gone",
    }
}

#[tokio::test]
async fn servers_are_understood() {
    let cases: [(&str, Script, Duration, &str); 9] = [
        ("all well", &[], PATIENCE, "delivered"),
        ("no goodbye", &[("QUIT", None)], PATIENCE, "delivered"),
        ("busy", &[("", Some("421 busy\r\n"))], PATIENCE, "again"),
        (
            "put off",
            &[("RCPT", Some("450 later\r\n"))],
            PATIENCE,
            "again",
        ),
        (
            "nobody there",
            &[("RCPT", Some("550 no such user\r\n"))],
            PATIENCE,
            "final",
        ),
        (
            "refused at the end",
            &[(".", Some("554 no\r\n"))],
            PATIENCE,
            "final",
        ),
        (
            "no SMTP",
            &[("", Some("HTTP/1.1 400 Bad\r\n\r\n"))],
            PATIENCE,
            "again",
        ),
        (
            "silence",
            &[("", None)],
            Duration::from_millis(200),
            "again",
        ),
        (
            "silence at the end",
            &[(".", None)],
            Duration::from_millis(200),
            "again",
        ),
    ];
    for (name, exceptions, timeout, expected) in cases {
        let port = serve(exceptions).await;
        let email = Email {
            timeout,
            ..email(port, Tls::Off)
        };
        let outcome = attempt(email).await;
        assert_eq!(kind(&outcome), expected, "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn tls_may_begin_with_the_first_byte() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    play(stream, &[]).await;
                }
            });
        }
    });
    let trust = Trust {
        roots: Some(made.cert.pem().into_bytes()),
        identity: None,
    };
    let outcome = attempt(email(
        port,
        Tls::Implicit(Secured::towards("127.0.0.1", &trust).unwrap()),
    ))
    .await;
    assert_eq!(kind(&outcome), "delivered", "{outcome:?}");
    let outcome = attempt(email(
        port,
        Tls::Implicit(Secured::towards("127.0.0.1", &Trust::default()).unwrap()),
    ))
    .await;
    assert_eq!(kind(&outcome), "again", "{outcome:?}");
}

#[tokio::test]
async fn what_cannot_be_sent_fails_at_once() {
    let to = |to: &str| Email {
        to: Templates::default().text(Target::Line, to).unwrap(),
        ..email(1, Tls::Off)
    };
    for nobody in ["{{ common_labels.nobody }}", "ann", "a@b\r\nBcc: c@d"] {
        let outcome = attempt(to(nobody)).await;
        assert_eq!(kind(&outcome), "final", "{nobody}: {outcome:?}");
    }
    let far = Email {
        smarthost: ("169.254.169.254".into(), 25),
        ..email(1, Tls::Off)
    };
    let outcome = attempt(far).await;
    assert_eq!(kind(&outcome), "final", "{outcome:?}");
    let outcome = attempt(email(1, Tls::Off)).await;
    assert_eq!(kind(&outcome), "again", "nobody listens: {outcome:?}");
}
