//! What is said to a request that is allowed.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::page;
use super::request::{HEALTH_CHECK, HttpRequest, INTENDED_MAX, Policy, RequestRefusal};
use super::usage::Usage;
use super::writer::Writer;
use crate::config::HttpConfig;
use crate::logging;
use crate::logging::tally::Tallies;
use crate::machine;
use crate::member::Member;
use crate::member::liveness::Vitals;
use crate::probe::Prober;
use crate::reactor::{Instant, TcpStream};
use crate::status::words::harmless;
use crate::status::{FailoverAnswer, Overview, Verdict, Watcher, json, metrics, table};

/// Clusters up to which peers are asked anew before an answer.
const REFRESHED_MAX: usize = 8;

/// Tells of the machine, the configuration and the state, without secrets, for
/// `/diagnose.txt`. It may take a while.
pub type About = Box<dyn Fn() -> Pin<Box<dyn Future<Output = String>>>>;

/// What there is to tell.
pub struct Site {
    /// The members that run.
    members: Box<dyn Fn() -> Vec<Rc<Member>>>,
    /// The clusters that were configured: one may not have started.
    configured: Vec<String>,
    /// Their `self_addr`s, in the same order; none where there is no witness.
    self_addrs: Vec<String>,
    /// Whether every cluster makes progress.
    vitals: Rc<Vitals>,
    prober: Prober,
    /// How old a probe's answer may be.
    probe_fresh: Duration,
    policy: Policy,
    about: About,
    started: Instant,
    /// What the process has to say of itself.
    notes: Rc<RefCell<Vec<String>>>,
    tallies: Tallies,
}

impl Site {
    /// A site for the members that `members` lists whenever it is asked.
    pub fn new(
        config: &HttpConfig,
        configured: Vec<String>,
        (prober, probe_fresh): (Prober, Duration),
        members: impl Fn() -> Vec<Rc<Member>> + 'static,
        vitals: Rc<Vitals>,
    ) -> Self {
        Self {
            members: Box::new(members),
            about: Box::new(|| Box::pin(smol::unblock(machine::system))),
            configured,
            self_addrs: Vec::new(),
            notes: Rc::default(),
            vitals,
            prober,
            probe_fresh,
            policy: Policy::new(config),
            started: Instant::now(),
            tallies: Tallies::default(),
        }
    }

    /// With the addresses by which the configured clusters know this witness.
    #[must_use]
    pub fn known_as(mut self, self_addrs: Vec<String>) -> Self {
        self.self_addrs = self_addrs;
        self
    }

    /// With what `about` tells under `/diagnose.txt`; without it, the machine alone.
    #[must_use]
    pub fn with_about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// With sentences about the process, which may change.
    #[must_use]
    pub fn with_notes(mut self, notes: Rc<RefCell<Vec<String>>>) -> Self {
        self.notes = notes;
        self
    }

    /// Who answers here, if the request is meant for another witness.
    fn mistaken(&self, request: &HttpRequest) -> Option<String> {
        let intended = request.intended_for.as_deref()?;
        let mut intended_addrs = intended.split(',').map(str::trim);
        let ours = &self.self_addrs;
        if ours.is_empty() || intended_addrs.any(|address| ours.iter().any(|a| a == address)) {
            return None;
        }
        let clusters = self.configured.iter().zip(ours).take(INTENDED_MAX);
        let names: Vec<String> = clusters.map(|(name, a)| format!("{name} ({a})")).collect();
        let this = match self.policy.may_read(request) {
            true => format!("that of {}", names.join(", ")),
            false => "another".into(),
        };
        Some(format!(
            "The witness here is {this}. The one of {} does not run, or its http listens elsewhere.",
            crate::status::shown(intended)
        ))
    }

    /// Logs that a request was one too many.
    pub fn report_busy(&self) {
        if let Some(times) = self.tallies.count("busy") {
            log::warn!("http: request refused: too many are being answered{times}");
        }
    }

