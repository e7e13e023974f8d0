//! What the probe of a server got, as the model shows it.

use std::time::Duration;

use serde::Serialize;

use crate::probe::{Login, ProbeAnswer, Report};

/// What the probe of a server got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProbeOverview {
    /// `healthy`, `suspect`, `unhealthy` or `unknown`.
    pub health: &'static str,
    /// `accepting`, `refused`, `silent` ...; none before the first answer.
    pub answer: Option<&'static str>,
    /// Who was asked, `host:port`.
    pub target: String,
    /// How long ago, in milliseconds.
    pub age_ms: Option<u64>,
    /// Until the first answer, in microseconds.
    pub latency_us: Option<u64>,
    /// Probes in a row that found it not accepting.
    pub tries: u32,
    /// PostgreSQL's code of the error that it sent.
    pub sqlstate: Option<String>,
    /// Its message, or what else is to be said.
    pub message: Option<String>,
    /// Whether it said to be in recovery, where we may ask.
    pub in_recovery: Option<bool>,
    /// Whether the answer is older than it should be.
    pub stale: bool,
}

impl ProbeOverview {
    /// What a report says; older than `fresh` it is marked as old.
    pub fn of(report: &Report, fresh: Duration) -> Self {
        let age = report.asked.map(|at| at.elapsed());
        let answer = report.answer.as_ref();
        let error = answer.and_then(ProbeAnswer::error);
        Self {
            health: report.health.as_str(),
            answer: answer.map(ProbeAnswer::as_str),
            target: report.target.to_string(),
            age_ms: age.map(|age| count(age.as_millis())),
            latency_us: report.latency.map(|took| count(took.as_micros())),
            tries: report.tries,
            sqlstate: error.map(|error| error.sqlstate.to_string()),
            message: error
                .map(|error| error.message.to_string())
                .or_else(|| match answer? {
                    ProbeAnswer::Unreachable(why)
                    | ProbeAnswer::NotPostgres(why)
                    | ProbeAnswer::NoTarget(why) => Some(why.to_string()),
                    _ => None,
                }),
            in_recovery: match &report.login {
                Some(Login::Queried { in_recovery }) => Some(*in_recovery),
                _ => None,
            },
            stale: age.is_none_or(|age| age > fresh),
        }
    }
}

fn count(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
