//! A Python dict of stored values, in Python's order: overwriting keeps a key's
//! place, deleting and inserting moves it to the end. So snapshots of equal
//! histories are equal byte for byte.
//!
//! Patroni keeps tens of keys; they are searched in line.

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

/// Rows in the order of a Python dict.
#[derive(Debug, Clone)]
pub(super) struct Table<T> {
    rows: Vec<Row<T>>,
}

impl<T> Table<T> {
    pub fn new(rows: Vec<Row<T>>) -> Self {
        Self { rows }
    }

    pub fn rows(&self) -> &[Row<T>] {
        &self.rows
    }

    pub fn rows_mut(&mut self) -> &mut [Row<T>] {
        &mut self.rows
    }

    pub fn get(&self, key: &Value) -> Option<&Row<T>> {
        self.rows.iter().find(|row| row.key.py_eq(key))
    }

    pub fn get_mut(&mut self, key: &Value) -> Option<&mut Row<T>> {
        self.rows.iter_mut().find(|row| row.key.py_eq(key))
    }

    /// Stores; an existing key stays the object that it was, as in Python.
    pub fn put(&mut self, key: &Value, stored: Value, beside: T) {
        match self.get_mut(key) {
            Some(row) => {
                row.stored = stored;
                row.beside = beside;
            }
            None => self.rows.push(Row {
                key: key.clone(),
                stored,
                beside,
            }),
        }
    }

    /// Removes the rows at `places`, which ascend.
    pub fn remove(&mut self, places: &[usize]) -> Vec<Row<T>> {
        let mut places = places.iter().copied().peekable();
        let mut place = 0;
        let gone = self.rows.extract_if(.., |_| {
            let hit = places.next_if_eq(&place).is_some();
            place += 1;
            hit
        });
        gone.collect()
    }
}
