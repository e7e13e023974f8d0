//! YAML text becomes the tree that PyYAML's `safe_load` returns: scalars of YAML
//! 1.1, anchors, merge keys, the last of two equal keys. What Python refuses is
//! refused here too, for then the data nodes could not read the file either;
//! known exceptions, all outside of `raft:`: a tab before the first key passes,
//! and `!!omap` and `!!pairs` stay lists of maps.
//! Errors carry positions and never content: a tag or an anchor may be the head
//! of a password that lacks its quotes (S11).

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag as EventTag};

use super::error::{ConfigError, Place};
use super::node::{YamlKey, YamlNode};
use super::scalar::Tag;
use crate::limits::{CONFIG_COPIED_MAX, CONFIG_DEPTH_MAX};

/// Reads one document.
pub fn parse(text: &str, place: &Place) -> Result<YamlNode, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_characters(text, place)?;
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| ConfigError::Syntax {
            place: place.clone(),
            line: error.marker().line(),
            column: error.marker().col() + 1,
            what: format!("not YAML: {}", error.info()),
        })?;
        tree.take(event)
            .map_err(|what| syntax(place, &span, what))?;
    }
    Ok(tree.root.unwrap_or(YamlNode::Null))
}

/// An error at the start of what is wrong.
fn syntax(place: &Place, span: &Span, what: &str) -> ConfigError {
    ConfigError::Syntax {
        place: place.clone(),
        line: span.start.line(),
        column: span.start.col() + 1,
        what: what.into(),
    }
}

/// Refuses what PyYAML's reader refuses: control characters.
fn check_characters(text: &str, place: &Place) -> Result<(), ConfigError> {
    let bad = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' => false,
        '\u{fffe}' | '\u{ffff}' => true,
        c => c.is_control(),
    };
    let Some((line, row)) = text
        .split('\n')
        .enumerate()
        .find(|(_, row)| row.contains(bad))
    else {
        return Ok(());
    };
    Err(ConfigError::Syntax {
        place: place.clone(),
        line: line + 1,
        column: row.chars().take_while(|c| !bad(*c)).count() + 1,
        what: "a control character; is this a text file?".into(),
    })
}

const TAG: &str = "a tag that Patroni's YAML does not know; a text that begins with ! needs quotes";
const ALIAS: &str = "an alias inside its own anchor";
const COPIES: &str = "the aliases of this file multiply it beyond any configuration";
const DEPTH: &str = "nested deeper than any configuration";
const MERGE: &str = "<< takes a section or a list of sections";

/// A value being built; one for each level of nesting.
struct OpenValue {
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<YamlNode>),
    Map {
        own: BTreeMap<YamlKey, YamlNode>,
        merged: BTreeMap<YamlKey, YamlNode>,
        next: NextValue,
    },
}

/// What the next value of a map is.
enum NextValue {
    Key,
    Value(YamlKey),
    Merged,
}

/// A finished node, or a plain `<<` or `=`, which mean something as keys only.
enum Built {
    Node(YamlNode),
    Merge,
}

/// An anchored node, and what a copy of it costs.
struct Anchor {
    node: YamlNode,
    weight: usize,
    depth: usize,
}

