//! Plain scalars as PyYAML's SafeLoader resolves them, which is YAML 1.1 with
//! its own expressions: `0123` is 83, `yes` is true, `1:30` is 90 and `1e3` is a
//! text. A witness that read them otherwise than the data nodes would derive
//! another key from the same file. `tests/python/yaml_scalars.py` writes the
//! table that holds this to the real PyYAML.

use super::node::YamlNode;

/// The tag PyYAML gives to a plain scalar; the suffix of `tag:yaml.org,2002:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `bool`
    Bool,
    /// `float`
    Float,
    /// `int`
    Int,
    /// `merge`, the key `<<`
    Merge,
    /// `null`
    Null,
    /// `timestamp`
    Time,
    /// `value`, the key `=`
    Value,
    /// `binary`, never implicit
    Binary,
    /// `str`
    Text,
}

impl Tag {
    /// The tag whose full name is `name`; none for those without a constructor.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("tag:yaml.org,2002:")? {
            "bool" => Self::Bool,
            "float" => Self::Float,
            "int" => Self::Int,
            "merge" => Self::Merge,
            "null" => Self::Null,
            "timestamp" => Self::Time,
            "value" => Self::Value,
            "binary" => Self::Binary,
            "str" => Self::Text,
            _ => return None,
        })
    }

    /// The tag of a plain scalar without one (PyYAML's implicit resolvers, in
    /// their order).
    pub fn of(text: &str) -> Self {
        match text {
            "<<" => Self::Merge,
            "=" => Self::Value,
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            _ if boolean_words(text) => Self::Bool,
            _ if is_float(text) => Self::Float,
            _ if is_int(text) => Self::Int,
            _ if is_time(text) => Self::Time,
            _ => Self::Text,
        }
    }

    /// The value of `text` under this tag; none where Python raises.
    pub fn construct(self, text: &str) -> Option<YamlNode> {
        Some(match self {
            Self::Null => YamlNode::Null,
            Self::Text => YamlNode::Text(text.into()),
            Self::Bool => YamlNode::Bool(boolean(text)?),
            Self::Int => YamlNode::Int(int(text)?),
            Self::Float => YamlNode::Float(float(text)?),
            Self::Time => is_time(text).then_some(YamlNode::Time)?,
            Self::Binary => YamlNode::Bytes(binary(text)?),
            // The safe loader has no constructor for these.
            Self::Merge | Self::Value => return None,
        })
    }
}

/// Whether one of the three spellings of a boolean word stands here.
fn boolean_words(text: &str) -> bool {
    let capital = text.chars().next().is_some_and(char::is_uppercase);
    let rest = text.get(1..).unwrap_or("");
    boolean(text).is_some()
        && (rest == rest.to_lowercase() || (capital && rest == rest.to_uppercase()))
}

/// `yes`, `no`, `true`, `false`, `on` and `off` in any case.
fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" => Some(true),
        "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// The text without one leading sign, and whether that was a minus.
fn unsigned(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or("")),
        Some(b'+') => (false, text.get(1..).unwrap_or("")),
        _ => (false, text),
    }
}

/// `[set_]+`
fn all(text: &str, set: fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.as_bytes().iter().all(|b| *b == b'_' || set(b))
}

/// `[0-9][0-9_]*`
fn number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && all(text, u8::is_ascii_digit)
}

/// `[0-5]?[0-9]`
fn sixtieth(text: &str) -> bool {
    match text.as_bytes() {
        [unit] => unit.is_ascii_digit(),
        [ten, unit] => (b'0'..=b'5').contains(ten) && unit.is_ascii_digit(),
        _ => false,
    }
}

/// `HEAD(?::[0-5]?[0-9])+`
fn sexagesimal(text: &str, head: fn(&str) -> bool) -> bool {
    let mut parts = text.split(':');
    parts.next().is_some_and(head) && text.contains(':') && parts.all(sixtieth)
}

/// `[1-9][0-9_]*`
fn number_without_zero(text: &str) -> bool {
    number(text) && !text.starts_with('0')
}

fn is_int(text: &str) -> bool {
    let (_, digits) = unsigned(text);
    let after = |prefix: &str| digits.strip_prefix(prefix);
    after("0b").is_some_and(|bits| all(bits, |b| matches!(b, b'0' | b'1')))
        || after("0").is_some_and(|octal| all(octal, |b| (b'0'..=b'7').contains(b)))
        || after("0x").is_some_and(|hex| all(hex, u8::is_ascii_hexdigit))
        || digits == "0"
        || number_without_zero(digits)
        || sexagesimal(digits, number_without_zero)
}

