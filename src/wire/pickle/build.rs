//! How the decoder's containers and objects come about: items are frozen as
//! another value takes them in, and the few calls that stand for data are made.

use super::PickleError as Error;
use super::container::{Container, Pairs, Size};
use super::decode::{Decoder, Global, Item, Slot};
use super::input::latin1;
use crate::wire::value::Value;

impl Decoder {
    /// The finished value of an item and what it holds.
    pub(super) fn freeze(&mut self, item: Item) -> Result<(Value, Size), Error> {
        freeze(&mut self.open, &mut self.spare_pairs, item)
    }

    /// The container below the mark, taken out of `open` so that it can be
    /// filled while the items above the mark are frozen.
    fn take_target(&mut self, base: usize) -> Result<(usize, Container, Size), Error> {
        if base <= self.fence() {
            return Err(Error::Stack);
        }
        let below = base.checked_sub(1).and_then(|at| self.stack.get(at));
        let Some(Item {
            slot: Slot::Open(at),
            ..
        }) = below
        else {
            return Err(Error::Type);
        };
        let at = *at;
        let (container, size) = self.open.get_mut(at).ok_or(Error::Type)?;
        if let Container::Frozen(_) = container {
            return Err(Error::Recursive);
        }
        // Whoever freezes the placeholder meanwhile holds an ancestor.
        let size = *size;
        let container = std::mem::replace(container, Container::Node(None));
        Ok((at, container, size))
    }

    fn put_back(&mut self, at: usize, container: Container, size: Size) {
        if let Some(slot) = self.open.get_mut(at) {
            *slot = (container, size);
        }
    }

    pub(super) fn append_items(&mut self) -> Result<(), Error> {
        let caps = self.budget.caps;
        let base = self.pop_mark()?;
        let (at, mut container, mut size) = self.take_target(base)?;
        let Container::List(items) = &mut container else {
            return Err(Error::Type);
        };
        items.reserve(self.stack.len().saturating_sub(base));
        for item in self.stack.drain(base..) {
            let (value, held) = freeze(&mut self.open, &mut self.spare_pairs, item)?;
            size.absorb(held, &caps)?;
            items.push(value);
        }
        self.put_back(at, container, size);
        Ok(())
    }

