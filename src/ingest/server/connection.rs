use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::greeting::{Greeted, Protocol, greeting};
use super::tls::Acceptor;
use crate::ingest::intake::Intake;
use crate::ingest::otlp::answer::Reply;
use crate::ingest::otlp::{grpc, http};

/// Which of the two ports a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Grpc,
    Http,
}

/// What all connections share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) intake: Arc<Intake>,
    pub(super) tls: Option<Acceptor>,
    /// One for each connection that may be open.
    pub(super) places: Arc<Semaphore>,
    /// End when what is in work has been answered.
    pub(super) stop: CancellationToken,
    /// End now.
    pub(super) abort: CancellationToken,
}

/// Largest head of a request, in bytes, on both versions of HTTP.
const MAX_HEAD: u32 = 16 << 10;
/// Most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Most streams that a client may have reset before they were looked at (rapid reset).
const MAX_PENDING_RESETS: usize = 20;
/// Most streams that the server may have to reset itself because the client broke the protocol.
const MAX_LOCAL_RESETS: usize = 256;
/// Bytes that one stream, and one connection, may send ahead of being read. A request is read as it
/// comes, so that this is not held for long.
const WINDOW: (u32, u32) = (1 << 20, 2 << 20);
/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

impl Connections {
    /// Serves one connection to its end.
    pub(super) async fn serve(&self, stream: TcpStream, door: Door) {
        let telemetry = &self.intake.telemetry;
        telemetry.connections.inc();
        let serving = AssertUnwindSafe(self.greet(stream, door)).catch_unwind();
        let ended = tokio::select! {
            () = self.abort.cancelled() => Ok(()),
            ended = serving => ended,
        };
        telemetry.connections.dec();
        if ended.is_err() {
            // The connection is closed, the others go on.
            telemetry.panics.inc();
        }
    }

    async fn greet(&self, stream: TcpStream, door: Door) {
        match &self.tls {
            None => {
                if let Some((protocol, io)) = self.patiently(greeting(stream)).await {
                    self.speak(protocol, io, door).await;
                }
            }
            Some(tls) => {
                let greeted = async { greeting(tls.accept(stream).await?).await };
                if let Some((protocol, io)) = self.patiently(greeted).await {
                    self.speak(protocol, io, door).await;
                }
            }
        }
    }

    /// What a client says first; `None` if it says nothing in time or before the end begins.
    async fn patiently<T>(&self, greeted: impl Future<Output = io::Result<T>>) -> Option<T> {
        tokio::select! {
            greeted = timeout(self.intake.settings.header_timeout, greeted) => greeted.ok()?.ok(),
            () = self.stop.cancelled() => None,
        }
    }

    async fn speak<I>(&self, protocol: Protocol, io: Greeted<I>, door: Door)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let intake = Arc::clone(&self.intake);
        let service = service_fn(move |request: Request<Incoming>| {
            let intake = Arc::clone(&intake);
            async move {
                match door {
                    Door::Http => http::handle(intake, request).await,
                    Door::Grpc => Ok::<Response<Reply>, _>(grpc::handle(intake, request).await),
                }
            }
        });
        let io = TokioIo::new(io);
        match (protocol, door) {
            (Protocol::Http1, Door::Http) => {
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(self.intake.settings.header_timeout)
                    .max_header_size(MAX_HEAD as usize)
                    .serve_connection(io, service);
                self.drive(connection).await;
            }
            (Protocol::Http2, _) => {
                let connection = http2::Builder::new(Tasks(Arc::clone(&self.intake)))
                    .timer(TokioTimer::new())
                    .max_header_list_size(MAX_HEAD)
                    .max_concurrent_streams(MAX_STREAMS)
                    .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
                    .max_local_error_reset_streams(MAX_LOCAL_RESETS)
                    .initial_stream_window_size(WINDOW.0)
                    .initial_connection_window_size(WINDOW.1)
                    .keep_alive_interval(PING.0)
                    .keep_alive_timeout(PING.1)
                    .serve_connection(io, service);
                self.drive(connection).await;
            }
            // gRPC needs HTTP/2.
            (Protocol::Http1, Door::Grpc) => {}
        }
    }

    async fn drive<C: GracefulConnection>(&self, connection: C) {
        let mut connection = pin!(connection);
        tokio::select! {
            // What goes wrong on a connection is the client's affair; requests are counted.
            _ = connection.as_mut() => return,
            () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.ok();
    }
}

/// Runs the requests of HTTP/2 connections where the server can wait for them.
#[derive(Clone)]
struct Tasks(Arc<Intake>);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, request: F) {
        let panics = self.0.telemetry.panics.clone();
        self.0.tasks.spawn(async move {
            if AssertUnwindSafe(request).catch_unwind().await.is_err() {
                // The stream is reset, the connection goes on.
                panics.inc();
            }
        });
    }
}
