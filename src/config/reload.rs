//! SIGHUP: what of a new configuration takes effect at once, and what waits for
//! a restart. Nothing is half done: what cannot be done is said.

use log::LevelFilter;

use super::{ClusterConfig, Config, ProbeConfig};
use crate::secret::Secret;

/// What to do about a new configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReloadPlan {
    /// The new log level, when it changed.
    pub level: Option<LevelFilter>,
    /// Clusters by name with their new passwords.
    pub passwords: Vec<(String, Secret)>,
    /// How to probe from now on, when it changed.
    pub probe: Option<ProbeConfig>,
    /// What changed and waits for a restart, one line each.
    pub refused: Vec<String>,
}

/// Most refused changes that are shown one by one.
const NOTES_MAX: usize = 8;

/// Compares the configuration in force with one just read.
pub fn reload(old: &Config, new: &Config) -> ReloadPlan {
    let mut plan = ReloadPlan {
        level: (old.log != new.log).then_some(new.log.level),
        ..ReloadPlan::default()
    };
    plan.probe = (old.probe != new.probe).then(|| new.probe.clone());
    if old.http != new.http {
        plan.refuse("http", "changed");
    }
    for cluster in &old.clusters {
        match new.clusters.iter().find(|other| other.name == cluster.name) {
            Some(other) => plan.compare(cluster, other),
            None => plan.refuse(&cluster.name, "the cluster was removed"),
        }
    }
    for cluster in &new.clusters {
        if !old.clusters.iter().any(|other| other.name == cluster.name) {
            plan.refuse(&cluster.name, "the cluster was added");
        }
    }
    plan
}

impl ReloadPlan {
    /// Takes over into the configuration in force what this plan has changed, and no
    /// more: what was refused is compared again at the next reload.
    pub fn put_in_force(self, config: &mut Config) {
        if let Some(level) = self.level {
            config.log.level = level;
        }
        if let Some(probe) = self.probe {
            config.probe = probe;
        }
        for (name, password) in self.passwords {
            let cluster = config.clusters.iter_mut().find(|c| c.name == name);
            if let Some(cluster) = cluster {
                cluster.password = Some(password);
            }
        }
    }

    /// One sentence for each change that was refused, as `status` shows it.
    pub fn notes(&self) -> Vec<String> {
        let sentence = |refused: &String| format!("Not reloaded: {refused}.");
        let mut notes: Vec<String> = self.refused.iter().take(NOTES_MAX).map(sentence).collect();
        match self.refused.len().saturating_sub(NOTES_MAX) {
            0 => {}
            more => notes.push(format!("Not reloaded: {more} more changes; see the log.")),
        }
        notes
    }

    /// What follows "configuration reloaded".
    pub fn except(&self) -> String {
        match self.refused.len() {
            0 => String::new(),
            1 => ", but for one change".into(),
            count => format!(", but for {count} changes"),
        }
    }

    fn compare(&mut self, old: &ClusterConfig, new: &ClusterConfig) {
        let fixed = [
            ("self_addr", old.self_addr != new.self_addr),
            ("bind_addr", old.bind_addr != new.bind_addr),
            ("data_dir", old.data_dir != new.data_dir),
            ("bootstrap", old.bootstrap != new.bootstrap),
            ("election", old.election != new.election),
            ("the times", old.timing != new.timing),
            ("zone or vote", old.placement != new.placement),
            ("allow_from", old.allow_from != new.allow_from),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            self.refuse(&old.name, &format!("{key} changed"));
        }
        if old.partner_addrs != new.partner_addrs {
            self.refused.push(format!(
                "{}: partner_addrs changed; it is read at the next start, and counts only as long as \
                 this witness has stored nothing; where it differs from the members then, status \
                 names the command that changes them",
                old.name
            ));
        }
        match (&old.password, &new.password) {
            (Some(before), Some(after)) if before != after => {
                self.passwords.push((old.name.clone(), after.clone()));
            }
            (None, Some(_)) => self.refuse(&old.name, "a password was added"),
            (Some(_), None) => self.refuse(&old.name, "the password was removed"),
            _ => {}
        }
    }

    fn refuse(&mut self, what: &str, why: &str) {
        self.refused
            .push(format!("{what}: {why}; it takes effect at the next start"));
    }
}
