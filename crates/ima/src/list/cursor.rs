//! How far the reader of a list has come, and that it stops at the first error.

use crate::list::{ListError, ListFault};

/// See the module's text.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    list: &'a [u8],
    rest: &'a [u8],
    index: usize,
    failed: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(list: &'a [u8]) -> Self {
        Self { list, rest: list, index: 0, failed: false }
    }

    /// How many bytes what was read so far takes up.
    pub(crate) const fn offset(&self) -> usize {
        self.list.len() - self.rest.len()
    }

    /// Reads what comes next by `parse`, which gives it and what is left of the list.
    pub(crate) fn step<T>(
        &mut self,
        parse: impl FnOnce(&'a [u8]) -> Result<(T, &'a [u8]), ListFault>,
    ) -> Option<Result<T, ListError>> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        match parse(self.rest) {
            Ok((parsed, rest)) => {
                self.rest = rest;
                self.index += 1;
                Some(Ok(parsed))
            }
            Err(reason) => {
                self.failed = true;
                Some(Err(ListError { index: self.index, offset: self.offset(), reason }))
            }
        }
    }
}
