use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, Identity};

use super::*;
use crate::ingest::{Error, Tls};

struct Files {
    _dir: tempfile::TempDir,
    tls: Tls,
    authority: String,
    /// Certificate and key of a client, as reqwest wants them.
    client: String,
}

fn files() -> Files {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &authority).unwrap();
        (cert.pem(), key.serialize_pem())
    };
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = signed("localhost");
    let tls = Tls {
        cert: write("cert.pem", &cert),
        key: write("key.pem", &key),
        client_ca: Some(write("ca.pem", &authority.pem())),
    };
    let (cert, key) = signed("client");
    Files {
        tls,
        authority: authority.pem(),
        client: cert + &key,
        _dir: dir,
    }
}

async fn post(server: &Running, files: &Files, identity: bool) -> reqwest::Result<u16> {
    let authority = Certificate::from_pem(files.authority.as_bytes()).unwrap();
    let mut client = reqwest::Client::builder().tls_certs_only([authority]);
    if identity {
        client = client.identity(Identity::from_pem(files.client.as_bytes()).unwrap());
    }
    let url = format!("https://localhost:{}/v1/metrics", server.http.port());
    let request = client
        .build()?
        .post(url)
        .header(AS_JSON.0, AS_JSON.1)
        .body(JSON);
    Ok(within(request.send()).await?.status().as_u16())
}

#[tokio::test]
async fn tls_with_and_without_client_certificates() {
    let files = files();
    let open = Tls {
        client_ca: None,
        ..files.tls.clone()
    };
    let server = start(Settings {
        tls: Some(open),
        ..settings()
    })
    .await;
    assert_eq!(post(&server, &files, false).await.unwrap(), 200);
    // Without TLS there is no answer.
    assert!(
        !raw(server.http, b"POST / HTTP/1.1\r\n\r\n")
            .await
            .starts_with(b"HTTP")
    );
    server.end().await;

    let server = start(Settings {
        tls: Some(files.tls.clone()),
        ..settings()
    })
    .await;
    assert!(post(&server, &files, false).await.is_err());
    assert_eq!(post(&server, &files, true).await.unwrap(), 200);
    assert_eq!(server.sink.applied(), 1);
    server.end().await;
}

#[tokio::test]
async fn unusable_files_are_told_by_name() {
    let files = files();
    let bind = |tls| {
        Server::bind(Settings {
            tls: Some(tls),
            ..settings()
        })
    };
    let missing = Tls {
        cert: "/nowhere/cert.pem".into(),
        ..files.tls.clone()
    };
    assert!(matches!(bind(missing).await, Err(Error::File { .. })));
    let swapped = Tls {
        cert: files.tls.key.clone(),
        key: files.tls.cert.clone(),
        client_ca: None,
    };
    let error = bind(swapped).await.unwrap_err().to_string();
    assert!(
        error.contains("key.pem: there is no certificate"),
        "{error}"
    );
}
