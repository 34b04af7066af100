use std::time::Duration;

use super::*;
use crate::ingest::Error;

#[tokio::test]
async fn a_request_in_work_is_finished_and_new_ones_are_refused_row_33() {
    let server = start(settings()).await;
    server.sink.close_gate();
    // One connection of HTTP/2, open before the end begins.
    let stream = TcpStream::connect(server.http).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let head = || {
        ::http::Request::post(format!("http://{}/v1/metrics", server.http))
            .header(PROTOBUF.0, PROTOBUF.1)
            .body(())
            .unwrap()
    };
    let (first, mut body) = client.send_request(head(), false).unwrap();
    body.send_data(protobuf(1).into(), true).unwrap();
    eventually(|| server.sink.waiting.load(Ordering::SeqCst) == 1).await;

    // What the application does first: refuse, say so on /readyz, and only then stop.
    server.admission.refuse(crate::ingest::Cause::Stopping);
    let (second, mut body) = client.send_request(head(), false).unwrap();
    body.send_data(protobuf(1).into(), true).unwrap();
    assert_eq!(within(second).await.unwrap().status(), 503);

    server.stop.cancel();
    within(async {
        // The port closes although a request is in work.
        while TcpStream::connect(server.grpc).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!server.task.is_finished());
    server.sink.open_gate();
    assert_eq!(within(first).await.unwrap().status(), 200);
    assert_eq!(server.sink.applied(), 1);
    drop(client);
    server.end().await;
}

#[tokio::test]
async fn connections_that_do_not_end_are_closed() {
    let server = start(Settings {
        drain_timeout: Duration::from_millis(100),
        ..settings()
    })
    .await;
    // A body that never ends, on a connection that is open.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = "POST /v1/metrics HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually(|| server.telemetry.inflight_bytes.get() == 1).await;
    server.stop.cancel();
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.ok();
    server.end().await;
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let server = start(settings()).await;
    let silent = TcpStream::connect(server.http).await.unwrap();
    server.still_good().await;
    eventually(|| server.telemetry.connections.get() >= 1).await;
    let begun = crate::clock::instant();
    server.end().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(silent);
}

#[tokio::test]
async fn ports_can_be_left_out_and_a_taken_one_is_told() {
    let none = Settings {
        grpc: None,
        http: None,
        ..settings()
    };
    let server = Server::bind(none).await.unwrap();
    assert_eq!((server.grpc_addr(), server.http_addr()), (None, None));

    let first = Server::bind(settings()).await.unwrap();
    let again = Settings {
        http: first.http_addr(),
        ..settings()
    };
    let error = Server::bind(again).await.unwrap_err();
    assert!(matches!(error, Error::Bind { .. }));
    assert!(
        error.to_string().starts_with("cannot listen on 127.0.0.1:"),
        "{error}"
    );
}
