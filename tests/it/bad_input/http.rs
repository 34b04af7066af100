//! HTTP/1.1 by hand, byte by byte.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::PATIENCE;

/// A connection on which anything may be sent.
pub struct Raw(pub TcpStream);

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    }
}

impl Raw {
    pub async fn connect(address: &str) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Sends; false when the daemon has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The head of a `POST /v1/metrics` in protobuf, with more headers.
    pub async fn head(&mut self, headers: &[(&str, &str)]) {
        let mut head = "POST /v1/metrics HTTP/1.1\r\nHost: tidewatch\r\n".to_owned();
        if !headers.iter().any(|(name, _)| *name == "Content-Type") {
            head.push_str("Content-Type: application/x-protobuf\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        assert!(self.send(head).await, "the head is taken");
    }

    /// The next answer; `None` if the connection is closed without one.
    pub async fn answer(&mut self) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer())
            .await
            .expect("an answer, or the end")
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let mut answer = Answer {
            status: head
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .expect("a status"),
            head,
            body: Vec::new(),
        };
        let length: usize = answer
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        answer.body = vec![0; length];
        self.0.read_exact(&mut answer.body).await.ok()?;
        Some(answer)
    }

    /// Waits until the daemon has closed the connection.
    pub async fn closed(&mut self) {
        let reading = async {
            let mut buffer = [0; 4096];
            while self.0.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("the connection is closed");
    }
}
