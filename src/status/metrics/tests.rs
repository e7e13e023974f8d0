//! What alerts and dashboard ask for is there.

use std::collections::BTreeSet;

use super::*;
use crate::reason::Reason;
use crate::status::Watcher;

/// The words of a text that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !part_of_word(c));
    words.filter(|word| word.starts_with(prefix)).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let overview = Overview {
        watcher: Watcher::default(),
        clusters: Vec::new(),
    };
    let text: String = text(&overview).collect();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families: BTreeSet<String> = lines
        .filter_map(|line| {
            let (name, kind) = line.split_once(' ')?;
            let suffix = if kind == "counter" { "_total" } else { "" };
            Some(format!("{name}{suffix}"))
        })
        .collect();
    for (file, least) in [("alerts.yml", 10), ("dashboard.json", 12)] {
        let text = std::fs::read_to_string(format!("image/monitoring/{file}")).unwrap();
        let asked = words(&text, "pg_witness_");
        assert!(asked.len() >= least, "{asked:?}");
        for name in asked {
            assert!(families.contains(name), "{file}: {name}");
        }
        // A gauge has no rate.
        let rates = text
            .split("rate(")
            .skip(1)
            .filter_map(|rest| rest.split('{').next());
        for rate in rates {
            assert!(rate.ends_with("_total"), "{file}: {rate}");
        }
    }
}

#[test]
fn the_reasons_that_no_alert_is_for_have_these_names() {
    let alerts = std::fs::read_to_string("image/monitoring/alerts.yml").unwrap();
    let but = format!(
        "pg_witness_raft_no_vote{{reason!~\"{}|{}\"}}",
        Reason::NeverVotes.name(),
        Reason::NotWanted.name()
    );
    assert!(alerts.contains(&but));
}
