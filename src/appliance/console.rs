//! Standard error of this process and of the witness, on every console that the
//! kernel has: a screen and a serial line alike. `/dev/console` alone would be the
//! last of them.
//!
//! A serial line writes eleven kilobytes a second and may be stopped by whoever is
//! on its other end; the witness must not wait for it. So one thread takes lines
//! from the pipe and never blocks, and another writes them out; what is too much
//! between the two is dropped, and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use rustix::fs::OFlags;

use crate::config::limits::{CONSOLE_LINE_BYTES_MAX, CONSOLE_LINES_MAX};

/// From now on standard error goes to all consoles.
///
/// # Errors
/// There is no pipe or no thread to be had.
pub fn start() -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    let (sender, receiver) = sync_channel(CONSOLE_LINES_MAX);
    let consoles = consoles();
    thread::Builder::new()
        .name("console".into())
        .spawn(move || write_out(&receiver, consoles))?;
    thread::Builder::new()
        .name("lines".into())
        .spawn(move || take_lines(reader, &sender))?;
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

fn take_lines(reader: impl io::Read, sender: &SyncSender<Vec<u8>>) {
    let mut reader = BufReader::new(reader);
    let mut dropped = 0_u64;
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
        if dropped > 0 {
            let news = format!("({dropped} lines more than the console can show)\n");
            if sender.try_send(news.into_bytes()).is_ok() {
                dropped = 0;
            }
        }
        match sender.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => dropped = dropped.saturating_add(1),
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}

fn write_out(receiver: &Receiver<Vec<u8>>, mut consoles: Vec<File>) {
    while let Ok(line) = receiver.recv() {
        for console in &mut consoles {
            let _ = console.write_all(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_pass_whole_and_what_is_too_much_is_counted() {
        let (sender, receiver) = sync_channel(2);
        let long = "x".repeat(CONSOLE_LINE_BYTES_MAX + 1);
        take_lines(
            format!("one\ntwo\nthree\nfour\n{long}\n").as_bytes(),
            &sender,
        );
        drop(sender);
        let lines: Vec<_> = receiver.iter().collect();
        assert_eq!(lines, [b"one\n", b"two\n"]);

        let (sender, receiver) = sync_channel(9);
        take_lines(long.as_bytes(), &sender);
        drop(sender);
        let lengths: Vec<_> = receiver.iter().map(|line| line.len()).collect();
        assert_eq!(lengths, [CONSOLE_LINE_BYTES_MAX + 1, 2]);
    }
}
