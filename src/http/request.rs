//! One request: its head, understood, and whether it is allowed.

use std::net::IpAddr;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::config::HttpConfig;
use crate::limits::HTTP_HEADERS_MAX;
use crate::reactor;

/// A request's head, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `HEAD`, `POST` or another.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
    /// Whether the client can read an answer in chunks: HTTP/1.1.
    pub chunks: bool,
    /// `Host`
    pub host: Option<String>,
    /// `Origin`
    pub origin: Option<String>,
    /// `Sec-Fetch-Site`
    pub fetch_site: Option<String>,
    /// What stands behind `Authorization: Bearer`.
    pub token: Option<Vec<u8>>,
    /// `Accept`
    pub accept: Option<String>,
    /// The header [`INTENDED_HEADER`].
    pub intended_for: Option<String>,
}

/// In a request of our own commands: the `self_addr`s of the witness that is asked,
/// with commas, so that another one on the same host does not answer for it.
pub const INTENDED_HEADER: &str = "PG-Witness-For";

/// Most addresses that are named there: one of them is enough.
pub const INTENDED_MAX: usize = 8;

/// Why a request gets no answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestRefusal {
    /// It is no HTTP, or two things at once.
    Malformed,
    /// The page of another site asked this machine (DNS rebinding).
    Misdirected,
    /// The path knows only another method.
    Method,
    /// The token is missing or wrong.
    Unauthorized,
    /// Another site's page asked, or nobody may.
    Forbidden,
    /// Too many others are being answered.
    Busy,
}

impl RequestRefusal {
    /// Code and reason.
    pub fn status(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::Misdirected => "421 Misdirected Request",
            Self::Method => "405 Method Not Allowed",
            Self::Unauthorized => "401 Unauthorized",
            Self::Forbidden => "403 Forbidden",
            Self::Busy => "503 Service Unavailable",
        }
    }

    /// One line of explanation.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed => "This is no HTTP request that is understood here.",
            Self::Misdirected => {
                "This witness is not known by that name: ask for its IP address (on its own machine: \
                 localhost), or list the name in http.hosts."
            }
            Self::Method => "Read with GET; /health-check wants POST.",
            Self::Unauthorized => "Show the token: Authorization: Bearer TOKEN.",
            Self::Forbidden => "This may only be read here.",
            Self::Busy => "Too many requests at once: ask again.",
        }
    }
}

/// The only path that does something.
pub const HEALTH_CHECK: &str = "/health-check";

impl HttpRequest {
    /// Reads a head. None: it is not whole yet.
    ///
    /// # Errors
    /// It is no head, or one that two readers could understand differently.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, RequestRefusal> {
        let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(RequestRefusal::Malformed),
        }
        let target = head.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            method: head.method.unwrap_or_default().into(),
            path: path.into(),
            query: query.into(),
            chunks: head.version == Some(1),
            ..Self::default()
        };
        for header in head.headers.iter() {
            let text = || std::str::from_utf8(header.value).map_err(|_| RequestRefusal::Malformed);
            let slot = match header.name.to_ascii_lowercase().as_str() {
                "host" => &mut request.host,
                "origin" => &mut request.origin,
                "sec-fetch-site" => &mut request.fetch_site,
                "pg-witness-for" => &mut request.intended_for,
                "accept" => {
                    request.accept = Some(text()?.into());
                    continue;
                }
                "authorization" => {
                    let bearer = header.value.split_at_checked(7);
                    request.token = bearer
                        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
                        .map(|(_, token)| token.trim_ascii().to_vec());
                    continue;
                }
                _ => continue,
            };
            if slot.replace(text()?.into()).is_some() {
                return Err(RequestRefusal::Malformed);
            }
        }
        Ok(Some(request))
    }

    /// The value of a parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| decoded(value))
        })
    }
}

