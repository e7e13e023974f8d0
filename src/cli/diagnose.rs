//! `diagnose`: one file with all that a support case needs and nothing that is
//! secret. All of it is asked of the running witness, wherever that is: its machine,
//! its configuration and its state are not those of who asks. Of this machine it
//! tells only when no witness answers that should run here.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::look::{self, LookArguments};
use super::{Failure, check_config, print};
use crate::config::{self, Config, Env, Source};
use crate::http::client::PagePlace;
use crate::{logging, machine};

/// What only the witness's own machine can tell: [`about`].
const ABOUT: &str = "/diagnose.txt";

/// What else is asked of the running witness.
const PARTS: [&str; 6] = [
    "/status.txt",
    "/status.json",
    "/topology.json",
    "/events.json",
    "/metrics",
    "/readyz",
];

/// Most files that are listed of one cluster's folder.
const FILES_MAX: usize = 100;

/// Writes the bundle, to `file` or to one in this folder named by the time.
pub fn main(look: &LookArguments, file: Option<&Path>, env: &Env) -> Result<(), Failure> {
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

/// The machine, the configuration in effect without its secrets, and the files of the
/// state, as parts of a bundle. Reads files: it may block.
pub fn about(config: &Config) -> String {
    [
        part("system", &machine::system()),
        part("configuration", &check_config::report(config)),
        part("state", &state(config)),
    ]
    .concat()
}

fn bundle(look: &LookArguments, now: &str, env: &Env) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let place = look::place(look, env);
    let asked = match &place {
        Ok(place) => format!("asked: http://{}/", place.authority),
        Err(failure) => format!("nobody was asked: {failure}"),
    };
    let mut text = part("pg-witness diagnose", &format!("{version}, {now}\n{asked}"));
    let Ok(place) = place else {
        return text + &here(look, env);
    };
    text += &match look::ask(&place, "GET", ABOUT) {
        // Parts already.
        Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
        Err(failure) if look.url.is_some() => part(ABOUT, &failure.to_string()),
        Err(failure) => part(ABOUT, &failure.to_string()) + &here(look, env),
    };
    for path in PARTS {
        text += &answer(&place, path);
    }
    text
}

fn answer(place: &PagePlace, path: &str) -> String {
    match look::ask(place, "GET", path) {
        Ok(answer) => part(path, &String::from_utf8_lossy(&answer.body)),
        Err(failure) => part(path, &failure.to_string()),
    }
}

/// What [`about`] would tell of a witness on this machine, which does not answer.
fn here(look: &LookArguments, env: &Env) -> String {
    let unknown = match config::load(&look.config, env) {
        Ok(config) if config.source != Source::Demo => return about(&config),
        Ok(_) => "which one the witness has is not known; name it: --config FILE".into(),
        Err(error) => error.to_string(),
    };
    part("system", &machine::system()) + &part("configuration", &unknown)
}

fn part(title: &str, body: &str) -> String {
    format!("==== {title}\n{}\n\n", body.trim_end())
}

/// Names and sizes of the files of every cluster's state.
fn state(config: &Config) -> String {
    let mut text = String::new();
    for cluster in &config.clusters {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", cluster.data_dir.display());
        let Ok(entries) = std::fs::read_dir(&cluster.data_dir) else {
            let _ = writeln!(text, "    cannot be read");
            continue;
        };
        for entry in entries.take(FILES_MAX).flatten() {
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
