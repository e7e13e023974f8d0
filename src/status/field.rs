//! The fields of a JSON object that somebody else wrote: Patroni's values in the
//! replicated store. The text is gone through once; each field is then read by
//! itself, so that one which is not as expected costs only itself. What is too
//! long or too deep is not looked at.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json_core::de;

use crate::limits::{STATUS_JSON_BYTES_MAX, STATUS_JSON_DEPTH_MAX, STATUS_JSON_FIELDS_MAX};

/// An object, its fields found and not read yet.
#[derive(Debug, Default)]
pub struct Object<'a> {
    /// Key, between its quotes as it stands there, and value.
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Object<'a> {
    /// The object in `json`; none if there is no object, or it is beyond the caps.
    pub fn parse(json: &'a str) -> Option<Self> {
        if json.len() > STATUS_JSON_BYTES_MAX {
            return None;
        }
        let json = json.trim();
        let inner = json.strip_prefix('{')?;
        let mut fields = Vec::new();
        let (mut start, mut key) = (0, None);
        let mut end = None;
        let mut nesting = Nesting::default();
        for (at, byte) in inner.bytes().enumerate() {
            let depth = nesting.depth;
            match (nesting.step(byte)?, depth) {
                (b':', 0) if key.is_none() => {
                    key = Some(inner.get(start..at)?);
                    start = at + 1;
                }
                (b',' | b'}', 0) => {
                    let value = inner.get(start..at)?.trim();
                    start = at + 1;
                    match key.take() {
                        Some(key) => fields.push((unquoted(key)?, value)),
                        None if byte == b'}' && value.is_empty() && fields.is_empty() => {}
                        None => return None,
                    }
                    if byte == b'}' {
                        end = Some(start);
                        break;
                    }
                }
                _ => {}
            }
            if fields.len() > STATUS_JSON_FIELDS_MAX {
                return None;
            }
        }
        (end? == inner.len()).then_some(Self { fields })
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The field at `path`; none if it is not there, or is no `T`.
    pub fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Option<T> {
        let (first, rest) = path.split_first()?;
        let value = self.value(first)?;
        if rest.is_empty() {
            read(value)
        } else {
            Object::parse(value)?.get(rest)
        }
    }

    /// The object in a field.
    pub fn object(&self, name: &str) -> Option<Object<'a>> {
        Object::parse(self.value(name)?)
    }

    /// The names of its fields, at most `max` of them.
    pub fn names(&self, max: usize) -> Vec<String> {
        let names = self.fields.iter().filter_map(|(key, _)| text(key));
        names.take(max).collect()
    }

    /// Of equal keys the last counts, as in Python.
    fn value(&self, name: &str) -> Option<&'a str> {
        let is_it = |key: &str| match key.contains('\\') {
            true => text(key).is_some_and(|key| key == name),
            false => key == name,
        };
        let mut fields = self.fields.iter().rev();
        fields.find(|(key, _)| is_it(key)).map(|(_, value)| *value)
    }
}

/// How many elements the list in `json` has.
pub fn count(json: &str) -> Option<u64> {
    if json.len() > STATUS_JSON_BYTES_MAX {
        return None;
    }
    let mut nesting = Nesting::default();
    for byte in json.bytes() {
        nesting.step(byte)?;
    }
    read::<Count>(json).map(|Count(count)| count)
}

/// Where in a JSON text one is.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Nesting {
    /// Goes on by one byte: what it is to the structure, 0 if nothing. None
    /// beyond the depth that may be read: the reader skips what it does not look
    /// for by recursion (S9).
    fn step(&mut self, byte: u8) -> Option<u8> {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            _ if self.in_text => {}
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                return Some(byte);
            }
            b':' | b',' => return Some(byte),
            _ => {}
        }
        (self.depth <= STATUS_JSON_DEPTH_MAX).then_some(0)
    }
}

fn unquoted(key: &str) -> Option<&str> {
    key.trim().strip_prefix('"')?.strip_suffix('"')
}

/// The text of a key that stands between quotes.
fn text(key: &str) -> Option<String> {
    read(&format!("\"{key}\""))
}