/// Percent-decoding; what makes no sense stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encoding of what may stand in a parameter.
pub fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Who may do what.
pub struct Policy {
    loopback: bool,
    read_only: bool,
    hosts: Vec<String>,
    /// A key of this process and, under it, the tag of the token: tags are
    /// compared in constant time, and tell nothing of the token.
    token: Option<(Hmac<Sha256>, Vec<u8>)>,
}

impl Policy {
    /// As configured.
    pub fn new(config: &HttpConfig) -> Self {
        let random: [u8; 32] = reactor::draw();
        let keyed = Hmac::<Sha256>::new_from_slice(&random).ok();
        let token = config.token.as_ref().zip(keyed).map(|(token, keyed)| {
            let mut tag = keyed.clone();
            tag.update(token.expose());
            (keyed, tag.finalize().into_bytes().to_vec())
        });
        Self {
            loopback: config.is_loopback(),
            read_only: config.read_only,
            hosts: config.hosts.clone(),
            token,
        }
    }

    /// Whether the request may be answered.
    ///
    /// # Errors
    /// It may not; why.
    pub fn admit(&self, request: &HttpRequest) -> Result<(), RequestRefusal> {
        let expected = |host: &str| self.is_named(host) || self.knows(request);
        if !request.host.as_deref().is_none_or(expected) {
            return Err(RequestRefusal::Misdirected);
        }
        let acts = match (request.method.as_str(), request.path.as_str()) {
            ("POST", HEALTH_CHECK) => true,
            ("GET" | "HEAD", path) if path != HEALTH_CHECK => false,
            _ => return Err(RequestRefusal::Method),
        };
        if acts && self.is_foreign(request) {
            return Err(RequestRefusal::Forbidden);
        }
        // The page holds nothing, and a supervisor has no token.
        let open = matches!(request.path.as_str(), "/" | "/livez" | "/readyz");
        if open || (!acts && self.read_only) {
            return Ok(());
        }
        match &self.token {
            Some(_) if self.knows(request) => Ok(()),
            Some(_) => Err(RequestRefusal::Unauthorized),
            None if self.loopback => Ok(()),
            None => Err(RequestRefusal::Forbidden),
        }
    }

    /// Whether the request shows the token, or none is needed to read.
    pub fn may_read(&self, request: &HttpRequest) -> bool {
        self.read_only || self.token.is_none() || self.knows(request)
    }

    /// Whether a `Host` names this machine, so that no name of somebody else's leads
    /// a browser here (DNS rebinding). An address is nobody's name, and a name
    /// without a dot is one of the local network.
    fn is_named(&self, host: &str) -> bool {
        let Some(name) = name_of(host) else {
            return false;
        };
        let ip = name.parse::<IpAddr>().ok();
        let name = name.to_ascii_lowercase();
        let here = name == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        let near = ip.is_some() || (!name.is_empty() && !name.contains(['.', ':']));
        here || self.hosts.contains(&name) || (!self.loopback && near)
    }

    fn knows(&self, request: &HttpRequest) -> bool {
        let (Some((keyed, tag)), Some(token)) = (&self.token, &request.token) else {
            return false;
        };
        let mut shown = keyed.clone();
        shown.update(token);
        shown.verify_slice(tag).is_ok()
    }

    /// Whether a page of another site sent it (CSRF). What is no browser sends
    /// neither header.
    fn is_foreign(&self, request: &HttpRequest) -> bool {
        let site = request.fetch_site.as_deref();
        let other_site = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
        let origin = request.origin.as_deref();
        let other_origin = origin.is_some_and(|origin| {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_none() || host != request.host.as_deref()
        });
        other_site || other_origin
    }
}

/// The name in a `Host`, without its port; none if it is not well formed.
fn name_of(host: &str) -> Option<&str> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port,
        None if rest.is_empty() => "",
        None => return None,
    };
    port.bytes().all(|b| b.is_ascii_digit()).then_some(name)
}

#[cfg(test)]
mod tests;
