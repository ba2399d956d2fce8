//! `security.ima` values: `ima::label`.

use ima::label::{LabelType, ParseError, signature_version};
use ima::{
    Digest, HashAlgo, collection_algo, digest_matches, encode_digest, encode_signature, file_id_digest,
    label_type, parse_signature,
};

use crate::{Bound, must, within};

/// Reading a label allocates nothing at all.
const NOTHING: Bound = Bound { fixed: 0, per_byte: 0 };

/// Any bytes as a label.
///
/// - A signature that is read is written again byte for byte, where its algorithm has a name.
/// - Each refusal is the one that the bytes deserve, by a second look at them.
/// - A digest written as a label matches that label, is looked for by its own algorithm, and no other digest matches.
/// - A label matches a digest only if it holds its bytes.
pub fn label(data: &[u8]) {
    let kind = within(NOTHING, data, || label_type(data));
    assert_eq!(kind.map(LabelType::byte), data.first().copied());
    let version = within(NOTHING, data, || signature_version(data));
    signature(data, kind, version);
    let algo = within(NOTHING, data, || collection_algo(Some(data), HashAlgo::Sha256));
    digests(data, algo);
}

fn signature(data: &[u8], kind: Option<LabelType>, version: Option<u8>) {
    match within(NOTHING, data, || parse_signature(data)) {
        Ok(signature) => {
            assert_eq!((Some(signature.label_type), Some(signature.version)), (kind, version));
            assert!(signature.label_type.is_signature() && data.ends_with(signature.signature));
            assert_eq!(data.len(), 9 + signature.signature.len());
            if let Some(algo) = signature.algo {
                let (kind, version) = (signature.label_type, signature.version);
                let written = encode_signature(kind, version, algo, signature.keyid, signature.signature);
                assert_eq!(written.as_deref(), Ok(data));
                let digest = Digest::ones(algo);
                assert_eq!(file_id_digest(kind, &digest).is_ok(), algo.is_available());
            }
        }
        Err(ParseError::Empty) => assert!(data.is_empty()),
        Err(ParseError::NotASignature(named)) => {
            assert!(Some(named) == kind && !named.is_signature() && version.is_none());
        }
        Err(ParseError::NoVersion) => assert_eq!(data.len(), 1),
        Err(ParseError::Obsolete) => assert_eq!(version, Some(1)),
        Err(ParseError::Version(named)) => assert_eq!(version, Some(named)),
        Err(ParseError::Length { found }) => assert_eq!(found, data.len()),
        Err(_) => {}
    }
}

fn digests(data: &[u8], algo: HashAlgo) {
    let stored = data.get(2..).unwrap_or_default();
    let Some(digest) = stored.get(..algo.digest_len()).and_then(|bytes| Digest::new(algo, bytes).ok()) else {
        return;
    };
    let written = encode_digest(&digest);
    assert!(digest_matches(&written, &digest));
    for other in [Digest::zero(algo), Digest::ones(algo)] {
        assert_eq!(digest_matches(&written, &other), other == digest);
    }
    // SHA-1 and older share one form, which goes by length and by zeros at the end.
    if algo > HashAlgo::Sha1 {
        assert_eq!(collection_algo(Some(&written), HashAlgo::Md5), algo);
    }
    if within(NOTHING, data, || digest_matches(data, &digest)) {
        let offset =
            must(data.first().map(|kind| if *kind == 1 { 1 } else { 2 }), "an empty label matches nothing");
        assert!(data.get(offset..).is_some_and(|stored| stored.starts_with(digest.bytes())));
    }
}
