//! Asks the running witness. For our own commands, which are programs of their
//! own and may block.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::request::INTENDED_HEADER;
use crate::limits::HTTP_ANSWER_TIME_MAX;
use crate::secret::Secret;

/// Largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Longest that connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Where the witness is asked.
#[derive(Debug, Clone)]
pub struct PagePlace {
    /// `host:port`, as it is dialled and named in `Host`.
    pub authority: String,
    /// What to show.
    pub token: Option<Secret>,
    /// The `self_addr`s of the witness that is meant; none: whoever answers.
    pub intended_for: Vec<String>,
}

/// What it said.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub code: u16,
    /// The header [`super::answer::VERDICT_HEADER`].
    pub verdict: Option<String>,
    /// The header [`super::answer::HEALTHY_HEADER`] says so.
    pub healthy: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks for a path.
///
/// # Errors
/// Nobody answers there, or not in HTTP.
pub fn ask(place: &PagePlace, method: &str, path: &str) -> io::Result<Response> {
    let mut stream = connect(&place.authority)?;
    let patience = HTTP_ANSWER_TIME_MAX + Duration::from_secs(5);
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n",
        place.authority
    )
    .into_bytes();
    if let Some(token) = &place.token {
        head.extend_from_slice(b"Authorization: Bearer ");
        head.extend_from_slice(token.expose());
        head.extend_from_slice(b"\r\n");
    }
    if !place.intended_for.is_empty() {
        let addresses = place.intended_for.join(",");
        head.extend_from_slice(format!("{INTENDED_HEADER}: {addresses}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    stream.write_all(&head)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    understood(&bytes).ok_or_else(|| {
        io::Error::other("what answers there is no pg-witness, or one of an earlier version")
    })
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn understood(bytes: &[u8]) -> Option<Response> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).ok()? else {
        return None;
    };
    let header = |name: &str| {
        let found = head
            .headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case(name));
        found.and_then(|h| std::str::from_utf8(h.value).ok())
    };
    header(super::answer::WITNESS_HEADER)?;
    let body = bytes.get(length..)?;
    let chunked = header("transfer-encoding").is_some_and(|how| how.contains("chunked"));
    Some(Response {
        code: head.code?,
        verdict: header(super::answer::VERDICT_HEADER).map(str::to_owned),
        healthy: header(super::answer::HEALTHY_HEADER) == Some("all"),
        body: if chunked {
            joined(body)?
        } else {
            body.to_vec()
        },
    })
}

/// Chunks put together; none if the last one is missing.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(end.checked_add(2)?..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let head = "HTTP/1.1 200 OK\r\nPG-Witness: yes\r\nPG-Witness-Failover: yes\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = |body: &str| understood(format!("{head}{body}").as_bytes());
        let whole = answer("5\r\nhello\r\n1;x\r\n!\r\n0\r\n\r\n").unwrap();
        assert_eq!((whole.code, &*whole.body), (200, &b"hello!"[..]));
        assert_eq!(whole.verdict.as_deref(), Some("yes"));
        for part in [
            "",
            "5\r\nhel",
            "5\r\nhello\r\n",
            "x\r\n",
            "ffffffffffffffff\r\n",
        ] {
            assert!(answer(part).is_none(), "{part}");
        }
        assert!(understood(b"SSH-2.0-OpenSSH\r\n").is_none());
        // Patroni's REST API answers 200 to any path on a primary.
        assert!(understood(b"HTTP/1.0 200 OK\r\n\r\n{}").is_none());
    }
}
