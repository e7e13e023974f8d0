//! A REGULAR command as the call it makes, unpacked exactly as
//! `SyncObj.__doApplyCommand` does it, and bound to parameters as Python binds
//! them. What Python would raise on is a [`Poison`], never a guess.

use super::poison::Poison;
use crate::wire::command::REGULAR;
use crate::wire::pickle;
use crate::wire::value::{Str, Value};

/// A call of a replicated method: `function(*args, **kwargs)`.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which method: 0 `_delete`, 1 `_expire`, 2 `_set` (spec 6.2), by Python's
    /// equality, so `2.0` and `True` name methods too.
    pub function: Value,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments. Of equal names the last counts.
    pub kwargs: Vec<(Value, Value)>,
}

impl Call {
    /// Unpacks the pickled object of a REGULAR command (spec 6.1): `function`,
    /// `(function, args)` or `(function, args, kwargs)`. As in Python, `args`
    /// may be anything that iterates, `kwargs` a dict or pairs.
    ///
    /// # Errors
    ///
    /// [`Poison::Shape`] where Python raises while it unpacks. A `set` of
    /// several items counts as such: every process iterates it in an order of
    /// its own.
    pub fn from_command(command: &Value) -> Result<Self, Poison> {
        let (function, args, kwargs) = match command {
            Value::Tuple(parts) => match &**parts {
                [function, args] => (function, iterate(args)?, Vec::new()),
                [function, args, kwargs] => (function, iterate(args)?, pairs(kwargs)?),
                _ => return Err(Poison::Shape),
            },
            function => (function, Vec::new(), Vec::new()),
        };
        Ok(Self {
            function: function.clone(),
            args,
            kwargs,
        })
    }

    /// The method called.
    pub(super) fn method(&self) -> Result<Method, Poison> {
        [Method::Delete, Method::Expire, Method::Set]
            .into_iter()
            .find(|method| self.function.py_eq(&Value::Int(*method as i64)))
            .ok_or(Poison::UnknownFunction)
    }

    /// Binds the arguments to `names`, of which the first `required` have no
    /// default.
    pub(super) fn bind<const N: usize>(
        &self,
        names: [&str; N],
        required: usize,
    ) -> Result<BoundArguments<'_, N>, Poison> {
        let mut params = [None; N];
        for (place, arg) in self.args.iter().enumerate() {
            *params.get_mut(place).ok_or(Poison::Arguments)? = Some(arg);
        }
        let mut rest = Kwargs::default();
        for (name, value) in &self.kwargs {
            let Value::Str(name) = name else {
                return Err(Poison::Arguments);
            };
            // Every replicated method is bound to its object already.
            if name.as_bytes() == b"self" {
                return Err(Poison::Arguments);
            }
            rest.insert(name, value);
        }
        // PySyncObj marks an application with `_doApply`; a command that says
        // otherwise makes every replica propose it again.
        if rest.remove("_doApply").is_some_and(|v| !v.truthy()) {
            return Err(Poison::Reproposes);
        }
        for (param, name) in params.iter_mut().zip(names) {
            match rest.remove(name) {
                Some(_) if param.is_some() => return Err(Poison::Arguments),
                Some(value) => *param = Some(value),
                None => {}
            }
        }
        if params.iter().take(required).any(Option::is_none) {
            return Err(Poison::Arguments);
        }
        Ok(BoundArguments { params, rest })
    }
}

/// The replicated methods, by their number (spec 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Delete = 0,
    Expire = 1,
    Set = 2,
}

/// Arguments in their places.
pub(super) struct BoundArguments<'a, const N: usize> {
    /// By parameter; `None` where the default counts.
    pub params: [Option<&'a Value>; N],
    /// What `**kwargs` would take.
    pub rest: Kwargs<'a>,
}

/// Keyword arguments that no parameter took.
#[derive(Default)]
pub(super) struct Kwargs<'a>(Vec<(&'a Str, &'a Value)>);

impl<'a> Kwargs<'a> {
    fn insert(&mut self, name: &'a Str, value: &'a Value) {
        self.remove_bytes(name.as_bytes());
        self.0.push((name, value));
    }

    fn remove(&mut self, name: &str) -> Option<&'a Value> {
        self.remove_bytes(name.as_bytes())
    }

    fn remove_bytes(&mut self, name: &[u8]) -> Option<&'a Value> {
        let place = self.0.iter().position(|(n, _)| n.as_bytes() == name)?;
        Some(self.0.remove(place).1)
    }

    /// The argument called `name`.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        let mut named = self.0.iter();
        let found = named.find(|(n, _)| n.as_bytes() == name.as_bytes());
        found.map(|(_, value)| *value)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The call that a REGULAR command makes; none for the other kinds, which
/// change nothing in the store.
pub fn call_of(command: &[u8]) -> Option<Result<Call, Poison>> {
    let body = command.strip_prefix(&[REGULAR])?;
    Some(match pickle::decode(body) {
        Ok(value) => Call::from_command(&value),
        // H29: unreadable here, so it cannot be told what Python made of it.
        Err(_) => Err(Poison::Shape),
    })
}

/// What Python's `list(value)` holds.
fn iterate(value: &Value) -> Result<Vec<Value>, Poison> {
    Ok(match value {
        Value::Tuple(items) | Value::List(items) => items.to_vec(),
        Value::Dict(pairs) => pairs.iter().map(|(key, _)| key.clone()).collect(),
        Value::Bytes(bytes) => bytes.iter().map(|b| Value::Int(i64::from(*b))).collect(),
        Value::Str(text) => characters(text),
        Value::Set(items) if items.len() <= 1 => items.to_vec(),
        _ => return Err(Poison::Shape),
    })
}

fn characters(text: &Str) -> Vec<Value> {
    let starts_one = |byte: &u8| byte & 0xc0 != 0x80;
    let bytes = text.as_bytes();
    let mut rest = bytes;
    let mut characters = Vec::new();
    while let [_, tail @ ..] = rest {
        let width = 1 + tail.iter().position(starts_one).unwrap_or(tail.len());
        let (one, others) = rest.split_at(width);
        characters.push(Value::Str(Str::from_checked(one)));
        rest = others;
    }
    characters
}

/// What Python's `dict.update(value)` takes.
fn pairs(value: &Value) -> Result<Vec<(Value, Value)>, Poison> {
    if let Value::Dict(pairs) = value {
        return Ok(pairs.to_vec());
    }
    let pair = |item: &Value| match iterate(item)?.as_slice() {
        [key, value] => Ok((key.clone(), value.clone())),
        _ => Err(Poison::Shape),
    };
    iterate(value)?.iter().map(pair).collect()
}
