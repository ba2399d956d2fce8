//! Manifests of labels: `manifest::Envelope` and its entries. Looking up needs a signature, which no fuzzer finds; what
//! is indexed then is what is read here.

use ima::{HashAlgo, KeyId};
use manifest::{Builder, Entry, Envelope, FormatError, seal};

use crate::{Bound, must, within};

/// The bytes themselves, the image's name, the state of a hash.
const WHOLE: Bound = Bound { fixed: 4096, per_byte: 1 };

/// Reading entries keeps none of them.
const ENTRIES: Bound = Bound { fixed: 0, per_byte: 0 };

/// Any bytes as a manifest, and as the entries of one.
///
/// - What is read to its end without an error is written again as the same bytes.
/// - Entries come in the order of their paths, no path twice, no more of them than the header says.
/// - After an error nothing more comes.
pub fn manifest(data: &[u8]) {
    if let Ok(envelope) = within(WHOLE, data, || Envelope::parse(data.to_vec()))
        && let Some(again) = entries(&envelope)
    {
        // The signature is what stands behind the body.
        let trailer = data.get(again.len()..).unwrap_or_default();
        assert!(data.starts_with(&again), "what was read is written as it was");
        let signature = must(ima::parse_signature(trailer).ok(), "the signature was read");
        let written = seal(again, envelope.algo(), signature.keyid, signature.signature);
        assert_eq!(written.ok().as_deref(), Some(data));
    }
    // The header and the signature would keep most inputs from getting this far.
    let (count, rest) = data.split_first().map_or((0, data), |(count, rest)| (*count, rest));
    let around = must(around(count, rest), "a body of any entries is one");
    let envelope = must(Envelope::parse(around).ok(), "it has a header and a signature");
    if let Some(again) = entries(&envelope) {
        assert!(again.ends_with(rest), "what was read is written as it was");
    }
}

/// Reads all; gives the body that was read, written anew.
fn entries(envelope: &Envelope) -> Option<Vec<u8>> {
    let mut last: Option<Entry<'_>> = None;
    let mut count = 0;
    let mut read = envelope.entries();
    let outcome = loop {
        match within(ENTRIES, &[], || read.next()) {
            None => break Ok(()),
            Some(Err(error)) => break Err(error),
            Some(Ok(entry)) => {
                assert!(last.is_none_or(|last| last.path < entry.path) && !entry.label.is_empty());
                assert!(entry.path.starts_with(b"/") && !entry.path.ends_with(b"/"));
                last = Some(entry);
                count += 1;
            }
        }
    };
    assert!(count <= envelope.header().entries);
    if let Err(error) = outcome {
        assert!(read.next().is_none(), "something comes after {error}");
        assert!(!matches!(error, FormatError::Magic | FormatError::Version(_)));
        return None;
    }
    assert_eq!(count, envelope.header().entries);
    let mut builder = must(Builder::new(&envelope.header().image, envelope.header().serial).ok(), "a name");
    for entry in envelope.entries().flatten() {
        must(builder.add(entry.path.to_vec(), entry.label.to_vec()).ok(), "what is read can be written");
    }
    Some(must(builder.body().ok(), "what is read can be written"))
}

/// A manifest whose entries are these bytes.
fn around(count: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Builder::new("i", 1).ok()?.body().ok()?;
    body.extend(bytes);
    let length = u64::try_from(body.len()).ok()?;
    body.get_mut(12)?.clone_from(&count);
    body.get_mut(16..24)?.copy_from_slice(&length.to_le_bytes());
    seal(body, HashAlgo::Sha256, KeyId(0), &[1]).ok()
}