    /// Logs that no connection can be taken.
    pub fn report_accept(&self, error: &io::Error) {
        if let Some(times) = self.tallies.count("accept") {
            log::warn!("http: cannot accept a connection: {error}{times}");
        }
    }

    /// The members, or the one of that name.
    fn members(&self, cluster: Option<&str>) -> Vec<Rc<Member>> {
        let mut members = (self.members)();
        members.retain(|member| cluster.is_none_or(|name| *member.name == *name));
        members
    }

    /// Everything, cluster by cluster: others run in between.
    async fn overview(&self, members: &[Rc<Member>]) -> Overview {
        refresh(members).await;
        let mut clusters = Vec::new();
        for member in members {
            let reports = self.prober.reports(&member.name);
            clusters.push(member.condition(&reports, self.probe_fresh));
            smol::future::yield_now().await;
        }
        let watcher = self.watcher();
        Overview { watcher, clusters }
    }

    fn watcher(&self) -> Watcher {
        let usage = Usage::now();
        Watcher {
            version: env!("CARGO_PKG_VERSION"),
            time: logging::now(),
            uptime_s: self.started.elapsed().as_secs(),
            stalled: self.stalled(),
            notes: [machine::notes(), self.notes.borrow().clone()].concat(),
            memory_bytes: usage.memory_bytes,
            cpu_ms: usage.cpu_ms,
            open_files: usage.open_files,
        }
    }

    /// What makes no progress, if something does not.
    fn stalled(&self) -> Option<String> {
        let silent = self.vitals.silent();
        (!silent.is_empty()).then(|| format!("no progress in {}", silent.join(", ")))
    }

    /// Why this witness is no connected voter, if it is not.
    async fn unready(&self) -> Option<String> {
        let members = (self.members)();
        refresh(&members).await;
        self.configured.iter().find_map(|name| {
            let why = match members.iter().find(|member| *member.name == **name) {
                Some(member) => member.unready()?,
                None => "it could not start yet".into(),
            };
            Some(format!("{name}: {why}"))
        })
    }
}

