//! An answer on its way to who asked: head, parts and end, in as many writes as it needs.

use std::io;

use super::request::HttpRequest;
use crate::limits::HTTP_PART_BYTES;
use crate::reactor::TcpStream;

/// On every answer: one request a connection, nothing kept, nothing shared with
/// other sites.
const COMMON: &str = "PG-Witness: yes\r\n\
    Connection: close\r\n\
    Cache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Referrer-Policy: no-referrer\r\n";

/// An answer on its way.
pub(super) struct Writer<'a> {
    stream: &'a TcpStream,
    out: Vec<u8>,
    chunks: bool,
    /// A `HEAD` request's answer ends with its head.
    body: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn begin(
        stream: &'a TcpStream,
        request: &HttpRequest,
        status: &str,
        content_type: &str,
        more: &str,
    ) -> Self {
        let framing = if request.chunks {
            "Transfer-Encoding: chunked\r\n"
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{framing}{more}{COMMON}\r\n"
        );
        Self {
            stream,
            out: head.into_bytes(),
            chunks: request.chunks,
            body: request.method != "HEAD",
        }
    }

    pub(super) async fn part(&mut self, bytes: &[u8]) -> io::Result<()> {
        for bytes in bytes.chunks(HTTP_PART_BYTES) {
            if !self.body {
                break;
            }
            if self.chunks {
                self.out
                    .extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            }
            self.out.extend_from_slice(bytes);
            if self.chunks {
                self.out.extend_from_slice(b"\r\n");
            }
            if self.out.len() >= HTTP_PART_BYTES {
                self.flush().await?;
                smol::future::yield_now().await;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await
    }

    pub(super) async fn end(mut self) -> io::Result<()> {
        if self.chunks && self.body {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush().await
    }
}
