//! `diagnose`: one file with all that a support case needs and nothing that is
//! secret: what the running witness shows, and the configuration with its
//! secrets hidden.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::look::{self, Look};
use super::{Failure, check_config, print};
use crate::config::{self, Config, Env};
use crate::logging;

/// What is asked of the running witness.
const PARTS: [&str; 6] = [
    "/status.txt",
    "/status.json",
    "/topology.json",
    "/events.json",
    "/metrics",
    "/readyz",
];

/// Writes the bundle, to `file` or to one in this folder named by the time.
pub fn main(look: &Look, file: Option<&Path>, env: &Env) -> Result<(), Failure> {
    let now = logging::now();
    let name = match file {
        Some(file) => file.to_path_buf(),
        None => PathBuf::from(format!(
            "pg-witness-diagnose-{}.txt",
            now.replace([':', '.'], "-")
        )),
    };
    let text = bundle(look, &now, env);
    let write = || {
        // Nobody else's to read, and never over what is there.
        let mut options = OpenOptions::new();
        let mut out = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&name)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()
    };
    write()
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", name.display())))?;
    print(&format!("{}\n", name.display()));
    Ok(())
}

fn bundle(look: &Look, now: &str, env: &Env) -> String {
    let mut text = String::new();
    let mut part = |title: &str, body: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "==== {title}\n{}\n", body.trim_end());
    };
    part(
        "pg-witness diagnose",
        &format!("{}, {now}", env!("CARGO_PKG_VERSION")),
    );
    part("system", &system());
    match config::load(&look.config, env) {
        Ok(config) => {
            part("configuration", &check_config::report(&config));
            part("state", &state(&config));
        }
        Err(error) => part("configuration", &error.to_string()),
    }
    match look::place(look, env) {
        Ok(place) => {
            for path in PARTS {
                match look::ask(&place, "GET", path) {
                    Ok(answer) => part(path, &String::from_utf8_lossy(&answer.body)),
                    Err(failure) => part(path, &failure.to_string()),
                }
            }
        }
        Err(failure) => part("the running witness", &failure.to_string()),
    }
    text
}

fn system() -> String {
    let uname = rustix::system::uname();
    let line = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    format!(
        "{} {} {}\nload {}\nup {} s\n{}",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy(),
        line("/proc/loadavg"),
        line("/proc/uptime"),
        line("/proc/meminfo"),
    )
}

/// Names and sizes of the files of every cluster's state.
fn state(config: &Config) -> String {
    let mut text = String::new();
    for cluster in &config.clusters {
        let _ = writeln!(text, "{}", cluster.data_dir.display());
        let Ok(entries) = std::fs::read_dir(&cluster.data_dir) else {
            let _ = writeln!(text, "    cannot be read");
            continue;
        };
        for entry in entries.take(100).flatten() {
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            let name = entry.file_name();
            let _ = writeln!(
                text,
                "    {size:>12}  {}",
                config::shown(&name.to_string_lossy())
            );
        }
    }
    text
}
