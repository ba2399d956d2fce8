//! Certificates and public keys: `keyring::Certificate`, `keyring::PublicKey`.

use ima::{Digest, HashAlgo, KeyId, hash};
use keyring::{Added, Certificate, KeyIdSource, Keyring, PublicKey};

use crate::{Bound, must, within};

/// What reading a certificate may hold: the parsed form, names as text, the key, and the numbers its own signature is
/// checked with.
const CERTIFICATE: Bound = Bound { fixed: 256 << 10, per_byte: 64 };

/// Any bytes as a certificate in DER, as a text of certificates, and as a bare public key.
///
/// - A certificate that is taken keeps its bytes, and reading those again gives the same names, key and identifiers.
/// - It is found on a ring by its keyid, which is the end of its subject key identifier or of its key's hash.
/// - Its key looks at any signature without harm, and refuses an empty one.
/// - What DER gives, the reader that takes both forms gives too.
pub fn certificate(data: &[u8]) {
    let from_der = within(CERTIFICATE, data, || Certificate::from_der(data));
    let from_either = within(CERTIFICATE, data, || Certificate::from_pem_or_der(data));
    if let Ok(certificate) = &from_der {
        assert_eq!(certificate.der(), data);
        let either =
            must(from_either.as_ref().ok(), "a certificate in DER is taken by the reader of both forms");
        assert_eq!(either.iter().map(Certificate::der).collect::<Vec<_>>(), [data]);
    }
    for certificate in from_either.unwrap_or_default() {
        sound(&certificate, data);
    }
    if let Ok(key) = within(CERTIFICATE, data, || PublicKey::from_spki_der(data)) {
        tried(&key, data);
    }
}

fn sound(certificate: &Certificate, data: &[u8]) {
    let again = must(Certificate::from_der(certificate.der()).ok(), "a certificate is read twice");
    assert_eq!(
        (again.keyid(), again.keyid_source(), again.subject(), again.issuer()),
        (certificate.keyid(), certificate.keyid_source(), certificate.subject(), certificate.issuer())
    );
    assert_eq!(again.public_key().key_bytes(), certificate.public_key().key_bytes());
    assert_eq!(hash(HashAlgo::Sha256, certificate.der()), Ok(certificate.fingerprint_sha256()));
    let by_extension = certificate.subject_key_identifier().and_then(KeyId::from_ski);
    let expected = match certificate.keyid_source() {
        KeyIdSource::SubjectKeyIdentifier => by_extension,
        KeyIdSource::PublicKeyHash => Some(certificate.public_key().sha1_keyid()),
    };
    assert_eq!(Some(certificate.keyid()), expected);
    tried(certificate.public_key(), data);

    let ring = Keyring::new("fuzz");
    assert!(matches!(ring.add(again), Added::New));
    assert_eq!(
        ring.find(certificate.keyid()).map(|found| found.der().to_vec()),
        Some(certificate.der().to_vec())
    );
    assert!(ring.verify(certificate.keyid(), &Digest::ones(HashAlgo::Sha256), &[]).is_err());
}

fn tried(key: &PublicKey, data: &[u8]) {
    for algo in [HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha512] {
        assert!(key.verify(&Digest::ones(algo), &[]).is_err());
        let end = data.get(data.len().saturating_sub(256)..).unwrap_or_default();
        // Whether it is the right one is not asked here, only that looking does no harm.
        let _looked_at: Option<()> = key.verify(&Digest::ones(algo), end).ok();
    }
}
