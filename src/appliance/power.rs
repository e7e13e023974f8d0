//! The end: power-off at the button, restart at Ctrl-Alt-Del, both only after the
//! witness has ended and the data partition is off.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use rustix::system::{RebootCommand, reboot};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndRequest {
    /// No more until somebody presses the button.
    PowerOff,
    /// From the beginning.
    Restart,
}

/// Listens for whoever wants an end.
#[derive(Clone, Default)]
pub struct Power(Arc<AtomicU8>);

/// A key event as the kernel writes it (`struct input_event`): two words of time,
/// then type, code and value.
const TIME_BYTES: usize = 2 * size_of::<usize>();
const EVENT_BYTES: usize = TIME_BYTES + 8;

/// `EV_KEY` and `KEY_POWER`.
const KEY: u16 = 1;
const POWER: u16 = 116;

impl Power {
    /// Begins to listen to signals: Ctrl-Alt-Del becomes SIGINT for PID 1 instead of
    /// an end without order.
    pub fn listen(&self) {
        let _ = reboot(RebootCommand::CadOff);
        let power = self.clone();
        spawn("signals", move || power.hear_signals());
    }

    /// Begins to listen to the buttons that are there.
    pub fn find_buttons(&self) {
        for entry in fs::read_dir("/dev/input").into_iter().flatten().flatten() {
            let power = self.clone();
            if entry.file_name().to_string_lossy().starts_with("event") {
                spawn("buttons", move || power.hear_buttons(&entry.path()));
            }
        }
    }

    /// What was asked for, if anything was.
    pub fn asked(&self) -> Option<EndRequest> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(EndRequest::PowerOff),
            _ => Some(EndRequest::Restart),
        }
    }

    /// Asks for an end.
    pub fn ask(&self, end: EndRequest) {
        self.0.store(
            if end == EndRequest::PowerOff { 1 } else { 2 },
            Ordering::Relaxed,
        );
    }

    fn hear_signals(&self) {
        let mut signals = match Signals::new([SIGTERM, SIGINT]) {
            Ok(signals) => signals,
            Err(error) => return log::error!("cannot receive signals: {error}"),
        };
        for signal in signals.forever() {
            self.ask(match signal {
                SIGTERM => EndRequest::PowerOff,
                _ => EndRequest::Restart,
            });
        }
    }

    fn hear_buttons(&self, device: &Path) {
        let read = || -> io::Result<()> {
            let mut device = File::open(device)?;
            let mut event = [0; EVENT_BYTES];
            loop {
                device.read_exact(&mut event)?;
                if is_power_button(&event) {
                    log::info!("power button");
                    self.ask(EndRequest::PowerOff);
                }
            }
        };
        if let Err(error) = read() {
            log::debug!("{}: {error}", device.display());
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(work) {
        log::error!("no thread for {name}: {error}");
    }
}

/// Whether the event says that the power button went down.
fn is_power_button(event: &[u8; EVENT_BYTES]) -> bool {
    let mut expected = Vec::new();
    expected.extend(KEY.to_ne_bytes());
    expected.extend(POWER.to_ne_bytes());
    expected.extend(1_i32.to_ne_bytes());
    event.get(TIME_BYTES..) == Some(&expected)
}

/// Ends the machine. Comes back only if the kernel refuses.
pub fn end(end: EndRequest) {
    let command = match end {
        EndRequest::PowerOff => RebootCommand::PowerOff,
        EndRequest::Restart => RebootCommand::Restart,
    };
    if let Err(error) = reboot(command) {
        log::error!("{end:?}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_button_is_told_from_other_keys() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = [7; EVENT_BYTES];
            bytes[TIME_BYTES..TIME_BYTES + 2].copy_from_slice(&kind.to_ne_bytes());
            bytes[TIME_BYTES + 2..TIME_BYTES + 4].copy_from_slice(&code.to_ne_bytes());
            bytes[TIME_BYTES + 4..].copy_from_slice(&value.to_ne_bytes());
            bytes
        };
        assert!(is_power_button(&event(1, 116, 1)));
        assert!(!is_power_button(&event(1, 116, 0)));
        assert!(!is_power_button(&event(1, 30, 1)));
        assert!(!is_power_button(&event(2, 116, 1)));
    }

    #[test]
    fn the_last_who_asks_is_heard() {
        let power = Power::default();
        assert_eq!(power.asked(), None);
        power.ask(EndRequest::Restart);
        assert_eq!(power.asked(), Some(EndRequest::Restart));
    }
}
