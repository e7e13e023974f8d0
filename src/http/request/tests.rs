use super::*;
use crate::secret::Secret;

fn request(text: &str) -> HttpRequest {
    let head = text.replace('\n', "\r\n") + "\r\n\r\n";
    HttpRequest::parse(head.as_bytes()).unwrap().unwrap()
}

fn policy(host: &str, token: Option<&str>, read_only: bool) -> Policy {
    let mut config = HttpConfig {
        token: token.and_then(Secret::new),
        read_only,
        ..HttpConfig::default()
    };
    config.listen.host = host.into();
    Policy::new(&config)
}

#[test]
fn a_head_is_read_and_what_is_odd_is_refused() {
    let head = request(
        "GET /status.json?cluster=a%20b+c&x HTTP/1.1\nHost: localhost:8272\nAuthorization: bearer  t0k ",
    );
    assert_eq!(head.path, "/status.json");
    assert_eq!(head.parameter("cluster").as_deref(), Some("a b c"));
    assert_eq!(head.parameter("x").as_deref(), Some(""));
    assert_eq!(head.parameter("y"), None);
    assert_eq!(head.token.as_deref(), Some(&b"t0k"[..]));
    assert_eq!(decoded(&encoded("ä b/c?&=%")), "ä b/c?&=%");
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
    ] {
        assert_eq!(HttpRequest::parse(bytes), Err(RequestRefusal::Malformed));
    }
    let many = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        "A: b\r\n".repeat(HTTP_HEADERS_MAX + 1)
    );
    assert_eq!(
        HttpRequest::parse(many.as_bytes()),
        Err(RequestRefusal::Malformed)
    );
    assert_eq!(HttpRequest::parse(b"GET / HTTP/1.1\r\nHost"), Ok(None));
}

