//! `check-config`: the configuration in effect, as a person reads it. Secrets
//! are shown as present or absent (S11).

use std::fmt::Write as _;

use crate::config::{
    ClusterConfig, Config, HttpConfig, PlacementConfig, ProbeConfig, VotePolicy, shown,
};

/// The whole report, ending in a line end.
pub fn report(config: &Config) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(config, &mut text);
    text
}

fn write(config: &Config, text: &mut String) -> std::fmt::Result {
    writeln!(text, "configuration: {}", config.source)?;
    if let Some(file) = &config.environment_file {
        writeln!(text, "variables of the service: {}", file.display())?;
    }
    writeln!(
        text,
        "log level: {}",
        config.log.level.as_str().to_lowercase()
    )?;
    match &config.http {
        Some(http) => writeln!(text, "http: {}{}", http.listen, access(http))?,
        None => writeln!(text, "http: off")?,
    }
    write_probe(&config.probe, text)?;
    for cluster in &config.clusters {
        write_cluster(cluster, text)?;
    }
    for warning in &config.warnings {
        writeln!(text, "\nwarning: {warning}")?;
    }
    for cluster in &config.clusters {
        write_dial_note(cluster, text)?;
    }
    writeln!(text, "\nok")
}

fn write_probe(probe: &ProbeConfig, text: &mut String) -> std::fmt::Result {
    if !probe.enabled {
        return writeln!(text, "probe: off");
    }
    let login = match &probe.password_file {
        Some(file) => format!("logs in with the password of {}", file.display()),
        None => "does not log in".into(),
    };
    writeln!(
        text,
        "probe: every {} s, {} s each, {} tries {} s apart; as {} at {}, {login}",
        probe.interval.as_secs_f64(),
        probe.timeout.as_secs_f64(),
        probe.tries,
        probe.retry_pause.as_secs_f64(),
        shown(&probe.user),
        shown(&probe.database),
    )
}

fn access(http: &HttpConfig) -> String {
    let token = http.token_file.as_ref().map_or_else(String::new, |file| {
        format!(", with the token in {}", file.display())
    });
    let reading = if http.read_only {
        ", open for reading"
    } else {
        ""
    };
    format!("{reading}{token}")
}

fn write_cluster(cluster: &ClusterConfig, text: &mut String) -> std::fmt::Result {
    let partners: Vec<&str> = cluster.partner_addrs.iter().map(|p| p.as_str()).collect();
    let partners = match partners.as_slice() {
        [] => "none: a cluster of its own".into(),
        partners => partners.join(", "),
    };
    let password = match (&cluster.password, &cluster.password_file) {
        (Some(_), Some(file)) => format!("set, from {}", file.display()),
        (Some(password), None) if password.expose().is_empty() => "set, but empty".into(),
        (Some(_), None) => "set".into(),
        (None, _) => "none: what passes is readable and open to all".into(),
    };
    let data_dir = std::path::absolute(&cluster.data_dir);
    let data_dir = data_dir.as_deref().unwrap_or(&cluster.data_dir);
    let placement = &cluster.placement;
    let zone = match &placement.zone {
        Some(zone) => format!("{}, {}", shown(zone), placement.zone_policy),
        None => "not given: where it stands is not checked".into(),
    };
    writeln!(text, "\ncluster {}", shown(&cluster.name))?;
    for (key, value) in [
        ("self_addr", cluster.self_addr.to_string()),
        ("listens on", cluster.bind().to_string()),
        ("partner_addrs", partners),
        ("data_dir", data_dir.display().to_string()),
        ("password", password),
        ("bootstrap", cluster.bootstrap.to_string()),
        ("election", cluster.election.to_string()),
        ("vote", vote(placement)),
        ("zone", zone),
        ("allow_from", networks(cluster)),
    ] {
        writeln!(text, "    {key:<24} {value}")?;
    }
    let timing = &cluster.timing;
    for (key, value) in [
        ("append_entries_period", timing.append_entries_period),
        ("min_timeout", timing.min_timeout),
        ("max_timeout", timing.max_timeout),
        ("connection_timeout", timing.connection_timeout),
        ("connection_retry_time", timing.connection_retry_time),
        ("leader_fallback_timeout", timing.leader_fallback_timeout),
        ("ttl", timing.ttl),
        ("loop_wait", timing.loop_wait),
        ("retry_timeout", timing.retry_timeout),
    ] {
        writeln!(text, "    {key:<24} {} s", value.as_secs_f64())?;
    }
    Ok(())
}

fn vote(placement: &PlacementConfig) -> String {
    match placement.vote {
        VotePolicy::Auto => format!(
            "auto, withdrawn after {} s",
            placement.vote_withdraws_after.as_secs_f64()
        ),
        vote => vote.to_string(),
    }
}

fn networks(cluster: &ClusterConfig) -> String {
    let each: Vec<String> = cluster.allow_from.iter().map(ToString::to_string).collect();
    match each.is_empty() {
        true => "all".into(),
        false => each.join(", "),
    }
}

/// H22: who dials is decided by the order of the address texts, and a dialling
/// Python waits two minutes on a network that swallows packets; we do not.
fn write_dial_note(cluster: &ClusterConfig, text: &mut String) -> std::fmt::Result {
    let above: Vec<&str> = cluster
        .partner_addrs
        .iter()
        .filter(|partner| **partner > cluster.self_addr)
        .map(|partner| partner.as_str())
        .collect();
    if above.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "\nnote: cluster {}: {} sorts after {} as a text, so that side dials; a witness whose \
         self_addr sorts last dials all links itself and recovers sooner from a cut network",
        shown(&cluster.name),
        above.join(" and "),
        cluster.self_addr,
    )
}
