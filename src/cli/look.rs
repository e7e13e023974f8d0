//! `status`, `topology`, `members`, `health-check`, `alive`: the running witness
//! asked over its own HTTP, and what it says printed.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, configured_if_possible, help, print};
use crate::config::{self, ConfigSource, Env, HttpConfig, Source, file_token};
use crate::http::client::{self, PagePlace, Response};
use crate::http::request::{INTENDED_MAX, encoded};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Whether a failover would work now, and what that rests on.
    Status,
    /// Who is who and where.
    Topology,
    /// The members of both kinds.
    Members,
    /// Every PostgreSQL server probed now.
    HealthCheck,
    /// Whether the process makes progress.
    Alive,
}

/// How it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookArguments {
    /// As JSON.
    pub json: bool,
    /// Again and again.
    pub watch: bool,
    /// Of one cluster.
    pub cluster: Option<String>,
    /// Where the witness is asked, in place of what the configuration says.
    pub url: Option<String>,
    /// A file with the token, likewise.
    pub token_file: Option<std::path::PathBuf>,
    /// Where the configuration is.
    pub config: ConfigSource,
}

/// From one look to the next with `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

/// Carries it out; the exit status tells what was found.
pub fn main(view: View, look: &LookArguments, env: &Env) -> Result<ExitCode, Failure> {
    let place = place(look, env)?;
    let colour = std::io::stdout().is_terminal() && env.path("NO_COLOR").is_none() && !look.json;
    let (method, path) = request(view, look, colour);
    loop {
        let answer = ask(&place, method, &path);
        if !look.watch {
            let answer = answer?;
            print(&String::from_utf8_lossy(&answer.body));
            return Ok(exit_code(view, &answer));
        }
        let text = match answer {
            Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            Err(failure) => format!("{failure}\n"),
        };
        // Home and clear below, so that nothing flickers.
        let before = if colour { "\u{1b}[H\u{1b}[J" } else { "" };
        let mut out = std::io::stdout();
        let shown = write!(out, "{before}{text}").and_then(|()| out.flush());
        if shown.is_err() {
            // Whoever read it went away.
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

fn request(view: View, look: &LookArguments, colour: bool) -> (&'static str, String) {
    let (method, path) = match (view, look.json) {
        (View::Status, false) => ("GET", "/status.txt"),
        (View::Status, true) => ("GET", "/status.json"),
        (View::Topology, false) => ("GET", "/topology.txt"),
        (View::Topology, true) => ("GET", "/topology.json"),
        (View::Members, false) => ("GET", "/members.txt"),
        (View::Members, true) => ("GET", "/members.json"),
        (View::HealthCheck, _) => ("POST", "/health-check"),
        (View::Alive, _) => ("GET", "/livez"),
    };
    let mut query = Vec::new();
    if view == View::HealthCheck && !look.json {
        query.push("format=text".to_owned());
    }
    if colour {
        query.push("colour=1".to_owned());
    }
    if let Some(cluster) = &look.cluster {
        query.push(format!("cluster={}", encoded(cluster)));
    }
    match query.is_empty() {
        true => (method, path.into()),
        false => (method, format!("{path}?{}", query.join("&"))),
    }
}

fn exit_code(view: View, answer: &Response) -> ExitCode {
    match (view, answer.verdict.as_deref()) {
        (View::Status, Some("yes")) | (View::Topology | View::Members, _) => ExitCode::SUCCESS,
        (View::Status, Some("unknown")) => help::EXIT_UNKNOWN.into(),
        (View::Status, _) => help::EXIT_NO.into(),
        (View::HealthCheck, _) if answer.healthy => ExitCode::SUCCESS,
        (View::HealthCheck, _) => help::EXIT_NO.into(),
        (View::Alive, _) if answer.code == 200 => ExitCode::SUCCESS,
        (View::Alive, _) => help::EXIT_FAILED.into(),
    }
}

/// Asks, and takes only an answer for one.
pub fn ask(place: &PagePlace, method: &str, path: &str) -> Result<Response, Failure> {
    let answer = client::ask(place, method, path).map_err(|error| {
        Failure::Failed(format!(
            "no witness answers at http://{}/: {error}; is it running, and is that where its \
             http listens? (--url, or --config FILE)",
            place.authority
        ))
    })?;
    // 503 is an answer: not alive.
    match answer.code {
        200 | 503 => Ok(answer),
        code => Err(Failure::Failed(format!(
            "the witness at http://{}/ says {code}: {}",
            place.authority,
            String::from_utf8_lossy(&answer.body).trim()
        ))),
    }
}

/// Where to ask: by `--url`, else as configured, else where everybody listens.
pub fn place(look: &LookArguments, env: &Env) -> Result<PagePlace, Failure> {
    let config = configured_if_possible(&look.config, env)?;
    let intended_for = match &config {
        // A URL goes before a configuration that nobody named.
        Some(_) if look.url.is_some() && look.config.file.is_none() => Vec::new(),
        Some(config) if config.source != Source::Demo => {
            let clusters = config.clusters.iter().take(INTENDED_MAX);
            clusters
                .map(|cluster| cluster.self_addr.to_string())
                .collect()
        }
        _ => Vec::new(),
    };
    // Without one the witness may well run with a file that we do not know.
    let configured = config.map_or_else(|| Some(HttpConfig::default()), |config| config.http);
    let mut token = match &look.token_file {
        Some(file) => Some(file_token(file, env)?),
        None => None,
    };
    let authority = match &look.url {
        Some(url) => authority(url)?,
        None => {
            let http = configured.ok_or_else(|| {
                Failure::Failed("http is switched off in the configuration; see --url".into())
            })?;
            token = token.or(http.token);
            let host = match http.listen.host.as_str() {
                "0.0.0.0" => "127.0.0.1",
                "::" => "::1",
                host => host,
            };
            match host.contains(':') {
                true => format!("[{host}]:{}", http.listen.port),
                false => format!("{host}:{}", http.listen.port),
            }
        }
    };
    Ok(PagePlace {
        authority,
        token,
        intended_for,
    })
}

fn authority(url: &str) -> Result<String, Failure> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let authority = rest.split('/').next().unwrap_or_default();
    let plain = !authority.is_empty() && !authority.contains(['@', ' ', '\r', '\n']);
    if !plain || rest.contains("://") {
        return Err(Failure::Failed(format!(
            "--url {}: write it as http://127.0.0.1:8272",
            config::shown(url)
        )));
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    match port.is_some_and(|port| port.parse::<u16>().is_ok()) {
        true => Ok(authority.into()),
        false => Ok(format!("{authority}:80")),
    }
}
