//! What each parser of foreign bytes promises, as functions that end in a panic where a promise is broken.
//!
//! All share three promises: no input makes a parser panic, none makes it allocate more than a stated multiple of its
//! own size, and what was understood can be written and read again as the same. Each module states its own besides.
//!
//! libFuzzer calls these functions with inputs it invents (`targets/`, `make fuzz`), `tests/corpus.rs` with those in
//! `corpus/` and `regressions/`. This crate finds no inputs itself and reads no files.

#![forbid(unsafe_code)]

mod certificate;
mod evidence;
mod host;
mod label;
mod list;
mod manifest;
mod policy;
mod request;
mod template;

pub use self::manifest::manifest;
pub use certificate::certificate;
pub use evidence::evidence;
pub use host::host;
pub use label::label;
pub use list::{list_ascii, list_binary};
pub use policy::policy;
pub use request::request;
pub use template::template;

/// What runs one input; it panics where a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its program and of its directory in `corpus/`.
pub const TARGETS: [(&str, Target); 10] = [
    ("label", label),
    ("policy", policy),
    ("template", template),
    ("list_ascii", list_ascii),
    ("list_binary", list_binary),
    ("host", host),
    ("certificate", certificate),
    ("manifest", manifest),
    ("evidence", evidence),
    ("request", request),
];

/// What a parser may hold allocated at one time.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// Bytes whatever the input.
    fixed: usize,
    /// Bytes for each byte of the input.
    per_byte: usize,
}

/// Runs a parser over `input` and fails if it held more than `bound` at any moment.
fn within<T>(bound: Bound, input: &[u8], parse: impl FnOnce() -> T) -> T {
    let mut parsed = None;
    let used = allocation_counter::measure(|| parsed = Some(parse()));
    let most = bound.fixed + bound.per_byte * input.len();
    assert!(
        usize::try_from(used.bytes_max).is_ok_and(|held| held <= most),
        "an input of {} bytes made the parser hold {} at a time, and {most} is the most it may",
        input.len(),
        used.bytes_max,
    );
    must(parsed, "the parser has run")
}

/// The value that a promise says is there.
#[track_caller]
fn must<T>(value: Option<T>, promise: &str) -> T {
    assert!(value.is_some(), "broken promise: {promise}");
    #[expect(clippy::unwrap_used, reason = "looked at just above; a broken promise is to end the program")]
    value.unwrap()
}
