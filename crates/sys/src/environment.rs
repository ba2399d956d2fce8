//! Changing this process's environment, which is sound only while nobody else can read it.
//!
//! Source: setenv(3), which is not thread-safe; `std::env::set_var` is `unsafe` for that reason.

use std::ffi::OsStr;

/// The process has more than one thread, or it cannot be seen whether it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAlone;

/// Sets a variable, if this is the only thread.
///
/// # Errors
/// [`NotAlone`], and then nothing was set.
pub fn set_while_alone(name: &str, value: impl AsRef<OsStr>) -> Result<(), NotAlone> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(|_| NotAlone)?;
    if threads.count() != 1 {
        return Err(NotAlone);
    }
    // SAFETY: no other thread exists that could read the environment meanwhile, and only this one, which is here,
    // could start another.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_set_beside_another_thread() {
        // The test itself runs in a thread beside the harness's.
        assert_eq!(set_while_alone("IMAFS_TEST_ENVIRONMENT", "1"), Err(NotAlone));
        assert_eq!(std::env::var_os("IMAFS_TEST_ENVIRONMENT"), None);
    }
}