/// A value, whose depth was asked before.
fn read<T: DeserializeOwned>(json: &str) -> Option<T> {
    let mut unescaped = vec![0; json.len()];
    let mut reader = de::Deserializer::new(json.as_bytes(), Some(&mut unescaped));
    Option::<T>::deserialize(&mut reader).ok().flatten()
}

/// How many elements a list has.
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Count;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        reader.deserialize_seq(Elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: &str = r#"{"conn_url": "postgres://10.0.0.1:5432/postgres", "odd": {"a": [1, {"b": null}]},
        "state": "running", "xlog_location": 67108960, "name": "caf\u00e9 \"1\"", "tags": {"nofailover": true, "clonefrom": "x"},
        "pause": 1, "nothing": null}"#;

    #[test]
    fn a_field_that_is_not_as_expected_costs_only_itself() {
        let member = Object::parse(MEMBER).unwrap();
        assert_eq!(member.get::<String>(&["state"]).as_deref(), Some("running"));
        assert_eq!(member.get::<u64>(&["xlog_location"]), Some(67_108_960));
        assert_eq!(
            member.get::<String>(&["name"]).as_deref(),
            Some("café \"1\"")
        );
        assert_eq!(member.get::<bool>(&["tags", "nofailover"]), Some(true));
        assert_eq!(member.get::<bool>(&["pause"]), None);
        assert_eq!(member.get::<u64>(&["pause"]), Some(1));
        assert_eq!(member.get::<u64>(&["nothing"]), None);
        assert_eq!(member.get::<u64>(&["missing"]), None);
        assert_eq!(member.get::<u64>(&["state", "deeper"]), None);
        assert_eq!(
            member.object("tags").unwrap().names(1),
            ["nofailover".to_owned()]
        );
        assert!(member.object("state").is_none());
    }

    #[test]
    fn what_is_hostile_is_nothing() {
        // S9: an unbounded recursion would end the process.
        let deep = format!("{{\"a\": {}", "[".repeat(60_000));
        let deep_objects = "{\"a\":".repeat(10_000);
        let long = format!("{{\"a\": \"{}\", \"b\": 1}}", "x".repeat(1 << 20));
        for text in [
            "",
            "null",
            "{",
            "{\"b\"",
            "{\"b\":",
            "\u{0}",
            "{\"a\" 1}",
            "{\"b\": 1",
            "{\"b\": 1}, 2",
            "{\"b\": 1}}",
            "{1: 1}",
            "{,}",
            "{\"b\": 1,}",
            "\"",
            &deep,
            &deep_objects,
            &long,
        ] {
            assert!(Object::parse(text).is_none(), "{text:.40}");
            assert_eq!(count(text), None, "{text:.40}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_stops_it(text in "[\\[\\]{}\",:a\\\\0-9 nulltrue]{0,200}") {
            let _ = count(&text);
            if let Some(object) = Object::parse(&text) {
                let _ = object.get::<u64>(&["a"]);
                let _ = object.get::<String>(&["a", "a"]);
                let _ = object.names(9);
            }
        }

        #[test]
        fn what_was_written_is_read(keys in proptest::collection::vec("[a-c\"\\\\:,{}\\[\\] é]{0,6}", 0..6)) {
            // Of equal keys the last counts.
            let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let field = |(n, key): (usize, &String)| {
                format!("\"{}\" : {{\"text\":\"{}\", \"n\":{n}}}", escaped(key), escaped(key))
            };
            let fields: Vec<_> = keys.iter().enumerate().map(field).collect();
            let json = format!(" {{{}}} ", fields.join(" , "));
            let object = Object::parse(&json).unwrap();
            proptest::prop_assert_eq!(object.names(9), keys.clone());
            for key in &keys {
                let last = keys.iter().rposition(|other| other == key).unwrap();
                proptest::prop_assert_eq!(object.get::<usize>(&[key, "n"]), Some(last));
                let text = object.get::<String>(&[key, "text"]);
                proptest::prop_assert_eq!(text.as_ref(), Some(key));
            }
        }
    }
}
