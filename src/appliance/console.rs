//! Standard error of this process and of the witness, on every console that the
//! kernel has: a screen and a serial line alike. `/dev/console` alone would be the
//! last of them.
//!
//! A serial line writes eleven kilobytes a second and may be stopped by whoever is
//! on its other end; neither the witness nor the screen must wait for it. So one
//! thread takes lines from the pipe and never blocks, and one for each console
//! writes them out; what is too much in between is dropped, and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::fs::OFlags;

use crate::limits::{CONSOLE_LINE_BYTES_MAX, CONSOLE_LINES_MAX};

/// From now on standard error goes to all consoles.
///
/// # Errors
/// There is no pipe or no thread to be had.
pub fn start() -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    let mut outlets = Vec::new();
    for console in consoles() {
        let (sender, receiver) = sync_channel(CONSOLE_LINES_MAX);
        outlets.push(Outlet { sender, dropped: 0 });
        thread::Builder::new()
            .name("console".into())
            .spawn(move || write_out(&receiver, console))?;
    }
    thread::Builder::new()
        .name("lines".into())
        .spawn(move || take_lines(reader, &mut outlets))?;
    rustix::stdio::dup2_stderr(&writer)?;
    rustix::stdio::dup2_stdout(&writer)?;
    Ok(())
}

/// `tty0 ttyS0` and the like; without `/sys` the one that the kernel prefers.
fn consoles() -> Vec<File> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let open = |name: &str| {
        let mut options = OpenOptions::new();
        let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap_or(0);
        options
            .write(true)
            .custom_flags(flags)
            .open(format!("/dev/{name}"))
            .ok()
    };
    let found: Vec<File> = active.split_whitespace().filter_map(open).collect();
    if found.is_empty() {
        open("console").into_iter().collect()
    } else {
        found
    }
}

/// The way to one console.
struct Outlet {
    sender: SyncSender<ConsoleLine>,
    dropped: u64,
}

type ConsoleLine = Arc<[u8]>;

impl Outlet {
    fn offer(&mut self, line: &ConsoleLine) {
        if self.dropped > 0 {
            let news = format!("({} lines more than the console can show)\n", self.dropped);
            if self.sender.try_send(news.into_bytes().into()).is_ok() {
                self.dropped = 0;
            }
        }
        if self.sender.try_send(line.clone()).is_err() {
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

fn take_lines(reader: impl io::Read, outlets: &mut [Outlet]) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(CONSOLE_LINE_BYTES_MAX).unwrap_or(u64::MAX);
        match reader.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.last() != Some(&b'\n') => line.push(b'\n'),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        let line = line.into();
        for outlet in &mut *outlets {
            outlet.offer(&line);
        }
    }
}

fn write_out(receiver: &Receiver<ConsoleLine>, mut console: File) {
    while let Ok(line) = receiver.recv() {
        let _ = console.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(lines: usize) -> (Outlet, Receiver<ConsoleLine>) {
        let (sender, receiver) = sync_channel(lines);
        (Outlet { sender, dropped: 0 }, receiver)
    }

    #[test]
    fn a_console_that_is_stopped_holds_up_neither_the_lines_nor_another_console() {
        let ((stopped, held), (well, shown)) = (outlet(2), outlet(9));
        let mut outlets = [stopped, well];
        take_lines(b"one\ntwo\nthree\nfour\n".as_slice(), &mut outlets);
        assert_eq!(shown.try_iter().count(), 4);
        assert_eq!(held.try_iter().count(), 2);
        take_lines(b"five\n".as_slice(), &mut outlets);
        let told: Vec<_> = held.try_iter().collect();
        assert_eq!(&*told[0], b"(2 lines more than the console can show)\n");
        assert_eq!(&*told[1], b"five\n");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (outlet, receiver) = outlet(9);
        let long = "x".repeat(CONSOLE_LINE_BYTES_MAX + 1);
        take_lines(long.as_bytes(), &mut [outlet]);
        let lengths: Vec<_> = receiver.try_iter().map(|line| line.len()).collect();
        assert_eq!(lengths, [CONSOLE_LINE_BYTES_MAX + 1, 2]);
    }
}
