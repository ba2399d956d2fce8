//! Whether the bank is as the list believes: asked before a register's first entry, and of all registers now and then.

use std::sync::atomic::Ordering;

use ima::PcrIndex;

use crate::list::List;
use crate::{BankError, MeasureError};

impl List {
    /// Makes sure that this register can be extended, before the first entry for it has its place.
    pub(crate) fn admit(&self, pcr: PcrIndex) -> Result<(), MeasureError> {
        if self.order.lock().pcrs & (1 << pcr.value()) != 0 {
            return Ok(());
        }
        self.bank.admit(pcr).map_err(|source| MeasureError::Register { pcr, source })
    }

    /// Has the bank compare its registers with what was extended, unless that is happening anyway, and extends everything
    /// again where it was restarted. For what is served as measured before, nobody else asks the bank.
    ///
    /// # Errors
    /// As [`List::add`].
    pub fn check(&self) -> Result<(), MeasureError> {
        {
            let Some(_turn) = self.extending.try_lock() else { return Ok(()) };
            match self.bank.check() {
                Ok(()) => return Ok(()),
                Err(BankError::Reset) => self.begin_again(),
                Err(source) => {
                    let index = self.extended.load(Ordering::Acquire);
                    return Err(MeasureError::Extend { index, source });
                }
            }
        }
        self.catch_up()
    }
}