    pub(super) fn set_items(&mut self) -> Result<(), Error> {
        let caps = self.budget.caps;
        let base = self.pop_mark()?;
        let (at, mut container, mut size) = self.take_target(base)?;
        let Container::Dict(pairs) = &mut container else {
            return Err(Error::Type);
        };
        let count = self.stack.len().saturating_sub(base);
        if count % 2 != 0 {
            return Err(Error::Stack);
        }
        pairs.pairs.reserve(count / 2);
        let mut items = self.stack.drain(base..);
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let (key, held) = freeze(&mut self.open, &mut self.spare_pairs, key)?;
            size.absorb(held, &caps)?;
            self.budget.spend(held)?;
            let (value, held) = freeze(&mut self.open, &mut self.spare_pairs, value)?;
            size.absorb(held, &caps)?;
            pairs.insert(key, value)?;
        }
        drop(items);
        self.put_back(at, container, size);
        Ok(())
    }

    pub(super) fn add_items(&mut self) -> Result<(), Error> {
        let base = self.pop_mark()?;
        let (at, mut container, mut size) = self.take_target(base)?;
        let Container::Set(set) = &mut container else {
            return Err(Error::Type);
        };
        self.drain_into_set(base, set, &mut size)?;
        self.put_back(at, container, size);
        Ok(())
    }

    pub(super) fn drain_into_set(
        &mut self,
        base: usize,
        set: &mut Pairs,
        size: &mut Size,
    ) -> Result<(), Error> {
        let caps = self.budget.caps;
        for item in self.stack.drain(base..) {
            let (value, held) = freeze(&mut self.open, &mut self.spare_pairs, item)?;
            size.absorb(held, &caps)?;
            self.budget.spend(held)?;
            set.insert(value, Value::None)?;
        }
        Ok(())
    }

    pub(super) fn tuple(&mut self, base: usize) -> Result<(), Error> {
        if self.names_new_node(base) {
            self.stack.truncate(base);
            return self.push(Slot::Global(Global::NewNode), Size::ONE);
        }
        let caps = self.budget.caps;
        let mut size = Size::ONE;
        let mut failed = None;
        let items = self.stack.drain(base..).map(|item| {
            let frozen = freeze(&mut self.open, &mut self.spare_pairs, item);
            match frozen.and_then(|(value, held)| size.absorb(held, &caps).map(|()| value)) {
                Ok(value) => value,
                Err(error) => {
                    failed = Some(error);
                    Value::None
                }
            }
        });
        // An iterator of known length makes the tuple one allocation.
        let tuple = items.collect();
        match failed {
            Some(error) => Err(error),
            None => self.push(Slot::Done(Value::Tuple(tuple)), size),
        }
    }

    /// Whether the items are the arguments by which protocols 0 and 1 make a
    /// node: its class, `object`, and `None`.
    fn names_new_node(&self, base: usize) -> bool {
        let mut slots = self.stack.iter().skip(base).map(|item| &item.slot);
        matches!(slots.next(), Some(Slot::Global(Global::Node)))
            && matches!(slots.next(), Some(Slot::Global(Global::Object)))
    }

    /// A call, of which only those that stand for data are known.
    pub(super) fn reduce(&mut self) -> Result<(), Error> {
        let (args, callable) = (self.pop()?, self.pop()?);
        let Slot::Global(callable) = callable.slot else {
            return Err(Error::Type);
        };
        if let Slot::Global(Global::NewNode) = args.slot {
            if callable == Global::Reconstructor {
                return self.push_open(Container::Node(None));
            }
            return Err(Error::Type);
        }
        let (args, size) = self.freeze(args)?;
        let Value::Tuple(args) = args else {
            return Err(Error::Type);
        };
        match (callable, &*args) {
            (Global::Encode, [Value::Str(text), Value::Str(codec)])
                if matches!(codec.as_bytes(), b"latin1" | b"latin-1") =>
            {
                self.budget.spend(size)?;
                let bytes = latin1(text.as_bytes())?;
                self.bytes(&bytes)
            }
            (Global::Bytes, []) => self.bytes(&[]),
            (Global::Set, []) => {
                let set = Container::Set(Pairs::default()).freeze()?;
                self.push(Slot::Done(set), Size::ONE)
            }
            (Global::Set, [Value::List(items) | Value::Tuple(items) | Value::Set(items)]) => {
                self.budget.spend(size)?;
                let mut set = Pairs::default();
                for item in items.iter() {
                    set.insert(item.clone(), Value::None)?;
                }
                let set = Container::Set(set).freeze()?;
                self.push(Slot::Done(set), size)
            }
            (Global::Node, [Value::Str(id)]) => {
                self.push(Slot::Done(Value::Node(id.clone())), size)
            }
            _ => Err(Error::Type),
        }
    }

    pub(super) fn new_object(&mut self) -> Result<(), Error> {
        let (args, class) = (self.pop()?, self.pop()?);
        match (class.slot, args.slot) {
            (Slot::Global(Global::Node), Slot::Done(Value::Tuple(args))) if args.is_empty() => {
                self.push_open(Container::Node(None))
            }
            _ => Err(Error::Type),
        }
    }

    /// Gives a new object its attributes, of which only the identity counts.
    pub(super) fn build(&mut self) -> Result<(), Error> {
        let state = self.pop()?;
        let caps = self.budget.caps;
        let (state, held) = self.freeze(state)?;
        let Slot::Open(at) = self.top()?.slot else {
            return Err(Error::Type);
        };
        match self.open.get_mut(at) {
            Some((Container::Node(id), size)) => {
                let Some(Value::Str(text)) = state.get("_id") else {
                    return Err(Error::Type);
                };
                size.absorb(held, &caps)?;
                *id = Some(text.clone());
                Ok(())
            }
            Some((Container::Frozen(_), _)) => Err(Error::Recursive),
            _ => Err(Error::Type),
        }
    }
}

/// The finished value of an item and what it holds; an open container is
/// closed for good.
fn freeze(
    open: &mut [(Container, Size)],
    spare: &mut Vec<(Value, Value)>,
    item: Item,
) -> Result<(Value, Size), Error> {
    match item.slot {
        Slot::Done(value) => Ok((value, item.size)),
        Slot::Global(_) => Err(Error::Type),
        Slot::Open(at) => {
            let (container, size) = open.get_mut(at).ok_or(Error::Stack)?;
            if let Container::Dict(pairs) = container {
                let (value, emptied) = pairs.finish();
                if emptied.capacity() > spare.capacity() {
                    *spare = emptied;
                }
                *container = Container::Frozen(value);
            }
            Ok((container.freeze()?, *size))
        }
    }
}
