//! The model as text for a terminal of 80 columns. Colour only adds to what the
//! words say.

use std::fmt::Write as _;

use super::scope::{PgMember, Scope, SyncMode};
use super::words::{bytes, seconds};
use super::{ClusterOverview, FailoverAnswer, Level, Overview, Raft, Remedy, Verdict};

/// The widest line, in characters, but for sentences and notes.
pub const WIDTH: usize = 80;

/// Whether to colour.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// With ANSI sequences.
    pub colour: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.into(),
        }
    }

    fn verdict(self, verdict: &Verdict) -> String {
        let code = match verdict.answer {
            FailoverAnswer::Yes => "1;32",
            FailoverAnswer::Unknown | FailoverAnswer::UnderWay => "1;33",
            FailoverAnswer::No => "1;31",
        };
        self.paint(code, &verdict.sentence)
    }

    fn heading(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }
}

/// Columns of text, each as wide as it needs, together no wider than a line.
struct Columns {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which stand to the right.
    right: &'static [usize],
}

impl Columns {
    fn new(titles: &[&str], right: &'static [usize]) -> Self {
        let titles = titles.iter().map(|title| (*title).to_owned()).collect();
        Self {
            rows: vec![titles],
            right,
        }
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(width).collect();
        let gaps = columns.saturating_sub(1) * 2 + 2;
        // The widest gives way until the line fits.
        while widths.iter().sum::<usize>() + gaps > WIDTH {
            match widths.iter_mut().max_by_key(|width| **width) {
                Some(widest) if *widest > 4 => *widest -= 1,
                _ => break,
            }
        }
        widths
    }

