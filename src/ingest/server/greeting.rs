//! The first bytes of a connection: they tell HTTP/1 from HTTP/2, and are read before a protocol is
//! chosen so that a client which never says anything meets a deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How every HTTP/2 client begins (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads as far as it takes to know the protocol; what was read is read again by the protocol itself.
pub(super) async fn greeting<I>(mut io: I) -> io::Result<(Protocol, Greeted<I>)>
where
    I: AsyncRead + Unpin,
{
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    let protocol = loop {
        let (read, room) = first.split_at_mut(length);
        if !PREFACE.starts_with(read) {
            break Protocol::Http1;
        }
        if room.is_empty() {
            break Protocol::Http2;
        }
        match io.read(room).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
    };
    let greeted = Greeted {
        io,
        first,
        left: (0, length),
    };
    Ok((protocol, greeted))
}

/// A connection whose first bytes are read a second time.
#[derive(Debug)]
pub(super) struct Greeted<I> {
    io: I,
    first: [u8; PREFACE.len()],
    /// From where to where `first` is still to be read.
    left: (usize, usize),
}

impl<I: AsyncRead + Unpin> AsyncRead for Greeted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (from, end) = self.left;
        if from == end {
            return Pin::new(&mut self.io).poll_read(cx, to);
        }
        let until = end.min(from + to.remaining());
        to.put_slice(self.first.get(from..until).unwrap_or_default());
        self.left.0 = until;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Greeted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_are_kept() {
        for (sent, expected) in [
            (&b"POST /v1/traces HTTP/1.1\r\n"[..], Protocol::Http1),
            (
                b"PUT / HTTP/1.1\r\n\r\n and more than the preface",
                Protocol::Http1,
            ),
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04",
                Protocol::Http2,
            ),
            (b"\x16\x03\x01 a TLS hello", Protocol::Http1),
        ] {
            // One byte at a time, as the worst client would.
            let slow = byte_by_byte(sent);
            let (protocol, mut greeted) = greeting(slow).await.unwrap();
            assert_eq!(protocol, expected);
            let mut all = Vec::new();
            greeted.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, sent);
        }
    }

    #[tokio::test]
    async fn a_client_that_says_too_little_is_an_error() {
        for sent in [&b""[..], b"PRI", b"P"] {
            let error = greeting(sent).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    /// Gives one byte per read.
    fn byte_by_byte(bytes: &'static [u8]) -> impl AsyncRead + Unpin {
        struct Slow(&'static [u8]);
        impl AsyncRead for Slow {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                to: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                if let Some((first, rest)) = self.0.split_first() {
                    to.put_slice(&[*first]);
                    self.0 = rest;
                }
                Poll::Ready(Ok(()))
            }
        }
        Slow(bytes)
    }
}
