//! Asks PostgreSQL servers and prints what they said, one JSON line each: the
//! probe as tests/probe calls it, from another language.
//!
//! `asks [OPTION=VALUE]... URL...`: user, database, password_file, timeout,
//! interval, retry_pause (seconds), tries, allow (where it may log in; everywhere),
//! md5 (true). With `for=SECONDS` it goes on
//! probing, and a line is printed for each change of health.

// A test's tool fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pg_witness::config::{LoginHost, ProbeConfig};
use pg_witness::probe::{Login, MemberReport, Prober, Target};
use pg_witness::reactor::{self, Timer};
use pg_witness::secret::Secret;

fn main() {
    env_logger::Builder::new().parse_filters("info").init();
    let everywhere = ["0.0.0.0/0", "::/0"].map(|text| LoginHost::Network(text.parse().unwrap()));
    let mut config = ProbeConfig {
        login_to: everywhere.into(),
        md5: true,
        ..ProbeConfig::default()
    };
    let mut urls = Vec::new();
    let mut lasts = None;
    let seconds = |value: &str| Duration::from_secs_f64(value.parse().unwrap());
    for arg in std::env::args().skip(1) {
        match arg.split_once('=') {
            Some(("user", value)) => config.user = value.into(),
            Some(("database", value)) => config.database = value.into(),
            Some(("password_file", path)) => {
                config.password = Secret::new(std::fs::read_to_string(path).unwrap().trim());
            }
            Some(("timeout", value)) => config.timeout = seconds(value),
            Some(("interval", value)) => config.interval = seconds(value),
            Some(("retry_pause", value)) => config.retry_pause = seconds(value),
            Some(("allow", value)) => {
                config.login_to = vec![LoginHost::Network(value.parse().unwrap())];
            }
            Some(("md5", value)) => config.md5 = value.parse().unwrap(),
            Some(("tries", value)) => config.tries = value.parse().unwrap(),
            Some(("for", value)) => lasts = Some(seconds(value)),
            _ => urls.push(arg),
        }
    }
    let target = |(place, url): (usize, &String)| Target {
        scope: "scope".into(),
        member: format!("{place:04}").into(),
        conn_url: url.as_str().into(),
    };
    reactor::block_on(async {
        let prober = Prober::new(&config);
        prober.set_targets("cluster", urls.iter().enumerate().map(target).collect());
        match lasts {
            None => {
                prober.probe_now("cluster").await;
                for report in prober.reports("cluster") {
                    println!("{}", json(&report));
                }
            }
            Some(lasts) => watch(&prober, lasts).await,
        }
    });
}

async fn watch(prober: &Prober, lasts: Duration) {
    let began = Instant::now();
    let mut known = BTreeMap::new();
    while began.elapsed() < lasts {
        for report in prober.reports("cluster") {
            let health = report.report.health;
            if known.insert(report.member.clone(), health) != Some(health) {
                println!("{}", json(&report));
            }
        }
        Timer::after(Duration::from_millis(20)).await;
    }
}

fn json(told: &MemberReport) -> serde_json::Value {
    let report = &told.report;
    let answer = report.answer.as_ref();
    let error = answer.and_then(|answer| answer.error());
    serde_json::json!({
        "member": *told.member,
        "target": *report.target,
        "health": report.health.as_str(),
        "tries": report.tries,
        "answer": answer.map(|answer| answer.as_str()),
        "text": answer.map(|answer| answer.to_string()),
        "sqlstate": error.map(|error| error.sqlstate.to_string()),
        "severity": error.map(|error| error.severity.to_string()),
        "message": error.map(|error| error.message.to_string()),
        "latency_ms": report.latency.map(|latency| latency.as_secs_f64() * 1000.0),
        "login": report.login.as_ref().map(|login| match login {
            Login::Queried { in_recovery: true } => "in recovery".into(),
            Login::Queried { in_recovery: false } => "primary".into(),
            Login::Refused(error) => format!("refused: {error}"),
            Login::Failed(why) => format!("failed: {why}"),
        }),
    })
}
