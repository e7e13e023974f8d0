//! One field of a JSON text that somebody else wrote: Patroni's values in the
//! replicated store. Each field is read by itself, so that one which is not as
//! expected costs only itself; what is too long or too deep is not looked at.

use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json_core::de;

use crate::config::limits::{STATUS_JSON_BYTES_MAX, STATUS_JSON_DEPTH_MAX};

/// The field at `path` of the object in `json`; none if it is not there, or is
/// no `T`, or `json` is beyond the caps.
pub fn field<T: DeserializeOwned>(json: &str, path: &[&str]) -> Option<T> {
    if !within_caps(json) {
        return None;
    }
    let mut unescaped = vec![0; json.len()];
    let mut reader = de::Deserializer::new(json.as_bytes(), Some(&mut unescaped));
    let seed = At {
        path,
        wanted: PhantomData,
    };
    seed.deserialize(&mut reader).ok().flatten()
}

/// The names in the object at `path`, at most `max` of them.
pub fn names(json: &str, path: &[&str], max: usize) -> Option<Vec<String>> {
    let Names(mut names) = field(json, path)?;
    names.truncate(max);
    Some(names)
}

/// Whether there is an object at `path`.
pub fn has_object(json: &str, path: &[&str]) -> bool {
    field::<Names>(json, path).is_some()
}

/// How many elements the list in `json` has.
pub fn count(json: &str) -> Option<u64> {
    field::<Count>(json, &[]).map(|Count(count)| count)
}

/// Whether `json` is an object that could hold fields.
pub fn is_object(json: &str) -> bool {
    within_caps(json) && json.trim_start().starts_with('{')
}

/// The reader skips what it does not look for by recursion, so depth is asked
/// first (S9).
fn within_caps(json: &str) -> bool {
    if json.len() > STATUS_JSON_BYTES_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > STATUS_JSON_DEPTH_MAX {
            return false;
        }
    }
    true
}

/// What stands at a path, if it is a `T`.
struct At<'p, T> {
    path: &'p [&'p str],
    wanted: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for At<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<T>, D::Error> {
        if self.path.is_empty() {
            Option::<T>::deserialize(reader)
        } else {
            reader.deserialize_map(self)
        }
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for At<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            return Ok(None);
        };
        // Of equal keys the last counts, as in Python.
        let mut found = None;
        while let Some(Key(key)) = map.next_key()? {
            if key == *first {
                found = map.next_value_seed(At {
                    path: rest,
                    wanted: self.wanted,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A key. As a `String` it would be asked for in a way at which the reader
/// panics (`MapKey` of 0.7.0 knows only `deserialize_str` and identifiers).
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Key;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(text.into()))
            }
        }
        reader.deserialize_str(Text)
    }
}

/// The keys of an object.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    map.next_value::<IgnoredAny>()?;
                    names.push(key);
                }
                Ok(Names(names))
            }
        }
        reader.deserialize_map(Keys)
    }
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
        assert_eq!(
            field::<String>(MEMBER, &["state"]).as_deref(),
            Some("running")
        );
        assert_eq!(field::<u64>(MEMBER, &["xlog_location"]), Some(67_108_960));
        assert_eq!(
            field::<String>(MEMBER, &["name"]).as_deref(),
            Some("café \"1\"")
        );
        assert_eq!(field::<bool>(MEMBER, &["tags", "nofailover"]), Some(true));
        assert_eq!(field::<bool>(MEMBER, &["pause"]), None);
        assert_eq!(field::<u64>(MEMBER, &["pause"]), Some(1));
        assert_eq!(field::<u64>(MEMBER, &["nothing"]), None);
        assert_eq!(field::<u64>(MEMBER, &["missing"]), None);
        assert_eq!(field::<u64>(MEMBER, &["state", "deeper"]), None);
        assert_eq!(
            names(MEMBER, &["tags"], 1),
            Some(vec!["nofailover".to_owned()])
        );
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
            "[]",
            "{",
            "{\"b\"",
            "{\"b\":",
            "\u{0}",
            "{\"a\" 1}",
            "\"",
            &deep,
            &deep_objects,
            &long,
        ] {
            assert_eq!(field::<u64>(text, &["b"]), None);
            assert_eq!(names(text, &["b"], 3), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_stops_it(text in "[\\[\\]{}\",:a\\\\0-9 nulltrue]{0,200}") {
            let _ = field::<u64>(&text, &["a"]);
            let _ = field::<String>(&text, &["a", "a"]);
            let _ = names(&text, &["a"], 9);
        }
    }
}
