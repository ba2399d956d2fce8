//! Quotes: what registers hold, signed by a key that cannot leave the TPM.
//!
//! The attestation key is a primary key of the endorsement hierarchy, restricted to signing what the TPM itself has
//! made. The TPM derives it anew each time from its endorsement seed and this template, so nothing is stored, and the
//! same TPM always has the same key: its name says which TPM has quoted.
//!
//! Follows TCG TPM 2.0 Library, part 3: `TPM2_CreatePrimary`, `TPM2_ReadPublic`, `TPM2_Quote`; part 1, section 16
//! (names).

use std::time::Duration;

use ima::{Digest, HashAlgo, PcrIndex};
use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Attest, AttestInfo, Data, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public,
    PublicBuilder, PublicEccParametersBuilder, SignatureScheme, SymmetricDefinitionObject,
};
use tss_esapi::traits::Marshall as _;

use crate::device::{Device, nonsense, selection, slot};
use crate::{Tpm, TpmError};

/// How long it may take: slow hardware makes an elliptic key in a second.
const LIMIT: Duration = Duration::from_secs(120);

/// How often it is tried again when a register is extended between the quote and the reading of it.
const ATTEMPTS: u32 = 5;

/// The longest nonce (`TPM2B_DATA`).
pub const MAX_NONCE: usize = 64;

/// A quote with all that is needed to verify it but trust in the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// What was signed (`TPMS_ATTEST`).
    pub attest: Vec<u8>,
    /// ECDSA on P-256 with SHA-256 (`TPMT_SIGNATURE`).
    pub signature: Vec<u8>,
    /// The key that signed it.
    pub key: AttestationKey,
    /// The values that were quoted, by bank and register in the order in which the quote hashes them.
    pub values: Vec<(PcrIndex, Digest)>,
}

/// An attestation key, as the TPM tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationKey {
    /// The public part (`TPMT_PUBLIC`).
    pub public: Vec<u8>,
    /// Its name: algorithm and digest of the public part.
    pub name: Vec<u8>,
    /// Its name within its hierarchy, which shows that it is a primary key of the endorsement hierarchy.
    pub qualified_name: Vec<u8>,
}

impl Tpm {
    /// Quotes these registers in these banks over a nonce.
    ///
    /// The values that come with it are those that were quoted: when a register is extended meanwhile, it is quoted
    /// again.
    ///
    /// # Errors
    /// [`TpmError`]; of those [`TpmError::NoBank`] for a bank or register that the TPM lacks, or for none, and
    /// [`TpmError::Nonce`] for a nonce of more than [`MAX_NONCE`] bytes.
    pub fn quote(&self, nonce: &[u8], banks: &[HashAlgo], pcrs: &[PcrIndex]) -> Result<Quote, TpmError> {
        if nonce.len() > MAX_NONCE {
            return Err(TpmError::Nonce(nonce.len()));
        }
        // In the TPM's order, each once: that in which it hashes them.
        let banks: Vec<HashAlgo> = self.banks().iter().copied().filter(|bank| banks.contains(bank)).collect();
        let mut pcrs = pcrs.to_vec();
        pcrs.sort_unstable();
        pcrs.dedup();
        if banks.is_empty() || pcrs.is_empty() {
            return Err(TpmError::NoBank);
        }
        let nonce = nonce.to_vec();
        self.call_within(LIMIT, move |device| {
            let key = create(device)?;
            let quoted = quote(device, key, &nonce, &banks, &pcrs);
            // It would be lost with the connection as well; TPMs have room for few.
            let flushed = device.context().flush_context(key.into()).map_err(TpmError::from_tss);
            quoted.and_then(|quote| flushed.map(|()| quote))
        })
    }
}

/// The template of the key. Anything changed here makes another key.
fn template() -> Result<Public, tss_esapi::Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

fn create(device: &mut Device) -> Result<KeyHandle, TpmError> {
    let template = template().map_err(TpmError::from_tss)?;
    let create = |context: &mut tss_esapi::Context| {
        context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
    };
    let created = device.context().execute_with_session(Some(AuthSession::Password), create);
    created.map(|created| created.key_handle).map_err(TpmError::from_tss)
}

fn quote(
    device: &mut Device,
    key: KeyHandle,
    nonce: &[u8],
    banks: &[HashAlgo],
    pcrs: &[PcrIndex],
) -> Result<Quote, TpmError> {
    let (public, name, qualified_name) = device.context().read_public(key).map_err(TpmError::from_tss)?;
    let key_facts = AttestationKey {
        public: public.marshall().map_err(TpmError::from_tss)?,
        name: name.value().to_vec(),
        qualified_name: qualified_name.value().to_vec(),
    };
    let slots: Vec<_> =
        pcrs.iter().map(|pcr| slot(*pcr).ok_or(TpmError::NoBank)).collect::<Result<_, _>>()?;
    for _ in 0..ATTEMPTS {
        let nonce = Data::try_from(nonce.to_vec()).map_err(TpmError::from_tss)?;
        let selection = selection(banks, &slots)?;
        let sign = |context: &mut tss_esapi::Context| {
            // The key's own scheme.
            context.quote(key, nonce, SignatureScheme::Null, selection)
        };
        let signed = device.context().execute_with_session(Some(AuthSession::Password), sign);
        let (attest, signature) = signed.map_err(TpmError::from_tss)?;
        let (order, expected) = quoted(&attest)?;
        let values = values(device, &order, pcrs)?;
        if digest_of(&values)? == expected {
            return Ok(Quote {
                attest: attest.marshall().map_err(TpmError::from_tss)?,
                signature: signature.marshall().map_err(TpmError::from_tss)?,
                key: key_facts,
                values,
            });
        }
    }
    Err(TpmError::Restless)
}

/// The banks in the order of the quote, and the digest of what was quoted.
fn quoted(attest: &Attest) -> Result<(Vec<HashAlgo>, Vec<u8>), TpmError> {
    let AttestInfo::Quote { info } = attest.attested() else { return Err(nonsense()) };
    let banks = info.pcr_selection().get_selections().iter();
    let banks = banks.filter_map(|bank| HashAlgo::from_tpm_id(bank.hashing_algorithm().into()));
    Ok((banks.collect(), info.pcr_digest().value().to_vec()))
}

fn values(
    device: &mut Device,
    banks: &[HashAlgo],
    pcrs: &[PcrIndex],
) -> Result<Vec<(PcrIndex, Digest)>, TpmError> {
    let mut all = Vec::new();
    for pcr in pcrs {
        for value in device.read(*pcr)? {
            all.push((*pcr, value.ok_or(TpmError::NoBank)?));
        }
    }
    let of =
        |bank: &HashAlgo| all.iter().filter(|(_, value)| value.algo() == *bank).copied().collect::<Vec<_>>();
    Ok(banks.iter().flat_map(of).collect())
}

/// What a quote holds of these values: their digest in the algorithm of the key.
fn digest_of(values: &[(PcrIndex, Digest)]) -> Result<Vec<u8>, TpmError> {
    let all: Vec<u8> = values.iter().flat_map(|(_, value)| value.bytes().to_vec()).collect();
    ima::hash(HashAlgo::Sha256, &all).map(|digest| digest.bytes().to_vec()).map_err(|_| nonsense())
}
