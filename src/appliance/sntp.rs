//! One question to a time server and what its answer means (RFC 4330, the client
//! of RFC 5905 in one packet), without I/O. What comes of it sets the wall clock,
//! on which no decision depends: the worst that a liar does is a wrong time in
//! the log.
//!
//! Forty-eight bytes each way. `sntpc` was weighed: it wants the wall clock as its
//! measure, which is what we lack, and takes it through a trait of our own making;
//! what it then saves is the two dozen lines below.

use std::time::Duration;

/// Length of a message without extensions, in bytes.
pub const BYTES: usize = 48;

/// From 1900, where NTP counts from, to 1970, in seconds.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// The first second of the next era, from 1900.
const ERA: u64 = 1 << 32;

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No server's message, or the answer to another question.
    NotOurs,
    /// The server says that it does not know the time, or will not tell.
    Unsynchronised,
}

/// A question: version 4, client, and a number that the answer tells back.
pub fn question(nonce: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let (head, transmitted) = bytes.split_at_mut(40);
    if let Some(first) = head.first_mut() {
        *first = 0b00_100_011;
    }
    transmitted.copy_from_slice(&nonce.to_be_bytes());
    bytes
}

/// The time since 1970 when the answer came, `elapsed` after its question went.
///
/// # Errors
/// The answer is not ours, or the server does not know.
pub fn time(answer: &[u8], nonce: u64, elapsed: Duration) -> Result<Duration, Refused> {
    let word = |at: usize| -> Option<u64> {
        let bytes = answer.get(at..at.checked_add(8)?)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let (Some([first, stratum, ..]), Some(originate), Some(received), Some(sent)) =
        (answer.first_chunk::<BYTES>(), word(24), word(32), word(40))
    else {
        return Err(Refused::NotOurs);
    };
    if first & 0b111 != 4 || originate != nonce {
        return Err(Refused::NotOurs);
    }
    if first >> 6 == 3 || !(1..=15).contains(stratum) || sent == 0 {
        return Err(Refused::Unsynchronised);
    }
    let there = since_1970(sent).saturating_sub(since_1970(received));
    // Half of the way there and back, less what the server took.
    Ok(since_1970(sent) + elapsed.saturating_sub(there) / 2)
}

/// Seconds of 32 bits and a fraction. Those before 1968 are of the next era, which
/// begins in 2036.
fn since_1970(timestamp: u64) -> Duration {
    let seconds = timestamp >> 32;
    let seconds = if seconds < 1 << 31 {
        seconds + ERA
    } else {
        seconds
    };
    let nanos = ((timestamp & 0xffff_ffff) * 1_000_000_000) >> 32;
    let nanos = u32::try_from(nanos).unwrap_or(0);
    Duration::new(seconds.saturating_sub(NTP_TO_UNIX), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: u64 = 0x0123_4567_89ab_cdef;

    fn answer(first: u8, stratum: u8, originate: u64, received: u64, sent: u64) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        bytes[0] = first;
        bytes[1] = stratum;
        bytes[24..32].copy_from_slice(&originate.to_be_bytes());
        bytes[32..40].copy_from_slice(&received.to_be_bytes());
        bytes[40..48].copy_from_slice(&sent.to_be_bytes());
        bytes
    }

    /// 2026-11-23T00:00:00Z, and half a second.
    const RECEIVED: u64 = (4_004_380_800 << 32) + (1 << 31);
    const SENT: u64 = RECEIVED + (1 << 30);
    const SERVER: u8 = 0b00_100_100;

    #[test]
    fn the_time_is_the_servers_and_half_of_the_way() {
        let answer = answer(SERVER, 2, NONCE, RECEIVED, SENT);
        let time = time(&answer, NONCE, Duration::from_millis(450)).unwrap();
        assert_eq!(time, Duration::new(1_795_392_000, 850_000_000));
        assert_eq!(question(NONCE)[0], 0x23);
        assert_eq!(question(NONCE)[40..], NONCE.to_be_bytes());
    }

    #[test]
    fn the_era_ends_in_2036_and_time_goes_on() {
        assert_eq!(
            since_1970(u64::from(u32::MAX) << 32).as_secs(),
            2_085_978_495
        );
        assert_eq!(since_1970(0).as_secs(), 2_085_978_496);
    }

    #[test]
    fn another_answer_and_a_server_without_time_are_refused() {
        let second = Duration::from_secs(1);
        for (bytes, why) in [
            (
                answer(SERVER, 2, NONCE ^ 1, RECEIVED, SENT),
                Refused::NotOurs,
            ),
            (answer(0x23, 2, NONCE, RECEIVED, SENT), Refused::NotOurs),
            (
                answer(SERVER, 2, NONCE, RECEIVED, SENT)[..47].to_vec(),
                Refused::NotOurs,
            ),
            (Vec::new(), Refused::NotOurs),
            // Kiss of death, alarm, no time.
            (
                answer(SERVER, 0, NONCE, RECEIVED, SENT),
                Refused::Unsynchronised,
            ),
            (
                answer(SERVER | 0xc0, 2, NONCE, RECEIVED, SENT),
                Refused::Unsynchronised,
            ),
            (
                answer(SERVER, 2, NONCE, RECEIVED, 0),
                Refused::Unsynchronised,
            ),
        ] {
            assert_eq!(time(&bytes, NONCE, second), Err(why));
        }
    }
}
