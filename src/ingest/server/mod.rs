//! Ports, connections, beginning and end of the OTLP servers.

mod connection;
mod greeting;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::ingest::intake::Intake;
use crate::ingest::{Admission, Cause, Settings, Sink};
use crate::telemetry::Telemetry;
use connection::{Connections, Door};
use tls::Acceptor;

/// Why the servers cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on: taken, or not ours.
    #[error("cannot listen on {address} for OTLP: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A file for TLS cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is in the files for TLS is of no use.
    #[error("cannot use the TLS certificates: {0}")]
    Tls(String),
}

/// The OTLP servers, bound to their ports and not yet serving.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    grpc: Option<TcpListener>,
    http: Option<TcpListener>,
    tls: Option<Acceptor>,
}

impl Server {
    /// Binds the ports of `settings`. Connections wait until [`Server::serve`] takes them.
    ///
    /// # Errors
    /// A port cannot be bound, or the files for TLS are of no use.
    pub async fn bind(settings: Settings) -> Result<Self, Error> {
        let tls = match &settings.tls {
            Some(files) => Some(Acceptor::load(files.clone()).await?),
            None => None,
        };
        Ok(Self {
            grpc: listen(settings.grpc).await?,
            http: listen(settings.http).await?,
            tls,
            settings,
        })
    }

    /// Where OTLP/gRPC listens.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().and_then(|l| l.local_addr().ok())
    }

    /// Where OTLP/HTTP listens.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|l| l.local_addr().ok())
    }

    /// Serves until `stop`: then new requests are refused with a retryable answer, those in work have
    /// [`Settings::drain_timeout`] to end, and the ports are closed. Returns when all is done.
    ///
    /// Before that, `admission` can refuse everything for other causes.
    pub async fn serve(
        self,
        sink: Arc<dyn Sink>,
        admission: Arc<Admission>,
        telemetry: Telemetry,
        clock: Clock,
        stop: CancellationToken,
    ) {
        let drain_timeout = self.settings.drain_timeout;
        let places = Arc::new(Semaphore::new(self.settings.max_connections));
        let intake = Intake::new(
            self.settings,
            sink,
            Arc::clone(&admission),
            telemetry,
            clock,
        );
        let connections = Connections {
            intake: Arc::new(intake),
            tls: self.tls,
            places,
            stop: stop.clone(),
            abort: CancellationToken::new(),
        };
        let doors = [(self.grpc, Door::Grpc), (self.http, Door::Http)];
        let accepting = doors.map(|(listener, door)| accept(listener, door, &connections));
        futures_util::future::join_all(accepting).await;

        admission.refuse(Cause::Stopping);
        let tasks = &connections.intake.tasks;
        tasks.close();
        if tokio::time::timeout(drain_timeout, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                tasks = tasks.len(),
                "closing OTLP connections that did not end in time"
            );
            connections.abort.cancel();
            // Ended connections leave at once; a sink that hangs is not waited for.
            tokio::time::timeout(Duration::from_secs(1), tasks.wait())
                .await
                .ok();
        }
    }
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    let Some(address) = address else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(Error::Bind { address, source }),
    }
}

/// First and longest pause after the system refused to give a connection.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Takes connections until told to stop; the port is closed on return.
async fn accept(listener: Option<TcpListener>, door: Door, connections: &Connections) {
    let Some(listener) = listener else {
        return connections.stop.cancelled().await;
    };
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            () = connections.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                pause = PAUSE.0;
                admit(stream, door, connections);
            }
            // The client was gone before it was let in.
            Err(error) if is_about_client(&error) => {}
            // No files left, say: asking again at once would only keep a core busy.
            Err(error) => {
                warn(connections, "accept", &error.to_string());
                tokio::select! {
                    () = connections.stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = PAUSE.1.min(pause * 2);
            }
        }
    }
}

fn is_about_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Gives a connection its task, or closes it if there are too many.
fn admit(stream: TcpStream, door: Door, connections: &Connections) {
    let Ok(place) = Arc::clone(&connections.places).try_acquire_owned() else {
        return warn(connections, "connections", "there are too many connections");
    };
    // Answers are small and complete; waiting for more would only delay them.
    stream.set_nodelay(true).ok();
    let this = connections.clone();
    connections.intake.tasks.spawn(async move {
        this.serve(stream, door).await;
        drop(place);
    });
}

fn warn(connections: &Connections, reason: &'static str, detail: &str) {
    if let Some(left_out) = connections.intake.log.permit(reason, clock::instant()) {
        tracing::warn!(
            reason,
            detail,
            lines_left_out = left_out,
            "an OTLP connection was refused"
        );
    }
}

#[cfg(test)]
mod tests;