#[test]
fn says_who_may_do_what() {
    use RequestRefusal::*;
    const GET: &str = "GET /status.json HTTP/1.1\nHost: 127.0.0.1:8272";
    const POST: &str = "POST /health-check HTTP/1.1\nHost: localhost";
    let local = || policy("127.0.0.1", None, false);
    let token = || policy("10.0.0.9", Some("right"), false);
    let open = || policy("10.0.0.9", None, true);
    let named = || {
        let mut policy = open();
        policy.hosts.push("witness.internal".into());
        policy
    };
    let both = || policy("0.0.0.0", Some("right"), true);
    let table: Vec<(Policy, String, Result<(), RequestRefusal>)> = vec![
        (local(), GET.into(), Ok(())),
        (local(), POST.into(), Ok(())),
        (local(), "GET / HTTP/1.1\nHost: [::1]:8272".into(), Ok(())),
        (local(), "GET / HTTP/1.1\nHost: 127.3.2.1".into(), Ok(())),
        (local(), "GET / HTTP/1.0".into(), Ok(())),
        // DNS rebinding.
        (
            local(),
            "GET / HTTP/1.1\nHost: evil.example:8272".into(),
            Err(Misdirected),
        ),
        (
            local(),
            "GET /livez HTTP/1.1\nHost: localhost.evil.example".into(),
            Err(Misdirected),
        ),
        (
            local(),
            "GET /livez HTTP/1.1\nHost: ".into(),
            Err(Misdirected),
        ),
        (
            local(),
            "GET / HTTP/1.1\nHost: [::1].evil.example".into(),
            Err(Misdirected),
        ),
        (
            local(),
            "GET / HTTP/1.1\nHost: 127.0.0.1:80.evil.example".into(),
            Err(Misdirected),
        ),
        (
            open(),
            "GET / HTTP/1.1\nHost: [fd00::9].evil.example".into(),
            Err(Misdirected),
        ),
        (
            open(),
            "GET /status.json HTTP/1.1\nHost: evil.example:8272".into(),
            Err(Misdirected),
        ),
        // Methods.
        (
            local(),
            "GET /health-check HTTP/1.1\nHost: localhost".into(),
            Err(Method),
        ),
        (
            local(),
            "POST /status.json HTTP/1.1\nHost: localhost".into(),
            Err(Method),
        ),
        (
            local(),
            "DELETE / HTTP/1.1\nHost: localhost".into(),
            Err(Method),
        ),
        (
            local(),
            "OPTIONS /health-check HTTP/1.1\nHost: localhost".into(),
            Err(Method),
        ),
        // CSRF.
        (local(), format!("{POST}\nOrigin: http://localhost"), Ok(())),
        (
            local(),
            format!("{POST}\nSec-Fetch-Site: same-origin"),
            Ok(()),
        ),
        (
            local(),
            format!("{POST}\nOrigin: https://evil.example"),
            Err(Forbidden),
        ),
        (local(), format!("{POST}\nOrigin: null"), Err(Forbidden)),
        (
            local(),
            format!("{POST}\nSec-Fetch-Site: cross-site"),
            Err(Forbidden),
        ),
        (
            local(),
            format!("{POST}\nSec-Fetch-Site: same-site"),
            Err(Forbidden),
        ),
        // A token.
        (token(), GET.into(), Err(Unauthorized)),
        (
            token(),
            format!("{GET}\nAuthorization: Bearer right"),
            Ok(()),
        ),
        (
            token(),
            format!("{GET}\nAuthorization: Bearer wrong"),
            Err(Unauthorized),
        ),
        (
            token(),
            format!("{GET}\nAuthorization: Bearer righ"),
            Err(Unauthorized),
        ),
        (
            token(),
            format!("{GET}\nAuthorization: Bearer"),
            Err(Unauthorized),
        ),
        (
            token(),
            format!("{GET}\nAuthorization: Basic right"),
            Err(Unauthorized),
        ),
        (
            token(),
            format!("{POST}\nAuthorization: Bearer right"),
            Ok(()),
        ),
        (token(), "GET / HTTP/1.1\nHost: w".into(), Ok(())),
        (token(), "GET /readyz HTTP/1.1\nHost: w".into(), Ok(())),
        (
            token(),
            "GET /metrics HTTP/1.1\nHost: w".into(),
            Err(Unauthorized),
        ),
        // Open for reading.
        (open(), GET.into(), Ok(())),
        (
            open(),
            "GET /metrics HTTP/1.1\nHost: witness.internal:8272".into(),
            Err(Misdirected),
        ),
        (
            named(),
            "GET /metrics HTTP/1.1\nHost: Witness.internal:8272".into(),
            Ok(()),
        ),
        (
            token(),
            "GET /metrics HTTP/1.1\nHost: a.b\nAuthorization: Bearer right".into(),
            Ok(()),
        ),
        (
            token(),
            "GET / HTTP/1.1\nHost: a.b".into(),
            Err(Misdirected),
        ),
        (open(), "GET / HTTP/1.1\nHost: 10.0.0.9:8272".into(), Ok(())),
        (
            open(),
            "GET / HTTP/1.1\nHost: [fd00::9]:8272".into(),
            Ok(()),
        ),
        (open(), "GET / HTTP/1.1\nHost: witness:8272".into(), Ok(())),
        (open(), POST.into(), Err(Forbidden)),
        (both(), GET.into(), Ok(())),
        (both(), POST.into(), Err(Unauthorized)),
        (
            both(),
            format!("{POST}\nAuthorization: Bearer right"),
            Ok(()),
        ),
    ];
    for (policy, head, expected) in table {
        assert_eq!(policy.admit(&request(&head)), expected, "{head}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_stop_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = HttpRequest::parse(&bytes);
        let head = [b"GET /?%\xc3=%f HTTP/1.1\r\nHost: ", &*bytes, b"\r\n\r\n"].concat();
        if let Ok(Some(request)) = HttpRequest::parse(&head) {
            let _ = (policy("::1", Some("t"), false).admit(&request), request.parameter("%"));
        }
    }
}
