//! Receivers and addresses that mean no good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::{Hook, PATIENCE, notification, patiently, receiver, rig};
use crate::model::BoxFuture;
use crate::notify::Webhook;

/// A server that speaks no HTTP unless the test does.
async fn raw(behave: impl Fn(TcpStream) -> BoxFuture<'static, ()> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream));
        }
    });
    address
}

/// Time for an attempt that nothing else ends.
const SOON: Duration = Duration::from_millis(250);

/// Sends one notification to `url`, with so much time an attempt, and returns what came of the first
/// one, as the counters say it.
async fn first_result(url: &str, limit: Duration) -> [u64; 4] {
    let webhook = Webhook::new(url).unwrap().timeout(limit);
    let rig = rig([receiver("oncall", [webhook])], |s| {
        s.retry.initial = PATIENCE
    });
    rig.send(notification("oncall", "g"));
    patiently(async {
        while rig.counts("oncall") == [0; 4] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    rig.counts("oncall")
}

const DELIVERED: [u64; 4] = [1, 0, 0, 0];
const RETRIED: [u64; 4] = [0, 1, 0, 0];
const FAILED: [u64; 4] = [0, 0, 1, 0];

/// Reads the beginning of a request, then writes `answer` and `rest` for ever.
async fn talking(answer: &'static [u8], rest: &'static [u8], pace: Option<Duration>) -> SocketAddr {
    raw(move |mut stream| {
        Box::pin(async move {
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_err() || stream.write_all(answer).await.is_err() {
                return;
            }
            let mut pace = pace.map(tokio::time::interval);
            while !rest.is_empty() && stream.write_all(rest).await.is_ok() {
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
            }
        })
    })
    .await
}

#[tokio::test]
async fn hostile_answers_are_survived() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n";
    const ERROR: &[u8] = b"HTTP/1.1 500 Oops\r\ncontent-length: 10737418240\r\n\r\n";
    const NO: &[u8] = b"HTTP/1.1 404 No\r\ncontent-length: 10737418240\r\n\r\n";
    const BYTES: &[u8] = &[b'x'; 65_536];
    const SLOWLY: Option<Duration> = Some(Duration::from_millis(20));
    const ENDLESS: &[u8] = b"HTTP/1.1 200 OK\r\nx: ";
    const EARLY: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    // Where the limit is `PATIENCE`, something else than the limit must end the attempt.
    let cases = [
        ("10 GiB, delivered", OK, BYTES, None, PATIENCE, DELIVERED),
        ("10 GiB, an error", ERROR, BYTES, None, PATIENCE, RETRIED),
        ("10 GiB, refused", NO, BYTES, None, PATIENCE, FAILED),
        ("trickle, delivered", OK, b"x", SLOWLY, PATIENCE, DELIVERED),
        ("trickle, an error", ERROR, b"x", SLOWLY, SOON, RETRIED),
        ("trickle of a header", ENDLESS, b"x", SLOWLY, SOON, RETRIED),
        ("endless header", ENDLESS, BYTES, None, PATIENCE, RETRIED),
        ("endless 1xx", EARLY, EARLY, None, SOON, RETRIED),
        ("closed early", ENDLESS, b"", None, PATIENCE, RETRIED),
        ("closed at once", b"", b"", None, PATIENCE, RETRIED),
        ("no HTTP", b"220 ready\r\n", b"", None, PATIENCE, RETRIED),
    ];
    for (name, beginning, rest, pace, limit, expected) in cases {
        let address = talking(beginning, rest, pace).await;
        let result = first_result(&format!("http://{address}/"), limit).await;
        assert_eq!(result, expected, "{name}");
    }
    let silent = raw(|stream| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
    })
    .await;
    let silence = first_result(&format!("http://{silent}/"), SOON).await;
    assert_eq!(silence, RETRIED);
    let nobody = first_result("http://127.0.0.1:1/", PATIENCE).await;
    assert_eq!(nobody, RETRIED);
}

#[tokio::test]
async fn link_local_addresses_are_never_connected_to() {
    for url in [
        "http://169.254.169.254/latest/",
        "http://[fe80::1]/",
        "http://0xa9fea9fe/",
    ] {
        assert_eq!(first_result(url, PATIENCE).await, FAILED, "{url}");
    }
}

#[tokio::test]
async fn a_name_is_resolved_by_our_own_resolver() {
    let mut hook = Hook::answering(&[200]).await;
    let url = format!("http://localhost:{}/", hook.address.port());
    let rig = rig([receiver("oncall", [Webhook::new(&url).unwrap()])], |_| {});
    rig.send(notification("oncall", "g"));
    hook.next().await;
}

/// A certificate for `localhost` and 127.0.0.1 that nobody vouches for, and its key. It guards nothing.
const CERTIFICATE: &str = "MIIBmzCCAUGgAwIBAgIUBBvroL7IAdBVqD9RTBtTjyxhOVUwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxob3\
    N0MCAXDTI2MTEyMTA4MTEwOVoYDzIxMjYxMDI4MDgxMTA5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjO\
    PQIBBggqhkjOPQMBBwNCAAS8qJWeURVr5lWa5XITUoFNKvnOEH2WGsQKTYOOtFCT7FLyDHKalbYKpaPYewT/j7Lp91\
    FKIxUTZqsHkGJIOOKJo28wbTAdBgNVHQ4EFgQUlz0DuMtNFg32tafS9jbBJnyI1YgwHwYDVR0jBBgwFoAUlz0DuMtN\
    Fg32tafS9jbBJnyI1YgwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZIzj\
    0EAwIDSAAwRQIhAPU/4tYqkJxLN18qmN9cxOr2HBZhdAA2KUcuvq4GQqbAAiA6ogtp5Szaifel9OslewCSs5PMmXKi\
    v09zQJUUjP6Q9A==";
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVSVMAP+HgH3lD1HpcU4tEzlmnaWX2p8guVz4qNw7oG\
    ChRANCAAS8qJWeURVr5lWa5XITUoFNKvnOEH2WGsQKTYOOtFCT7FLyDHKalbYKpaPYewT/j7Lp91FKIxUTZqsHkGJI\
    OOKJ";

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_nothing() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let certificate = STANDARD.decode(CERTIFICATE).unwrap().into();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (record, mut handshakes) = mpsc::channel(100);
    let address = raw(move |stream| {
        let (acceptor, record) = (acceptor.clone(), record.clone());
        Box::pin(async move {
            let handshake = acceptor.accept(stream).await;
            let outcome = handshake.map(drop).map_err(|e| e.to_string());
            record.send(outcome).await.unwrap();
        })
    })
    .await;
    let result = first_result(&format!("https://{address}/"), PATIENCE).await;
    assert_eq!(result, RETRIED, "it may be put right; TLS is never relaxed");
    let handshake = patiently(handshakes.recv()).await.unwrap();
    assert!(handshake.is_err(), "not a byte of a notification leaves");
}
