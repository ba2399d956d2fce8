//! Names as lists record them.

/// A path as a list records it: what would end a word or a line is an underscore.
#[must_use]
pub fn recorded_name(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if matches!(byte, b' ' | b'\n' | b'\r') { b'_' } else { *byte }).collect()
}
