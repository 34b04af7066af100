use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::guard::{Connection, guard};
use super::state::{Settings, Sources, State};
use super::{modes, routes};

/// Pause after the system had no connection to give (no file descriptor left, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest head of an HTTP/1 request: the longest target and room for its headers.
const MAX_HEAD: usize = 96 * 1024;
/// Longest list of headers of an HTTP/2 request.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Requests at the same time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// How often a silent HTTP/2 connection is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Why the server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// The server of port 9517: bound first, so that its address is known, and served later.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    settings: Settings,
}

impl Server {
    /// Takes the address. Nothing is answered yet; those who connect wait.
    ///
    /// # Errors
    /// The address is taken, not ours or not allowed.
    pub async fn bind(settings: Settings) -> Result<Self, Error> {
        let address = settings.listen;
        let failed = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            local,
            settings,
        })
    }

    /// The address that is listened on, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until `stop`; then takes no more connections, ends event streams, lets requests in work
    /// end within `drain` and returns.
    pub async fn serve(self, sources: Sources, stop: CancellationToken) {
        let Self {
            listener,
            local,
            settings,
        } = self;
        let panics = sources.telemetry.panics.clone();
        let refused = sources.telemetry.http_refused.clone();
        let room = Arc::new(Semaphore::new(settings.max_connections));
        let drain = settings.drain;
        let header_timeout = settings.header_timeout;
        let modes = modes::State::new(
            sources.board.clone(),
            sources.clock.clone(),
            sources.telemetry.clone(),
            settings.modes.clone(),
            stop.clone(),
        );
        let router = guarded(State::new(settings, sources, local), modes);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    count_panic(&ended, &panics);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Closed rather than left waiting: a client that is refused knows where it stands.
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                refused.inc();
                continue;
            };
            let local = stream.local_addr().unwrap_or(local);
            let connection = Connection { local };
            let router = router.clone();
            let stop = stop.clone();
            let served = serve_connection(stream, router, connection, header_timeout, stop);
            connections.spawn(async move {
                served.await;
                drop(permit);
            });
        }
        drop(listener);
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                count_panic(&ended, &panics);
            }
        };
        // What has not ended by then ends when the set is dropped.
        if tokio::time::timeout(drain, drained).await.is_err() {
            tracing::debug!("closed connections that did not end in time");
        }
    }
}

fn count_panic(ended: &Result<(), tokio::task::JoinError>, panics: &prometheus::IntCounter) {
    if ended.as_ref().is_err_and(tokio::task::JoinError::is_panic) {
        panics.inc();
    }
}

/// All routes behind the guard.
pub(super) fn guarded(state: State, modes: modes::State) -> Router {
    routes(state.clone(), modes).layer(middleware::from_fn_with_state(state, guard))
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    connection: Connection,
    header_timeout: Duration,
    stop: CancellationToken,
) {
    // Small answers must not wait for more; where it cannot be set they merely come later.
    drop(stream.set_nodelay(true));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let asked = Arc::clone(&asked);
        move |request: Request<Incoming>| {
            // A flag of its own that carries no other data with it: no ordering is needed.
            asked.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(connection.clone());
            router.clone().oneshot(request)
        }
    });
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // The header timeout of HTTP/1 runs only once the protocol is known, so this one watches over the
    // time before, and over HTTP/2 connections that never ask anything.
    let result = tokio::select! {
        result = served.as_mut() => Some(result),
        () = tokio::time::sleep(header_timeout) => None,
        () = stop.cancelled() => None,
    };
    let result = match result {
        Some(result) => result,
        None if !asked.load(Ordering::Relaxed) => return,
        None => {
            tokio::select! {
                result = served.as_mut() => result,
                () = stop.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            }
        }
    };
    if let Err(error) = result {
        // The other side's doing: a reset, a broken request, a timeout.
        tracing::debug!(error = %error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::expose::fakes::Site;

    /// Everything the server sends after `request` until it closes the connection.
    async fn talk(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream
            .write_all(request)
            .await
            .expect("the request is sent");
        let mut answer = Vec::new();
        // A reset is an end too: what had been read stays.
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn requests_on_a_real_port_are_answered_until_the_server_stops() {
        let site = Site::new();
        let (address, stop, served) = site.serve().await;
        let get = |path: &str| {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            async move { talk(address, request.as_bytes()).await }
        };
        assert!(get("/healthz").await.starts_with("HTTP/1.1 200 OK"));
        assert!(
            get(&format!("/{}", "a".repeat(65_536)))
                .await
                .starts_with("HTTP/1.1 414")
        );
        assert!(
            talk(address, b"\x16\x03\x01 not HTTP\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400")
        );
        stop.cancel();
        served.await.expect("the server ends");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn modes_are_heard_by_http_events_and_grpc_and_streams_end_with_the_server() {
        let site = Site::new();
        site.board
            .set_modes(crate::expose::fakes::modes(&[("checkout", "degraded")]));
        let (address, stop, served) = site.serve().await;
        let request = format!(
            "GET /api/v1/modes/checkout HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        );
        let answer = talk(address, request.as_bytes()).await;
        assert!(answer.contains("\"mode\":\"degraded\""), "{answer}");

        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .expect("an address")
            .connect()
            .await
            .expect("a connection");
        let mut client = modes::proto::modes_client::ModesClient::new(channel);
        let service = "checkout".to_owned();
        let request = modes::proto::GetRequest { service };
        let mode = client.get(request).await.expect("an answer").into_inner();
        assert_eq!(mode.mode, "degraded");

        let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let mut events = TcpStream::connect(address).await.expect("a connection");
        events.write_all(request.as_bytes()).await.expect("sent");
        let mut start = [0; 12];
        events.read_exact(&mut start).await.expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200");
        stop.cancel();
        served.await.expect("the server ends");
        let mut rest = Vec::new();
        events
            .read_to_end(&mut rest)
            .await
            .expect("the stream has an end");
        let rest = String::from_utf8_lossy(&rest).into_owned();
        assert!(
            rest.contains("text/event-stream") && rest.ends_with("0\r\n\r\n"),
            "{rest}"
        );
    }

    #[tokio::test]
    async fn those_who_ask_nothing_or_too_slowly_are_closed() {
        let settings = Settings {
            header_timeout: Duration::from_millis(50),
            body_timeout: Duration::from_millis(50),
            ..Settings::default()
        };
        let site = Site::with(settings);
        let (address, stop, served) = site.serve().await;
        for silent in ["", "P", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let answer = talk(address, silent.as_bytes()).await;
            assert!(!answer.starts_with("HTTP/1.1 200"), "{silent}: {answer}");
        }
        // The protocol is known, the rest of the head never comes.
        let answer = talk(address, b"GET / HTTP/1.1\r\nHost: loc").await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        let half = b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf";
        let answer = talk(address, half).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        stop.cancel();
        served.await.expect("the server ends");
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_counted() {
        let settings = Settings {
            max_connections: 1,
            ..Settings::default()
        };
        let site = Site::with(settings);
        let (address, stop, served) = site.serve().await;
        let mut first = TcpStream::connect(address).await.expect("a connection");
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        first.write_all(request).await.expect("sent");
        let mut start = [0; 12];
        first.read_exact(&mut start).await.expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200");
        assert_eq!(talk(address, request).await, "");
        assert_eq!(site.telemetry().http_refused.get(), 1);
        // An idle connection does not hold up the end.
        stop.cancel();
        served.await.expect("the server ends");
    }
}
