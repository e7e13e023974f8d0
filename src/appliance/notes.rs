//! The state of the machine in plain sentences: on the console when they change,
//! on the page as long as they hold. The README's table lists them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::machine;

/// What a sentence is about; there is one at most of each, shown in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The boot partition.
    Card,
    /// `pg-witness.json`.
    Configuration,
    /// The data partition.
    Data,
    /// The witness's process.
    Witness,
    /// The cable.
    Link,
    /// The address.
    Network,
    /// The wall clock.
    Clock,
    /// The hardware watchdog.
    Watchdog,
}

/// No partition bears our label.
pub const NO_CARD: &str =
    "No boot partition: is the card in its slot? It is looked for again and again.";

/// No partition bears our label for data, or it cannot be mounted.
pub const NO_DATA: &str = "The data partition cannot be used, so the witness is not started: without it a vote \
     would be forgotten. Flash the card anew; the witness then joins as one that lost its state";

/// It was damaged; how often follows.
pub const RECREATED: &str = "The data partition was damaged and has been recreated";

/// The interface's driver has not found one.
pub const NO_INTERFACE: &str = "Waiting for a network interface.";

/// No carrier.
pub const NO_LINK: &str = "No link on the network interface: is the cable in?";

/// The DHCP server is silent.
pub const NO_LEASE: &str = "Waiting for an address: no DHCP server has answered yet.";

/// SNTP has not answered.
pub const NO_TIME: &str = "The clock is not trusted: no time server has answered yet. Times in the log are \
     wrong; no decision depends on them.";

/// Times that nobody is asked for.
pub const TIME_OFF: &str = "The clock is not trusted: no time server is configured. Times in the log are \
     wrong; no decision depends on them.";

/// No driver for a watchdog.
pub const NO_WATCHDOG: &str =
    "No hardware watchdog: a machine that hangs stays so until its power is cut.";

/// The sentence for a configuration that is refused.
pub fn refused(error: &str) -> String {
    let end = if error.ends_with(['.', '?', '!']) {
        ""
    } else {
        "."
    };
    format!(
        "{error}{end} The witness does not run. Correct the file on the card: it is read again \
         every few seconds."
    )
}

/// The sentence for a data partition that was recreated so many times.
pub fn recreated(count: u32) -> String {
    format!(
        "{RECREATED} (times so far: {count}). The witness lost its state and \
         votes again once it has caught up with a leader. Replace the card when you can."
    )
}

/// The sentence for a witness that does not stay up.
pub fn ended(how: &str, pause: Duration) -> String {
    let seconds = pause.as_secs();
    format!("The witness ended: {how}. It is started again in {seconds} s.")
}

/// The sentences that hold now.
#[derive(Default)]
pub struct Notes(Mutex<BTreeMap<Topic, String>>);

impl Notes {
    /// From now on this is so.
    pub fn say(&self, topic: Topic, sentence: impl Into<String>) {
        let sentence = sentence.into();
        let mut notes = self.lock();
        if notes.get(&topic) != Some(&sentence) {
            log::warn!("{sentence}");
            notes.insert(topic, sentence);
            publish(&notes);
        }
    }

    /// It is so no more; `news` tells why, if something had been said.
    pub fn clear(&self, topic: Topic, news: &str) {
        let mut notes = self.lock();
        if notes.remove(&topic).is_some() {
            log::info!("{news}");
            publish(&notes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Topic, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the witness to show. Under the lock: of two threads that have something to
/// say, the later has the last word.
fn publish(notes: &BTreeMap<Topic, String>) {
    let notes: Vec<String> = notes.values().cloned().collect();
    if let Err(error) = machine::publish_notes(Path::new(machine::NOTES), &notes) {
        log::debug!("{}: {error}", machine::NOTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_one_sentence_at_a_time() {
        let notes = Notes::default();
        notes.say(Topic::Network, NO_LEASE);
        notes.say(Topic::Network, NO_INTERFACE);
        notes.say(Topic::Card, NO_CARD);
        let said: Vec<String> = notes.lock().values().cloned().collect();
        assert_eq!(said, [NO_CARD, NO_INTERFACE]);
        notes.clear(Topic::Network, "there");
        assert_eq!(notes.lock().len(), 1);
    }

    #[test]
    fn the_readme_lists_what_is_said() {
        let readme = include_str!("../../README.md").replace("\n", " ");
        for sentence in [
            NO_CARD,
            NO_DATA,
            RECREATED,
            NO_INTERFACE,
            NO_LINK,
            NO_LEASE,
            NO_TIME,
            TIME_OFF,
            NO_WATCHDOG,
        ] {
            let first = sentence.split(['.', ':', ',']).next().unwrap();
            assert!(readme.contains(first), "{first}");
        }
    }
}