/// Has the peers say how they are, where that is not too many.
async fn refresh(members: &[Rc<Member>]) {
    if members.len() <= REFRESHED_MAX {
        for member in members {
            member.refresh_peers().await;
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// On every answer, by which our own commands know a witness.
pub const WITNESS_HEADER: &str = "PG-Witness";

/// The header by which our own commands know the answer to the one question.
pub const VERDICT_HEADER: &str = "PG-Witness-Failover";

/// On the answer to a health check: `all`, if every server accepts connections.
pub const HEALTHY_HEADER: &str = "PG-Witness-Healthy";

async fn whole(
    stream: &TcpStream,
    request: &HttpRequest,
    status: &str,
    content_type: &str,
    more: &str,
    body: &[u8],
) -> io::Result<()> {
    let mut writer = Writer::begin(stream, request, status, content_type, more);
    writer.part(body).await?;
    writer.end().await
}

/// Says no.
///
/// # Errors
/// The client is gone.
pub async fn refuse(refusal: RequestRefusal, body: bool, stream: &TcpStream) -> io::Result<()> {
    let request = HttpRequest {
        method: if body { "GET" } else { "HEAD" }.into(),
        ..HttpRequest::default()
    };
    let more = match refusal {
        RequestRefusal::Unauthorized => "WWW-Authenticate: Bearer\r\n",
        RequestRefusal::Method => "Allow: GET, HEAD, POST\r\n",
        RequestRefusal::Busy => "Retry-After: 1\r\n",
        _ => "",
    };
    let text = format!("{}\n", refusal.text());
    whole(
        stream,
        &request,
        refusal.status(),
        TEXT,
        more,
        text.as_bytes(),
    )
    .await
}

/// Answers a request.
///
/// # Errors
/// The client is gone.
pub async fn answer(site: &Rc<Site>, request: &HttpRequest, stream: &TcpStream) -> io::Result<()> {
    if let Err(refusal) = site.policy.admit(request) {
        return refuse(refusal, request.method != "HEAD", stream).await;
    }
    if let Some(who) = site.mistaken(request) {
        let status = RequestRefusal::Misdirected.status();
        return whole(
            stream,
            request,
            status,
            TEXT,
            "",
            format!("{who}\n").as_bytes(),
        )
        .await;
    }
    match request.path.as_str() {
        "/" => {
            let security = page::security();
            whole(
                stream,
                request,
                OK,
                page::CONTENT_TYPE,
                &security,
                page::PAGE.as_bytes(),
            )
            .await
        }
        "/livez" => match site.stalled() {
            None => whole(stream, request, OK, TEXT, "", b"alive\n").await,
            Some(why) => unavailable(site, request, stream, &why).await,
        },
        "/readyz" => match site.unready().await {
            None => whole(stream, request, OK, TEXT, "", b"ready\n").await,
            Some(why) => unavailable(site, request, stream, &why).await,
        },
        "/events.json" => events(request, stream).await,
        "/diagnose.txt" => {
            let text = (site.about)().await;
            whole(stream, request, OK, TEXT, "", text.as_bytes()).await
        }
        "/status.json" | "/status.txt" | "/topology.json" | "/topology.txt" | "/members.json"
        | "/members.txt" | "/metrics" | HEALTH_CHECK => overview(site, request, stream).await,
        _ => {
            whole(
                stream,
                request,
                "404 Not Found",
                TEXT,
                "",
                b"There is nothing here.\n",
            )
            .await
        }
    }
}

const OK: &str = "200 OK";

/// The reason only to who may read.
async fn unavailable(
    site: &Site,
    request: &HttpRequest,
    stream: &TcpStream,
    why: &str,
) -> io::Result<()> {
    let why = if site.policy.may_read(request) {
        why
    } else {
        "not now"
    };
    let text = format!("{}\n", harmless(why.chars()));
    whole(
        stream,
        request,
        "503 Service Unavailable",
        TEXT,
        "",
        text.as_bytes(),
    )
    .await
}

async fn events(request: &HttpRequest, stream: &TcpStream) -> io::Result<()> {
    logging::take_in(machine::events());
    let after = request
        .parameter("after")
        .and_then(|after| after.parse().ok());
    let mut writer = Writer::begin(stream, request, OK, JSON, "");
    writer.part(b"{\"events\":[").await?;
    for (number, event) in logging::events(after.unwrap_or(0)).iter().enumerate() {
        if number > 0 {
            writer.part(b",").await?;
        }
        writer
            .part(&json::encode(event).unwrap_or_default())
            .await?;
    }
    writer.part(b"]}\n").await?;
    writer.end().await
}

/// All that shows clusters.
async fn overview(site: &Rc<Site>, request: &HttpRequest, stream: &TcpStream) -> io::Result<()> {
    let cluster = request.parameter("cluster");
    let members = site.members(cluster.as_deref());
    if let Some(cluster) = cluster.filter(|_| members.is_empty()) {
        let text = format!(
            "There is no cluster {} here.\n",
            crate::status::shown(&cluster)
        );
        return whole(stream, request, "404 Not Found", TEXT, "", text.as_bytes()).await;
    }
    if request.path == HEALTH_CHECK {
        for member in &members {
            site.prober.probe_now(&member.name).await;
        }
    }
    let overview = site.overview(&members).await;
    let worst = worst(&overview);
    let mut more = format!("{VERDICT_HEADER}: {}\r\n", worst.answer);
    if request.path == HEALTH_CHECK {
        let all = json::endpoints(&overview).all(|endpoint| endpoint.healthy);
        let none = json::endpoints(&overview).next().is_none();
        let word = if all && !none { "all" } else { "not-all" };
        more.push_str(&format!("{HEALTHY_HEADER}: {word}\r\n"));
    }
    if let Some(pieces) = pieces(request, &overview) {
        let content_type = match request.path.as_str() {
            "/metrics" => metrics::CONTENT_TYPE,
            _ => TEXT,
        };
        let mut writer = Writer::begin(stream, request, OK, content_type, &more);
        for piece in pieces {
            writer.part(piece.as_bytes()).await?;
            smol::future::yield_now().await;
        }
        return writer.end().await;
    }
    let mut writer = Writer::begin(stream, request, OK, JSON, &more);
    let mut part = async |bytes: &[u8]| writer.part(bytes).await;
    match request.path.as_str() {
        "/topology.json" => json::topology(&overview, &mut part).await?,
        "/members.json" => json::members(&overview, &mut part).await?,
        HEALTH_CHECK => json::health(&overview, &mut part).await?,
        _ => json::status(&overview, &worst, &mut part).await?,
    }
    writer.end().await
}

/// The faces that are text, piece by piece; none if JSON is asked for.
fn pieces<'a>(
    request: &HttpRequest,
    overview: &'a Overview,
) -> Option<Box<dyn Iterator<Item = String> + 'a>> {
    let style = table::Style {
        colour: request.parameter("colour").is_some(),
    };
    let as_text = request.parameter("format").as_deref() == Some("text");
    Some(match request.path.as_str() {
        "/status.txt" => Box::new(table::status(overview, style)),
        "/topology.txt" => Box::new(table::topology(overview, style)),
        "/members.txt" => Box::new(table::members(overview, style)),
        "/metrics" => Box::new(metrics::text(overview)),
        HEALTH_CHECK if as_text => Box::new(table::health(overview, style)),
        _ => return None,
    })
}

/// The worst of all clusters' verdicts, with the name of one of several.
fn worst(overview: &Overview) -> Verdict {
    let worst = overview
        .clusters
        .iter()
        .max_by_key(|cluster| cluster.failover.answer);
    let Some(cluster) = worst else {
        return Verdict::new(
            FailoverAnswer::No,
            "no-cluster",
            "No. No cluster could start yet.",
        );
    };
    let mut verdict = cluster.failover.clone();
    if overview.clusters.len() > 1 {
        verdict.sentence = format!("{}: {}", cluster.cluster, verdict.sentence);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_answers_for_none_but_itself() {
        let site = |self_addrs: &[&str]| {
            let names = self_addrs.iter().map(|_| "orders".to_owned()).collect();
            Site::new(
                &HttpConfig::default(),
                names,
                (Prober::default(), Duration::ZERO),
                Vec::new,
                Rc::default(),
            )
            .known_as(self_addrs.iter().map(|a| (*a).to_owned()).collect())
        };
        let request = |intended: Option<&str>| HttpRequest {
            intended_for: intended.map(str::to_owned),
            ..HttpRequest::default()
        };
        let site_of_two = site(&["127.0.0.19:2222", "127.0.0.19:2224"]);
        for (intended, ours) in [
            (None, true),
            (Some("127.0.0.19:2222"), true),
            // A cluster was added to the file, and the witness not restarted yet.
            (Some("127.0.0.19:2223, 127.0.0.19:2224"), true),
            (Some("127.0.0.19:2223"), false),
            (Some(""), false),
        ] {
            let mistaken = site_of_two.mistaken(&request(intended));
            assert_eq!(mistaken.is_none(), ours, "{intended:?}");
        }
        let told = site_of_two.mistaken(&request(Some("127.0.0.19:2223")));
        let told = told.unwrap();
        assert!(told.contains("orders (127.0.0.19:2222)"), "{told}");
        assert!(told.contains("The one of 127.0.0.19:2223"), "{told}");
        // A board's page before its witness runs.
        assert_eq!(site(&[]).mistaken(&request(Some("127.0.0.19:2223"))), None);
    }
}