    fn print(&self, style: Style, out: &mut String) {
        let widths = self.widths();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::from("  ");
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let cell = cut(cell, *width);
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                let right = self.right.contains(&column);
                let (before, after) = if right { (&*pad, "") } else { ("", &*pad) };
                // Writing to a String cannot fail.
                let _ = write!(line, "{before}{cell}{after}  ");
            }
            let line = line.trim_end();
            match number {
                0 => out.push_str(&style.heading(line)),
                _ => out.push_str(line),
            }
            out.push('\n');
        }
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A text in lines of at most [`WIDTH`], each behind `indent`.
fn wrap(indent: &str, text: &str, out: &mut String) {
    let mut line = String::from(indent);
    let mut empty = true;
    for word in text.split(' ') {
        let width = line.chars().count() + 1 + word.chars().count();
        if !empty && width > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent.chars().count());
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

fn some(text: Option<&str>) -> String {
    text.unwrap_or("-").into()
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn yes(is: bool, text: &'static str) -> &'static str {
    if is { text } else { "" }
}

/// `status`: the sentence, then what it rests on. As all of these in pieces of
/// one cluster, made as they are taken, so that others can run in between.
pub fn status(overview: &Overview, style: Style) -> impl Iterator<Item = String> {
    let clusters = overview.clusters.iter().map(move |cluster| {
        let mut out = String::new();
        cluster_text(cluster, style, &mut out);
        out.push('\n');
        out
    });
    clusters.chain(std::iter::once_with(|| {
        let mut out = String::new();
        watcher(overview, &mut out);
        out
    }))
}

fn cluster_text(cluster: &ClusterOverview, style: Style, out: &mut String) {
    let mut sentence = String::new();
    wrap(
        "",
        &format!("{}: {}", cluster.cluster, cluster.failover.sentence),
        &mut sentence,
    );
    let painted = Verdict {
        sentence: sentence.trim_end().into(),
        ..cluster.failover.clone()
    };
    let _ = writeln!(out, "{}", style.verdict(&painted));
    if let Some(remedy) = &cluster.failover.remedy {
        remedy_text(remedy, out);
    }
    for note in &cluster.notes {
        let (mark, code) = match note.level {
            Level::Alarm => ("  ! ", "1;31"),
            Level::Warning => ("  ! ", "33"),
            Level::Advice => ("  - ", "0"),
        };
        let mut text = String::new();
        wrap(mark, &note.text, &mut text);
        out.push_str(&style.paint(code, text.trim_end()));
        out.push('\n');
        if let Some(remedy) = &note.remedy {
            remedy_text(remedy, out);
        }
    }
    out.push('\n');
    raft(&cluster.raft, style, out);
    for scope in &cluster.postgresql {
        out.push('\n');
        scope_text(scope, style, out);
    }
}

/// What to do; a command stands on a line of its own, however long, to be pasted.
fn remedy_text(remedy: &Remedy, out: &mut String) {
    let end = if remedy.command.is_some() { ":" } else { "." };
    wrap("    ", &format!("{}{end}", remedy.advice), out);
    if let Some(command) = &remedy.command {
        let _ = writeln!(out, "      {command}");
    }
}

fn raft(raft: &Raft, style: Style, out: &mut String) {
    let more = match (raft.quorum, raft.survives_one_more_loss) {
        (true, true) => "a majority, and one may go",
        (true, false) => "a majority, and none may go",
        (false, _) => "NO MAJORITY",
    };
    let counted = format!(
        "{} of {} members, {more}",
        raft.reachable,
        raft.members.len()
    );
    // Why, in words and with the remedy, is the verdict's or a note's to say.
    let voice = match raft.reason {
        Some(reason) if raft.has_withdrawn() => format!("this witness reads only ({reason})"),
        Some(reason) => format!("this witness has NO VOTE ({reason})"),
        None => "this witness votes".into(),
    };
    let line = format!("Raft: term {}, {counted}; {voice}", raft.term);
    let mut text = String::new();
    wrap("  ", &line, &mut text);
    match (raft.votes || raft.has_withdrawn()) && raft.quorum {
        true => out.push_str(&text),
        false => {
            out.push_str(&style.bad(text.trim_end()));
            out.push('\n');
        }
    }
    let mut table = Columns::new(
        &["MEMBER", "ROLE", "LINK", "COMMIT", "TOLD", "VERSION"],
        &[3],
    );
    for member in &raft.members {
        table.row([
            member.address.clone(),
            match (member.leader, member.this) {
                (true, _) => "leader".into(),
                (false, true) => raft.state.into(),
                (false, false) => String::new(),
            },
            match (member.this, member.connected) {
                (true, _) => "this one".into(),
                (false, true) => "up".into(),
                (false, false) => "DOWN".into(),
            },
            number(member.commit_index),
            match (member.this, member.told_ms) {
                (true, _) => "now".into(),
                (false, Some(ms)) => format!("{} ago", seconds(ms)),
                (false, None) => "-".into(),
            },
            some(member.version.as_deref()),
        ]);
    }
    table.print(style, out);
}

fn scope_text(scope: &Scope, style: Style, out: &mut String) {
    let key = match (&scope.primary, &scope.leader_key) {
        (Some(name), Some(key)) => {
            let left = key.expires_in_ms.map_or_else(|| "for ever".into(), seconds);
            format!(
                "{name} holds the leader key, {left} left of {} s",
                scope.ttl_s
            )
        }
        _ => "nobody holds the leader key".into(),
    };
    let sync = match scope.synchronous_mode {
        SyncMode::Off => "asynchronous",
        SyncMode::On => "synchronous",
        SyncMode::Quorum => "quorum commit",
    };
    let more = [
        yes(scope.paused, ", PAUSED"),
        yes(scope.failsafe_mode, ", failsafe_mode"),
        yes(scope.standby_cluster, ", a standby cluster"),
    ]
    .concat();
    wrap(
        "  ",
        &format!("PostgreSQL {}: {key}; {sync}{more}", scope.scope),
        out,
    );
    let titles = [
        "SERVER", "ADDRESS", "ROLE", "STATE", "TL", "LAG", "KEY", "PROBE",
    ];
    let mut table = Columns::new(&titles, &[4, 5, 6]);
    for member in &scope.members {
        table.row([
            member.name.clone(),
            address(member),
            member.role.replace('_', " "),
            match (member.gone, member.stale) {
                (true, _) => format!("gone {}", seconds(member.key.age_ms)),
                (false, true) => format!("silent {}", seconds(member.key.age_ms)),
                (false, false) => member.state.clone(),
            },
            number(member.timeline),
            member.lag_bytes.map_or_else(String::new, bytes),
            member.key.expires_in_ms.map_or_else(|| "-".into(), seconds),
            probe(member),
        ]);
    }
    table.print(style, out);
}

fn address(member: &PgMember) -> String {
    match (&member.host, member.port) {
        (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => "-".into(),
    }
}

fn probe(member: &PgMember) -> String {
    let Some(probe) = &member.probe else {
        return "-".into();
    };
    let answer = probe.answer.unwrap_or("not asked yet").replace('-', " ");
    let old = yes(probe.stale && probe.answer.is_some(), " (old)");
    match probe.health {
        "unhealthy" => format!("{}{old}", answer.to_uppercase()),
        _ => format!("{answer}{old}"),
    }
}

fn watcher(overview: &Overview, out: &mut String) {
    let watcher = &overview.watcher;
    for note in &watcher.notes {
        wrap("this machine: ", note, out);
    }
    let memory = watcher.memory_bytes.map_or_else(String::new, |memory| {
        let tenths = memory / 100_000;
        format!(", {}.{} MB of memory", tenths / 10, tenths % 10)
    });
    let disks = || overview.clusters.iter().map(|cluster| &cluster.raft.disk);
    let sectors: u64 = disks().map(|disk| disk.sectors_today).sum();
    let last = disks().map(|disk| disk.sync_last_us).max().unwrap_or(0);
    let slowest = disks().map(|disk| disk.sync_max_us).max().unwrap_or(0);
    let stalled = watcher
        .stalled
        .as_ref()
        .map_or_else(String::new, |why| format!("; STALLED: {why}"));
    let line = format!(
        "pg-witness {}, up {}{memory}; disk: {sectors} sectors written today, fsync {} ms, \
         slowest {} ms; clock {}{stalled}",
        watcher.version,
        seconds(watcher.uptime_s.saturating_mul(1_000)),
        last.div_ceil(1_000),
        slowest.div_ceil(1_000),
        watcher.time,
    );
    wrap("", &line, out);
}

/// `topology`: who is who and where.
pub fn topology(overview: &Overview, style: Style) -> impl Iterator<Item = String> {
    let clusters = overview.clusters.iter();
    clusters.map(move |cluster| topology_of(cluster, style))
}

fn topology_of(cluster: &ClusterOverview, style: Style) -> String {
    let mut out = format!("{}\n", cluster.cluster);
    let mut table = Columns::new(&["", "NAME", "ADDRESS", "STATE"], &[]);
    let raft = &cluster.raft;
    for member in &raft.members {
        let state = [
            yes(member.leader, "leads, "),
            match (member.this, member.connected) {
                (true, _) => yes(raft.votes, "votes, "),
                (false, true) => "link up, ",
                (false, false) => "link DOWN, ",
            },
            yes(
                member.this && !raft.votes && !raft.has_withdrawn(),
                "NO VOTE, ",
            ),
        ]
        .concat();
        table.row([
            if member.this { "watcher" } else { "raft" }.into(),
            String::new(),
            member.address.clone(),
            state.trim_end_matches(", ").into(),
        ]);
    }
    for member in cluster.postgresql.iter().flat_map(|scope| &scope.members) {
        let lag = member
            .lag_bytes
            .map(|lag| format!(", {} behind", bytes(lag)));
        let state = [
            &member.state,
            &*lag.unwrap_or_default(),
            "; ",
            &probe(member),
        ]
        .concat();
        table.row([
            member.role.replace('_', " "),
            member.name.clone(),
            address(member),
            state,
        ]);
    }
    table.print(style, &mut out);
    out
}

/// `members`: both kinds, without sentences.
pub fn members(overview: &Overview, style: Style) -> impl Iterator<Item = String> {
    overview.clusters.iter().map(move |cluster| {
        let mut out = format!("{}\n", cluster.cluster);
        raft(&cluster.raft, style, &mut out);
        for scope in &cluster.postgresql {
            scope_text(scope, style, &mut out);
        }
        out
    })
}

/// `health-check`: what the probes of every server got.
pub fn health(overview: &Overview, style: Style) -> impl Iterator<Item = String> {
    let clusters = overview.clusters.iter();
    let tables = clusters.map(move |cluster| health_of(cluster, style));
    tables.chain(std::iter::once_with(move || {
        let servers = || {
            let scopes = overview.clusters.iter().flat_map(|c| &c.postgresql);
            scopes.flat_map(|scope| &scope.members)
        };
        let (healthy, total) = (
            servers().filter(|m| is_healthy(m)).count(),
            servers().count(),
        );
        let line = format!("{healthy} of {total} accept connections");
        match healthy == total && total > 0 {
            true => format!("{line}\n"),
            false => format!("{}\n", style.bad(&line)),
        }
    }))
}

fn health_of(cluster: &ClusterOverview, style: Style) -> String {
    let mut out = format!("{}\n", cluster.cluster);
    let mut table = Columns::new(&["SERVER", "ASKED", "ANSWER", "TOOK", "SAID"], &[3]);
    for member in cluster.postgresql.iter().flat_map(|scope| &scope.members) {
        let told = member.probe.as_ref();
        let latency = told.and_then(|probe| probe.latency_us);
        table.row([
            member.name.clone(),
            address(member),
            probe(member),
            latency.map_or_else(String::new, |us| format!("{} ms", us.div_ceil(1_000))),
            told.and_then(|probe| probe.message.clone())
                .unwrap_or_default(),
        ]);
    }
    table.print(style, &mut out);
    out
}

/// Whether the probe found a server accepting connections.
pub fn is_healthy(member: &PgMember) -> bool {
    member
        .probe
        .as_ref()
        .is_some_and(|probe| probe.health == "healthy")
}