#[derive(Default)]
struct Tree {
    frames: Vec<OpenValue>,
    anchors: HashMap<usize, Anchor>,
    copied: usize,
    documents: usize,
    root: Option<YamlNode>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("a second document; one file is one configuration");
                }
            }
            Event::Alias(anchor) => {
                let node = self.copy(anchor)?;
                self.add(Built::Node(node))?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let built = self.scalar(&text, style, tag.as_deref())?;
                self.finish(built, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                check_collection(tag.as_deref(), &["seq", "omap", "pairs"])?;
                self.open(anchor, Content::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                check_collection(tag.as_deref(), &["map", "set"])?;
                let map = Content::Map {
                    own: BTreeMap::new(),
                    merged: BTreeMap::new(),
                    next: NextValue::Key,
                };
                self.open(anchor, map)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.frames.pop() else {
                    return Ok(());
                };
                let node = match frame.content {
                    Content::List(list) => YamlNode::List(list),
                    // What stands in the map itself wins over what is merged.
                    Content::Map {
                        own, mut merged, ..
                    } => {
                        merged.extend(own);
                        YamlNode::Map(merged)
                    }
                };
                self.finish(Built::Node(node), frame.anchor)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize, content: Content) -> Result<(), &'static str> {
        if self.frames.len() >= CONFIG_DEPTH_MAX {
            return Err(DEPTH);
        }
        self.frames.push(OpenValue { anchor, content });
        Ok(())
    }

    /// Resolves one scalar. A lone `!` asks for the implicit tag, even of a
    /// quoted text, as PyYAML's parser has it.
    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&EventTag>,
    ) -> Result<Built, &'static str> {
        let tag = match tag.map(full_name).as_deref() {
            None if style != ScalarStyle::Plain => Tag::Text,
            None | Some("!") => Tag::of(text),
            Some(name) => Tag::named(name).ok_or(TAG)?,
        };
        match tag {
            Tag::Merge if self.key_is_next() => Ok(Built::Merge),
            Tag::Value if self.key_is_next() => Ok(Built::Node(YamlNode::Text(text.into()))),
            tag => tag
                .construct(text)
                .map(Built::Node)
                .ok_or("a value that Patroni's YAML cannot read; put it in quotes"),
        }
    }

    fn key_is_next(&self) -> bool {
        let last = self.frames.last().map(|frame| &frame.content);
        matches!(
            last,
            Some(Content::Map {
                next: NextValue::Key,
                ..
            })
        )
    }

    /// Remembers a finished node under its anchor, then puts it in its place.
    fn finish(&mut self, built: Built, anchor: usize) -> Result<(), &'static str> {
        if let (Built::Node(node), true) = (&built, anchor > 0) {
            let (weight, depth) = measure(node);
            self.pay(weight)?;
            let node = node.clone();
            let anchored = Anchor {
                node,
                weight,
                depth,
            };
            self.anchors.insert(anchor, anchored);
        }
        self.add(built)
    }

    fn copy(&mut self, anchor: usize) -> Result<YamlNode, &'static str> {
        let found = self.anchors.get(&anchor).ok_or(ALIAS)?;
        if self.frames.len() + found.depth > CONFIG_DEPTH_MAX {
            return Err(DEPTH);
        }
        let weight = found.weight;
        self.pay(weight)?;
        let found = self.anchors.get(&anchor).ok_or(ALIAS)?;
        Ok(found.node.clone())
    }

    /// Counts a copy before it is made.
    fn pay(&mut self, weight: usize) -> Result<(), &'static str> {
        self.copied = self.copied.saturating_add(weight);
        if self.copied > CONFIG_COPIED_MAX {
            return Err(COPIES);
        }
        Ok(())
    }

    fn add(&mut self, built: Built) -> Result<(), &'static str> {
        let Some(frame) = self.frames.last_mut() else {
            if let Built::Node(node) = built {
                self.root = Some(node);
            }
            return Ok(());
        };
        match (&mut frame.content, built) {
            (Content::List(list), Built::Node(node)) => list.push(node),
            (Content::Map { next, .. }, Built::Merge) => *next = NextValue::Merged,
            (Content::Map { own, merged, next }, Built::Node(node)) => {
                match std::mem::replace(next, NextValue::Key) {
                    NextValue::Key => *next = NextValue::Value(key(node)?),
                    NextValue::Value(key) => {
                        own.insert(key, node);
                    }
                    NextValue::Merged => merge(merged, node)?,
                }
            }
            (Content::List(_), Built::Merge) => return Err(MERGE),
        }
        Ok(())
    }
}

/// A later `<<` wins over an earlier one; inside a list the first map wins.
fn merge(merged: &mut BTreeMap<YamlKey, YamlNode>, node: YamlNode) -> Result<(), &'static str> {
    match node {
        YamlNode::Map(map) => merged.extend(map),
        YamlNode::List(maps) => {
            for map in maps.into_iter().rev() {
                let YamlNode::Map(map) = map else {
                    return Err(MERGE);
                };
                merged.extend(map);
            }
        }
        _ => return Err(MERGE),
    }
    Ok(())
}

/// A key: any value that Python can hash.
fn key(node: YamlNode) -> Result<YamlKey, &'static str> {
    Ok(match node {
        YamlNode::Text(text) => YamlKey::Text(text),
        YamlNode::Null => YamlKey::Other("None".into()),
        YamlNode::Bool(true) => YamlKey::Other("True".into()),
        YamlNode::Bool(false) => YamlKey::Other("False".into()),
        YamlNode::Int(Some(value)) => YamlKey::Other(value.to_string()),
        YamlNode::Float(value) => YamlKey::Other(value.to_string()),
        YamlNode::Int(None) => YamlKey::Other("(a large number)".into()),
        YamlNode::Bytes(_) => YamlKey::Other("(bytes)".into()),
        YamlNode::Time => YamlKey::Other("(a date)".into()),
        YamlNode::List(_) | YamlNode::Map(_) => return Err("a list or a section cannot be a key"),
    })
}

/// Values plus bytes of text of a node, and its depth (at most the cap's, so
/// that this recursion ends).
fn measure(node: &YamlNode) -> (usize, usize) {
    let sum = |(weight, depth): (usize, usize), (more, deep): (usize, usize)| {
        (weight.saturating_add(more), depth.max(deep + 1))
    };
    match node {
        YamlNode::Text(text) => (1 + text.len(), 0),
        YamlNode::Bytes(bytes) => (1 + bytes.len(), 0),
        YamlNode::List(list) => list.iter().map(measure).fold((1, 1), sum),
        YamlNode::Map(map) => map
            .iter()
            .map(|(key, node)| {
                let (weight, depth) = measure(node);
                (weight.saturating_add(1 + key.as_str().len()), depth)
            })
            .fold((1, 1), sum),
        _ => (1, 0),
    }
}

/// `!!str` comes as its two halves, `!` as one of them.
fn full_name(tag: &EventTag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

fn check_collection(tag: Option<&EventTag>, allowed: &[&str]) -> Result<(), &'static str> {
    let Some(name) = tag.map(full_name) else {
        return Ok(());
    };
    let known = name
        .strip_prefix("tag:yaml.org,2002:")
        .is_some_and(|suffix| allowed.contains(&suffix));
    if known || name == "!" {
        Ok(())
    } else {
        Err(TAG)
    }
}
