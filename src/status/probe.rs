//! A probe's report as the model shows it.

use std::time::Duration;

use super::patroni::Probe;
use crate::probe::{Answer, Login, Report};

impl Probe {
    /// What a report says; older than `fresh` it is marked as old.
    pub fn of(report: &Report, fresh: Duration) -> Self {
        let age = report.asked.map(|at| at.elapsed());
        let answer = report.answer.as_ref();
        let error = answer.and_then(Answer::error);
        Self {
            health: report.health.as_str(),
            answer: answer.map(Answer::as_str),
            target: report.target.to_string(),
            age_ms: age.map(|age| count(age.as_millis())),
            latency_us: report.latency.map(|took| count(took.as_micros())),
            tries: report.tries,
            sqlstate: error.map(|error| error.sqlstate.to_string()),
            message: error
                .map(|error| error.message.to_string())
                .or_else(|| match answer? {
                    Answer::Unreachable(why) | Answer::NotPostgres(why) | Answer::NoTarget(why) => {
                        Some(why.to_string())
                    }
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
