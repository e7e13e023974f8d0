//! A Python dict of stored values, in Python's order: overwriting keeps a key's
//! place, deleting and inserting moves it to the end. So snapshots of equal
//! histories are equal byte for byte.

use std::collections::{BTreeMap, HashMap};

use crate::wire::python_eq::DictKey;
use crate::wire::value::Value;

/// Key, stored value, and what the owner of the table keeps beside it.
#[derive(Debug, Clone)]
pub(super) struct Row<T> {
    /// A `str`, but for nonsense: Python's dict takes any hashable key.
    pub key: Value,
    /// The stored dict (spec 6.4).
    pub stored: Value,
    /// The owner's part.
    pub beside: T,
}

/// Where a row stands in the order of insertion, as long as it is there; never
/// given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowNumber(u64);

/// Rows in the order of a Python dict, found by key.
#[derive(Debug, Clone)]
pub(super) struct Table<T> {
    rows: BTreeMap<RowNumber, Row<T>>,
    /// Where the key of each row is; of a key that is unlike itself (NaN) none
    /// is, for Python never finds it again.
    places: HashMap<DictKey, RowNumber>,
    /// The place of the next new row.
    next: RowNumber,
}

impl<T> Table<T> {
    pub fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            places: HashMap::new(),
            next: RowNumber(0),
        }
    }

    /// The rows in Python's order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (RowNumber, &Row<T>)> {
        self.rows.iter().map(|(place, row)| (*place, row))
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Where the row of a key is, by Python's equality.
    pub fn find(&self, key: &Value) -> Option<RowNumber> {
        let found = key
            .py_eq(key)
            .then(|| self.places.get(&DictKey(key.clone())));
        found.flatten().copied()
    }

    pub fn at(&self, place: RowNumber) -> Option<&Row<T>> {
        self.rows.get(&place)
    }

    /// Stores; an existing key stays the object that it was, as in Python.
    pub fn put(&mut self, key: &Value, stored: Value, beside: T) -> RowNumber {
        if let Some(place) = self.find(key)
            && let Some(row) = self.rows.get_mut(&place)
        {
            row.stored = stored;
            row.beside = beside;
            return place;
        }
        let place = self.next;
        self.next = RowNumber(place.0.saturating_add(1));
        if key.py_eq(key) {
            self.places.insert(DictKey(key.clone()), place);
        }
        let key = key.clone();
        let row = Row {
            key,
            stored,
            beside,
        };
        self.rows.insert(place, row);
        place
    }

    /// Removes the row at `place`.
    pub fn remove(&mut self, place: RowNumber) -> Option<Row<T>> {
        let row = self.rows.remove(&place)?;
        if row.key.py_eq(&row.key) {
            self.places.remove(&DictKey(row.key.clone()));
        }
        Some(row)
    }

    /// The same keys and values, with nothing beside them.
    pub fn bare(&self) -> Table<()> {
        let bare = |row: &Row<T>| Row {
            key: row.key.clone(),
            stored: row.stored.clone(),
            beside: (),
        };
        Table {
            rows: self.rows().map(|(place, row)| (place, bare(row))).collect(),
            places: self.places.clone(),
            next: self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &Table<()>) -> Vec<String> {
        let keys = table.rows().map(|(_, row)| format!("{:?}", row.key));
        keys.collect()
    }

    fn put(table: &mut Table<()>, key: Value) -> RowNumber {
        table.put(&key, Value::None, ())
    }

    #[test]
    fn an_overwritten_key_keeps_its_place_and_its_form() {
        let mut table = Table::new();
        let one = put(&mut table, Value::Int(1));
        put(&mut table, Value::str("a"));
        // Python: 1 == 1.0 == True; "a" != b"a".
        assert_eq!(put(&mut table, Value::Float(1.0)), one);
        assert_eq!(put(&mut table, Value::Bool(true)), one);
        put(&mut table, Value::bytes(b"a"));
        assert_eq!(keys(&table), ["Int(1)", "Str(\"a\")", "Bytes([97])"]);
        table.remove(one);
        assert_eq!(table.find(&Value::Bool(true)), None);
        put(&mut table, Value::Bool(true));
        assert_eq!(keys(&table), ["Str(\"a\")", "Bytes([97])", "Bool(true)"]);
    }

    #[test]
    fn a_key_unlike_itself_is_never_found_and_can_go() {
        let mut table = Table::new();
        let nan = || Value::tuple([Value::Float(f64::NAN)]);
        let places = [put(&mut table, nan()), put(&mut table, nan())];
        assert_eq!(table.find(&nan()), None);
        assert_eq!(table.len(), 2);
        for place in places {
            assert!(table.remove(place).is_some());
        }
        assert_eq!(table.len(), 0);
        assert!(table.remove(places[0]).is_none());
    }

    #[test]
    fn a_bare_copy_is_as_good() {
        let mut table = Table::new();
        for key in ["a", "b", "c"] {
            put(&mut table, Value::str(key));
        }
        let b = table.find(&Value::str("b")).unwrap();
        table.remove(b);
        let mut copy = table.bare();
        put(&mut copy, Value::str("a"));
        put(&mut copy, Value::str("b"));
        assert_eq!(keys(&copy), ["Str(\"a\")", "Str(\"c\")", "Str(\"b\")"]);
        assert_eq!(keys(&table), ["Str(\"a\")", "Str(\"c\")"]);
    }
}
