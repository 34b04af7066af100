//! gRPC by hand, one HTTP/2 frame after another, since a real client cannot misbehave; and the real one.

use base64::Engine as _;
use bytes::{BufMut as _, Bytes};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tokio::net::TcpStream;
use tonic::transport::Channel;

pub use tonic::Code;

const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Detail {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<RetryDelay>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// A unary call.
#[derive(Debug, Clone)]
pub struct Call {
    path: &'static str,
    headers: HeaderMap,
    /// Everything that is sent after the headers.
    bytes: Vec<u8>,
}

/// Five bytes and a message.
pub fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 5);
    bytes.put_u8(flag);
    bytes.put_u32(u32::try_from(message.len()).expect("short"));
    bytes.extend(message);
    bytes
}

impl Call {
    pub fn metrics(message: impl AsRef<[u8]>) -> Self {
        Self::raw(framed(0, message.as_ref()))
    }

    pub fn traces(message: impl AsRef<[u8]>) -> Self {
        Self::metrics(message).to(TRACES)
    }

    /// With these bytes after the headers.
    pub fn raw(bytes: Vec<u8>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/grpc".parse().expect("valid"));
        headers.insert("te", "trailers".parse().expect("valid"));
        Self {
            path: METRICS,
            headers,
            bytes,
        }
    }

    pub fn to(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    /// The message is said to be compressed.
    pub fn encoded(mut self, encoding: &'static str) -> Self {
        if let Some(flag) = self.bytes.first_mut() {
            *flag = 1;
        }
        self.header("grpc-encoding", encoding)
    }

    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, value.parse().expect("valid"));
        self
    }

    pub fn request(&self) -> Request<()> {
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("http://tidewatch{}", self.path))
            .body(())
            .expect("a request");
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// How a call ended.
#[derive(Debug)]
pub struct Called {
    pub http: u16,
    pub code: Code,
    pub text: String,
    pub headers: HeaderMap,
    pub message: Vec<u8>,
    details: Option<Status>,
}

impl Called {
    /// After how many seconds the client is asked to try again.
    pub fn retry_delay(&self) -> Option<i64> {
        let details = self.details.as_ref()?;
        let info = details
            .details
            .iter()
            .find(|detail| detail.type_url == "type.googleapis.com/google.rpc.RetryInfo")?;
        Some(RetryInfo::decode(&*info.value).ok()?.delay?.seconds)
    }
}

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Client {
    address: String,
    connection: SendRequest<Bytes>,
}

/// A connection with the library's own flow control, driven in the background.
pub async fn connect(address: &str) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(async move { connection.await.ok() });
    client
}

impl Client {
    pub async fn connect(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            connection: connect(address).await,
        }
    }

    /// Calls, on a new connection if the last one was closed.
    pub async fn call(&mut self, call: Call) -> Called {
        self.connection = match self.connection.clone().ready().await {
            Ok(ready) => ready,
            Err(_) => connect(&self.address).await.ready().await.expect("ready"),
        };
        let (answer, mut sending) = self
            .connection
            .send_request(call.request(), false)
            .expect("a stream");
        // A call that is refused early is reset; the answer tells.
        sending.send_data(call.bytes.into(), true).ok();
        finish(answer).await
    }
}

/// Waits for the end of a call.
pub async fn finish(answer: h2::client::ResponseFuture) -> Called {
    let (head, mut body) = answer.await.expect("an answer").into_parts();
    let mut framed = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("all of the answer");
        body.flow_control()
            .release_capacity(data.len())
            .expect("received");
        framed.extend(data);
    }
    let trailers = body.trailers().await.expect("trailers");
    let mut headers = head.headers;
    headers.extend(trailers.unwrap_or_default());
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let details = headers.get("grpc-status-details-bin").map(|value| {
        let config = base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
        let engine = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, config);
        let bytes = engine.decode(value.as_bytes()).expect("base64");
        Status::decode(&*bytes).expect("a status")
    });
    Called {
        http: head.status.as_u16(),
        code: Code::from_bytes(text("grpc-status").as_bytes()),
        text: text("grpc-message"),
        message: framed.get(5..).unwrap_or_default().to_vec(),
        details,
        headers,
    }
}

/// The client that OpenTelemetry's own SDKs are built on.
pub async fn metrics_client(address: &str) -> MetricsServiceClient<Channel> {
    MetricsServiceClient::connect(format!("http://{address}"))
        .await
        .expect("a connection")
}

/// The same for traces.
pub async fn traces_client(address: &str) -> TraceServiceClient<Channel> {
    TraceServiceClient::connect(format!("http://{address}"))
        .await
        .expect("a connection")
}
