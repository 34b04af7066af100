use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Error;
use crate::clock;
use crate::ingest::Tls;

/// Least time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Makes TLS connections with the newest certificate. Cheap to clone.
#[derive(Clone)]
pub(super) struct Acceptor {
    shared: Arc<Shared>,
}

struct Shared {
    files: Tls,
    // Held while files are read, which is seldom: handshakes that come just then wait.
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    versions: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Acceptor").field(&self.shared.files).finish()
    }
}

impl Acceptor {
    /// Reads `files` for the first time.
    pub(super) async fn load(files: Tls) -> Result<Self, Error> {
        let versions = versions(&files).await;
        let current = Mutex::new(Current {
            config: Arc::new(config(&files).await?),
            versions,
            looked: clock::instant(),
        });
        Ok(Self {
            shared: Arc::new(Shared { files, current }),
        })
    }

    /// Shakes hands.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config().await).accept(stream).await
    }

    /// The configuration, read again if the files have changed. Files that are of no use change
    /// nothing: the old certificate is better than none.
    async fn config(&self) -> Arc<ServerConfig> {
        let files = &self.shared.files;
        let mut current = self.shared.current.lock().await;
        let now = clock::instant();
        if now.duration_since(current.looked) >= LOOK_INTERVAL {
            current.looked = now;
            let versions = versions(files).await;
            if versions != current.versions {
                match config(files).await {
                    Ok(config) => {
                        current.config = Arc::new(config);
                        current.versions = versions;
                        tracing::info!("read new TLS certificates for OTLP");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "new TLS certificates for OTLP are not used");
                    }
                }
            }
        }
        Arc::clone(&current.config)
    }
}

fn paths(files: &Tls) -> impl Iterator<Item = &PathBuf> {
    [&files.cert, &files.key]
        .into_iter()
        .chain(&files.client_ca)
}

/// When each file was written last.
async fn versions(files: &Tls) -> Vec<Option<SystemTime>> {
    let mut versions = Vec::new();
    for path in paths(files) {
        let metadata = tokio::fs::metadata(path).await;
        versions.push(metadata.ok().and_then(|metadata| metadata.modified().ok()));
    }
    versions
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

async fn config(files: &Tls) -> Result<ServerConfig, Error> {
    let unusable = |path: &Path, what: &dyn std::fmt::Display| {
        Error::Tls(format!("{}: {what}", path.display()))
    };
    let certificates = |path: &Path, pem: &[u8]| {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => Err(unusable(path, &"there is no certificate in it")),
            Err(error) => Err(unusable(path, &error)),
        }
    };
    let chain = certificates(&files.cert, &read(&files.cert).await?)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key).await?)
        .map_err(|error| unusable(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path, &read(path).await?)? {
                roots
                    .add(authority)
                    .map_err(|error| unusable(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| unusable(path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&files.cert, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
