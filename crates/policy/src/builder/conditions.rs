//! Action, func and the conditions of a rule in the making.

use super::Builder;
use crate::condition::{IdTest, MaskTest, SubjectTest, Whose};
use crate::error::Reason;
use crate::glob::PathGlob;
use crate::number::{self, NumberError};
use crate::token::{Operator, Token};
use crate::validate::Parts;
use crate::values::DigestList;
use crate::vocabulary::{Action, Func, Mask};

/// The highest id; the one above means "no id" and cannot be asked for.
const MAX_ID: u32 = u32::MAX - 1;

const FUNCS: &str = "FILE_CHECK, MMAP_CHECK, MMAP_CHECK_REQPROT, BPRM_CHECK, CREDS_CHECK, MODULE_CHECK, \
                     FIRMWARE_CHECK, KEXEC_KERNEL_CHECK, KEXEC_INITRAMFS_CHECK, POLICY_CHECK, KEXEC_CMDLINE, \
                     KEY_CHECK, CRITICAL_DATA or SETXATTR_CHECK";

impl<'l> Builder<'l> {
    pub(super) fn set_action(&mut self, action: Action, token: Token<'l>) -> Result<(), Reason> {
        if self.action.is_some() {
            return Err(Reason::SecondAction);
        }
        self.action = Some((action, token));
        Ok(())
    }

    pub(super) fn set_func(&mut self, value: &str, token: Token<'l>) -> Result<(), Reason> {
        if self.func.is_some() {
            return Err(Reason::Repeated);
        }
        let func = Func::from_name(value).ok_or(Reason::UnknownValue { expected: FUNCS })?;
        self.when.func = Some(func);
        self.func = Some(token);
        Ok(())
    }

    pub(super) fn set_mask(&mut self, value: &str) -> Result<Parts, Reason> {
        let part = self.first(Parts::MASK)?;
        let unknown = Reason::UnknownValue {
            expected: "MAY_EXEC, MAY_WRITE, MAY_READ or MAY_APPEND, with or without ^",
        };
        let test = match value.strip_prefix('^') {
            Some(name) => Mask::from_keyword(name).map(MaskTest::Including),
            None => Mask::from_keyword(value).map(MaskTest::Exactly),
        };
        self.when.mask = Some(test.ok_or(unknown)?);
        Ok(part)
    }

    /// A first `fsmagic=0` does not count as given: the kernel tells by the value.
    pub(super) fn set_fsmagic(&mut self, value: &str) -> Result<Parts, Reason> {
        if self.when.fsmagic.is_some_and(|magic| magic != 0) {
            return Err(Reason::Repeated);
        }
        let magic = number::hexadecimal(value).map_err(|err| not_a_number(err, "hexadecimal"))?;
        self.when.fsmagic = Some(magic);
        Ok(Parts::FSMAGIC)
    }

    /// The last one counts, as in the kernel.
    pub(super) fn set_fsname(&mut self, value: &str) -> Result<Parts, Reason> {
        self.when.fsname = Some(value.into());
        Ok(Parts::FSNAME)
    }

    pub(super) fn set_fs_subtype(&mut self, value: &str) -> Result<Parts, Reason> {
        let part = self.first(Parts::FS_SUBTYPE)?;
        self.when.fs_subtype = Some(value.into());
        Ok(part)
    }

    /// A first UUID of zeros does not count as given: the kernel tells by the value.
    pub(super) fn set_fsuuid(&mut self, value: &str) -> Result<Parts, Reason> {
        if self.when.fsuuid.is_some_and(|uuid| uuid != [0; 16]) {
            return Err(Reason::Repeated);
        }
        self.when.fsuuid = Some(number::uuid(value).ok_or(Reason::BadUuid)?);
        Ok(Parts::FSUUID)
    }

    pub(super) fn set_user(
        &mut self,
        whose: Whose,
        operator: Operator,
        value: &str,
    ) -> Result<Parts, Reason> {
        self.first(Parts::UID | Parts::EUID)?;
        self.when.user = Some(SubjectTest { whose, test: id(operator, value)? });
        Ok(match whose {
            Whose::Real => Parts::UID,
            Whose::Effective => Parts::EUID,
        })
    }

    pub(super) fn set_group(
        &mut self,
        whose: Whose,
        operator: Operator,
        value: &str,
    ) -> Result<Parts, Reason> {
        self.first(Parts::GID | Parts::EGID)?;
        self.when.group = Some(SubjectTest { whose, test: id(operator, value)? });
        Ok(match whose {
            Whose::Real => Parts::GID,
            Whose::Effective => Parts::EGID,
        })
    }

    pub(super) fn set_fowner(&mut self, operator: Operator, value: &str) -> Result<Parts, Reason> {
        let part = self.first(Parts::FOWNER)?;
        self.when.fowner = Some(id(operator, value)?);
        Ok(part)
    }

    pub(super) fn set_fgroup(&mut self, operator: Operator, value: &str) -> Result<Parts, Reason> {
        let part = self.first(Parts::FGROUP)?;
        self.when.fgroup = Some(id(operator, value)?);
        Ok(part)
    }

    pub(super) fn set_keyrings(&mut self, value: &str) -> Result<Parts, Reason> {
        let part = self.first(Parts::KEYRINGS)?;
        self.when.keyrings = Some(names(value)?);
        Ok(part)
    }

    pub(super) fn set_labels(&mut self, value: &str) -> Result<Parts, Reason> {
        let part = self.first(Parts::LABEL)?;
        self.when.labels = Some(names(value)?);
        Ok(part)
    }

    pub(super) fn set_path(&mut self, value: &str) -> Result<Parts, Reason> {
        self.extension()?;
        let part = self.first(Parts::PATH)?;
        self.when.path = Some(PathGlob::parse(value)?);
        Ok(part)
    }

    pub(super) fn set_digests(&mut self, value: &str) -> Result<Parts, Reason> {
        self.extension()?;
        let part = self.first(Parts::DIGEST)?;
        self.when.digests = Some(DigestList::parse(value)?);
        Ok(part)
    }
}

fn id(operator: Operator, value: &str) -> Result<IdTest, Reason> {
    let number = number::decimal(value).map_err(|err| not_a_number(err, "decimal"))?;
    match u32::try_from(number) {
        Ok(id) if id <= MAX_ID => Ok(IdTest { operator, id }),
        Ok(_) | Err(_) => Err(Reason::OutOfRange { expected: "at most 4294967294" }),
    }
}

const fn not_a_number(err: NumberError, form: &'static str) -> Reason {
    match err {
        NumberError::NotANumber => Reason::NotANumber { form },
        NumberError::Overflow => Reason::Overflow,
    }
}

fn names(value: &str) -> Result<Box<[Box<str>]>, Reason> {
    value
        .split('|')
        .map(|item| if item.is_empty() { Err(Reason::EmptyItem) } else { Ok(item.into()) })
        .collect()
}