fn is_float(text: &str) -> bool {
    let (_, body) = unsigned(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    // The exponent needs its sign: `1.0e3` is a text to PyYAML.
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (body.get(..at).unwrap_or(""), body.get(at + 1..)),
        None => (body, None),
    };
    let exponent_fits = exponent.is_none_or(|digits| {
        digits.starts_with(['-', '+'])
            && digits.len() > 1
            && digits.bytes().skip(1).all(|b| b.is_ascii_digit())
    });
    let Some((whole, fraction)) = mantissa.split_once('.') else {
        return false;
    };
    let fraction_fits = fraction.is_empty() || all(fraction, u8::is_ascii_digit);
    let plain = fraction_fits && exponent_fits && number(whole);
    // A sign before a bare point makes it a text: `-.5`.
    let bare = whole.is_empty() && number(fraction) && exponent_fits && body == text;
    let sixties = exponent.is_none() && fraction_fits && sexagesimal(whole, number);
    plain || bare || sixties
}

/// The two shapes of a timestamp: a date, or date, time and zone.
fn is_time(text: &str) -> bool {
    let Some((year, rest)) = text.split_at_checked(4) else {
        return false;
    };
    if !digits(year, 4..=4) {
        return false;
    }
    let cut = rest.find(['T', 't', ' ', '\t']).unwrap_or(rest.len());
    let (date, clock) = rest.split_at(cut);
    let mut fields = date.split('-');
    let (Some(""), Some(month), Some(day), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return false;
    };
    if clock.is_empty() {
        return digits(month, 2..=2) && digits(day, 2..=2);
    }
    let clock = clock
        .strip_prefix(['T', 't'])
        .unwrap_or_else(|| clock.trim_start_matches([' ', '\t']));
    digits(month, 1..=2) && digits(day, 1..=2) && is_clock(clock)
}

/// `[0-9][0-9]?:[0-9][0-9]:[0-9][0-9](\.[0-9]*)?` and a zone.
fn is_clock(text: &str) -> bool {
    let zone_at = text.find(['Z', '-', '+', ' ', '\t']).unwrap_or(text.len());
    let (clock, zone) = text.split_at(zone_at);
    let zone = zone.trim_start_matches([' ', '\t']);
    let mut fields = clock.splitn(3, ':');
    let (Some(hour), Some(minute), Some(second)) = (fields.next(), fields.next(), fields.next())
    else {
        return false;
    };
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    let zone_fits = match zone.strip_prefix(['-', '+']) {
        Some(offset) => match offset.split_once(':') {
            Some((hours, minutes)) => digits(hours, 1..=2) && digits(minutes, 2..=2),
            None => digits(offset, 1..=2),
        },
        None => zone == "Z" || zone_at == text.len(),
    };
    digits(hour, 1..=2)
        && digits(minute, 2..=2)
        && digits(second, 2..=2)
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && zone_fits
}

/// Whether the text is that many ASCII digits.
fn digits(text: &str, count: std::ops::RangeInclusive<usize>) -> bool {
    count.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// `construct_yaml_int`: the outer none is Python's ValueError, the inner one a
/// number beyond 128 bits.
fn int(text: &str) -> Option<Option<i128>> {
    let text = text.replace('_', "");
    let (minus, body) = unsigned(&text);
    let magnitude = if let Some(bits) = body.strip_prefix("0b") {
        radix(bits, 2)?
    } else if let Some(hex) = body.strip_prefix("0x") {
        radix(hex, 16)?
    } else if body.starts_with('0') {
        radix(body, 8)?
    } else if body.contains(':') {
        let mut sum = Some(0_i128);
        for part in body.split(':') {
            let digit = radix(part, 10)?;
            sum = sum
                .and_then(|sum| sum.checked_mul(60))
                .and_then(|sum| sum.checked_add(digit?));
        }
        sum
    } else {
        radix(body, 10)?
    };
    Some(magnitude.map(|value| if minus { -value } else { value }))
}

/// Digits of a base, without a sign.
fn radix(digits: &str, base: u32) -> Option<Option<i128>> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    Some(i128::from_str_radix(digits, base).ok())
}

/// `construct_yaml_float`.
fn float(text: &str) -> Option<f64> {
    let text = text.replace('_', "").to_lowercase();
    let (minus, body) = unsigned(&text);
    let magnitude = match body {
        ".inf" => f64::INFINITY,
        ".nan" => f64::NAN,
        _ if body.contains(':') => {
            // From the right, as Python does, so that rounding is the same.
            let mut sum = 0.0;
            let mut base = 1.0;
            for part in body.rsplit(':') {
                sum += part.parse::<f64>().ok()? * base;
                base *= 60.0;
            }
            sum
        }
        _ => body.parse().ok()?,
    };
    Some(if minus { -magnitude } else { magnitude })
}

/// `!!binary`: base64, white space left out.
fn binary(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD
        .decode(packed)
        .ok()
}
