//! The page: one document without a request to anywhere else.

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

/// The document.
pub const PAGE: &str = include_str!("page.html");

/// What it is.
pub const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// The headers that bound what a browser does with it: its own style and script,
/// known by their hashes, its own machine to ask, and nothing else.
pub fn security() -> String {
    format!(
        "Content-Security-Policy: default-src 'none'; style-src '{}'; script-src '{}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         X-Frame-Options: DENY\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\n",
        hash(inner("style")),
        hash(inner("script")),
    )
}

/// What stands between the tags of that name.
fn inner(tag: &str) -> &'static str {
    let behind = PAGE.split_once(&format!("<{tag}>"));
    let within = behind.and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
    within.map_or("", |(within, _)| within)
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digest = base64::engine::general_purpose::STANDARD.encode(digest);
    format!("sha256-{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        assert!(PAGE.len() < 30_000, "{} bytes", PAGE.len());
        assert!(!inner("style").is_empty() && !inner("script").is_empty());
        for foreign in [
            "https://",
            "//cdn",
            "@import",
            "url(",
            " style=",
            " onclick=",
            "innerHTML",
        ] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        let outside = PAGE.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http://"));
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert_eq!(PAGE.matches("<style").count(), 1);
    }
}
