//! The names of our own variables: one that is none of them is a slip, of which
//! nothing else would tell.

use super::env::Env;
use super::suggest::nearest;

/// The variable that may hold Patroni's whole YAML.
pub const PATRONI_CONFIGURATION: &str = "PATRONI_CONFIGURATION";

/// Set by a service manager that waits for news of its service (`sd_notify(3)`).
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Set by PID 1 for itself and for the witness that it starts: defaults are those
/// of the card then, whether the file has the section or not.
pub const ON_A_BOARD: &str = "PG_WITNESS_APPLIANCE";

/// What each of our own begins with.
pub const PREFIX: &str = "PG_WITNESS_";

/// All that this program reads, but for the keys of `probe`, which are refused where
/// they are read.
pub const KNOWN: [&str; 25] = [
    "PG_WITNESS_ADDRESS",
    "PG_WITNESS_ADDRESS6",
    "PG_WITNESS_ALLOW_FROM",
    "PG_WITNESS_APPLIANCE",
    "PG_WITNESS_BOOTSTRAP",
    "PG_WITNESS_BUG",
    "PG_WITNESS_DEMO",
    "PG_WITNESS_DNS",
    "PG_WITNESS_GATEWAY",
    "PG_WITNESS_GATEWAY6",
    "PG_WITNESS_HOSTNAME",
    "PG_WITNESS_HTTP_HOSTS",
    "PG_WITNESS_HTTP_LISTEN",
    "PG_WITNESS_HTTP_READ_ONLY",
    "PG_WITNESS_HTTP_TOKEN_FILE",
    "PG_WITNESS_MEMBER_ZONES",
    "PG_WITNESS_NTP",
    "PG_WITNESS_PROBE_",
    "PG_WITNESS_SEEDS",
    "PG_WITNESS_STOP_ENGINES_AFTER_MS",
    "PG_WITNESS_VOTE",
    "PG_WITNESS_VOTE_WITHDRAWS_AFTER",
    "PG_WITNESS_WATCHDOG",
    "PG_WITNESS_ZONE",
    "PG_WITNESS_ZONE_POLICY",
];

/// Names under which the tests' own tools are told something, and those that
/// Kubernetes and Docker set for a service that is called pg-witness.
const OF_OTHERS: [&str; 8] = [
    "PG_WITNESS_MAINTAINER",
    "PG_WITNESS_POSTGRES",
    "PG_WITNESS_SCREENSHOTS",
    "PG_WITNESS_TEST",
    "PG_WITNESS_VENVS",
    "PG_WITNESS_SERVICE_",
    "PG_WITNESS_PORT",
    "PG_WITNESS_TCP_",
];

/// One line for each variable that means nothing.
pub fn strays(env: &Env) -> Vec<String> {
    let known: Vec<&str> = KNOWN
        .iter()
        .filter_map(|k| k.strip_prefix(PREFIX))
        .collect();
    env.names(PREFIX)
        .filter(|name| !KNOWN.contains(name))
        .filter(|name| !name.starts_with("PG_WITNESS_PROBE_"))
        .filter(|name| !OF_OTHERS.iter().any(|other| name.starts_with(other)))
        .map(|name| {
            let advice = match nearest(name.strip_prefix(PREFIX).unwrap_or(name), &known) {
                Some(meant) => format!("did you mean {PREFIX}{meant}?"),
                None => "remove it".into(),
            };
            format!("environment: {name}: no setting of pg-witness, ignored; {advice}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sources(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with(file!()) {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }

    /// The names in quotes, whole ones only.
    fn quoted(text: &str) -> Vec<&str> {
        let parts = text.split('"').filter(|part| part.starts_with(PREFIX));
        let name = |part: &&str| {
            let letter = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            part.bytes().all(letter)
        };
        parts.filter(name).collect()
    }

    #[test]
    fn every_variable_that_is_read_is_known() {
        let mut text = String::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        sources(&root.join("src"), &mut text);
        let read = quoted(&text);
        assert!(read.len() > 20);
        for name in read {
            let known = KNOWN.contains(&name) || OF_OTHERS.iter().any(|o| name.starts_with(o));
            assert!(known || name.starts_with("PG_WITNESS_PROBE_"), "{name}");
        }
    }
}
