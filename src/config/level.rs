//! Log levels by Python's names, which Patroni's file uses, and by ours.

use log::LevelFilter;

use super::error::{ConfigError, Located};

/// The level of a name in any case.
pub fn level(said: &Located<String>) -> Result<LevelFilter, ConfigError> {
    Ok(match said.value.to_ascii_lowercase().as_str() {
        "critical" | "fatal" | "error" => LevelFilter::Error,
        "warning" | "warn" => LevelFilter::Warn,
        "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        "notset" | "trace" => LevelFilter::Trace,
        _ => {
            return Err(ConfigError::Invalid {
                place: said.place.clone(),
                value: Some(said.value.clone()),
                why: "must be error, warn, info, debug or trace".into(),
            });
        }
    })
}
