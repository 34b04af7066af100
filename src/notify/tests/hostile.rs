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

/// Sends one notification to `url` and returns why the first attempt failed, as the counters say it.
async fn first_result(url: &str) -> [u64; 4] {
    let webhook = Webhook::new(url)
        .unwrap()
        .timeout(Duration::from_millis(250));
    let rig = rig([receiver("oncall", [webhook])], |s| {
        s.retry.initial = PATIENCE
    });
    rig.notifier.send(notification("oncall", "g"));
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
    let slowly = Some(Duration::from_millis(20));
    let cases = [
        (
            "10 GiB after success",
            talking(OK, BYTES, None).await,
            DELIVERED,
        ),
        (
            "10 GiB after an error",
            talking(ERROR, BYTES, None).await,
            RETRIED,
        ),
        (
            "10 GiB after a refusal",
            talking(NO, BYTES, None).await,
            FAILED,
        ),
        (
            "a byte now and then after success",
            talking(OK, b"x", slowly).await,
            DELIVERED,
        ),
        (
            "a byte now and then after an error",
            talking(ERROR, b"x", slowly).await,
            RETRIED,
        ),
        (
            "a header without end, slowly",
            talking(b"HTTP/1.1 200 OK\r\n", b"x", slowly).await,
            RETRIED,
        ),
        (
            "a header without end",
            talking(b"HTTP/1.1 200 OK\r\nx: ", BYTES, None).await,
            RETRIED,
        ),
        (
            "1xx without end",
            talking(b"", b"HTTP/1.1 100 Continue\r\n\r\n", None).await,
            RETRIED,
        ),
        (
            "closed early",
            talking(b"HTTP/1.1 200", b"", None).await,
            RETRIED,
        ),
        ("closed at once", talking(b"", b"", None).await, RETRIED),
        (
            "no HTTP",
            talking(b"220 smtp.example ready\r\n", b"", None).await,
            RETRIED,
        ),
    ];
    for (name, address, expected) in cases {
        let result = first_result(&format!("http://{address}/")).await;
        assert_eq!(result, expected, "{name}");
    }
    let silent = raw(|stream| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
    })
    .await;
    assert_eq!(
        first_result(&format!("http://{silent}/")).await,
        RETRIED,
        "silence"
    );
    assert_eq!(
        first_result("http://127.0.0.1:1/").await,
        RETRIED,
        "nobody there"
    );
}

#[tokio::test]
async fn link_local_addresses_are_never_connected_to() {
    for url in [
        "http://169.254.169.254/latest/",
        "http://[fe80::1]/",
        "http://0xa9fea9fe/",
    ] {
        assert_eq!(first_result(url).await, FAILED, "{url}");
    }
}

#[tokio::test]
async fn a_name_is_resolved_by_our_own_resolver() {
    let mut hook = Hook::answering(&[200]).await;
    let url = format!("http://localhost:{}/", hook.address.port());
    let rig = rig([receiver("oncall", [Webhook::new(&url).unwrap()])], |_| {});
    rig.notifier.send(notification("oncall", "g"));
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
    let result = first_result(&format!("https://{address}/")).await;
    assert_eq!(result, RETRIED, "it may be put right; TLS is never relaxed");
    let handshake = patiently(handshakes.recv()).await.unwrap();
    assert!(handshake.is_err(), "not a byte of a notification leaves");
}
