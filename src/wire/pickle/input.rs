//! The arguments of opcodes: counted bytes, lines, numbers, text.

use super::PickleError as Error;
use crate::limits::PICKLE_INT_BYTES_MAX;
use crate::wire::python_eq::signed;
use crate::wire::value::Value;

/// What is left of the pickle.
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Error::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Error::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// The bytes behind a little-endian count of `width` bytes. A negative
    /// count is a huge one, and so an early end.
    pub(super) fn counted(&mut self, width: usize) -> Result<&'a [u8], Error> {
        let mut wide = [0; 8];
        for (to, from) in wide.iter_mut().zip(self.take(width)?) {
            *to = *from;
        }
        let count = usize::try_from(u64::from_le_bytes(wide)).map_err(|_| Error::Truncated)?;
        self.take(count)
    }

    pub(super) fn index(&mut self) -> Result<usize, Error> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| Error::Memo)
    }

    pub(super) fn line(&mut self) -> Result<&'a [u8], Error> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or(Error::Truncated)?)?;
        self.byte()?;
        Ok(line)
    }

    pub(super) fn text_line(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.line()?).map_err(|_| Error::Text)
    }
}

/// The `bytes` that a text stands for in `_codecs.encode(text, 'latin1')`: each
/// code point is one byte.
pub(super) fn latin1(text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(lead) = rest.next() {
        bytes.push(match *lead {
            ascii @ 0..=0x7f => ascii,
            lead @ 0xc2..=0xc3 => {
                let tail = rest.next().ok_or(Error::Text)?;
                (lead & 3) << 6 | (tail & 0x3f)
            }
            _ => return Err(Error::Text),
        });
    }
    Ok(bytes)
}

pub(super) fn wide_int(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.len() > PICKLE_INT_BYTES_MAX {
        return Err(Error::Limit("integer width"));
    }
    Ok(Value::int_from_le(bytes))
}

/// A decimal `int` of any width up to the cap.
pub(super) fn decimal(text: &[u8]) -> Result<Value, Error> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Error::Number);
    }
    // A byte takes more than two digits; leading zeros are not worth more.
    if digits.len() > 2 * PICKLE_INT_BYTES_MAX {
        return Err(Error::Limit("integer width"));
    }
    let mut magnitude: Vec<u8> = Vec::new();
    for digit in digits {
        let mut carry = u16::from(digit - b'0');
        for byte in &mut magnitude {
            let [low, high] = (u16::from(*byte) * 10 + carry).to_le_bytes();
            (*byte, carry) = (low, u16::from(high));
        }
        let [low, _] = carry.to_le_bytes();
        if low != 0 {
            magnitude.push(low);
        }
    }
    Ok(signed(magnitude, negative))
}
