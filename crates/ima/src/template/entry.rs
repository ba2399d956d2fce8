//! One line of a measurement list: its digests, and its two written forms.
//!
//! Source: `ima_calc_field_array_hash_tfm` (security/integrity/ima/ima_crypto.c), `ima_measurements_show` and
//! `ima_ascii_measurements_show` (security/integrity/ima/ima_fs.c), Linux 6.1.

use std::fmt;

use crate::{
    Digest, DigestKind, HashAlgo, Hasher, PcrIndex, UnavailableAlgo,
    template::{
        Field, Template, TemplateError,
        field::{NAME_MAX, push_hex, until_nul},
    },
};

/// An entry of a measurement list: PCR, template, and the fields' data. Immutable.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pcr: PcrIndex,
    template: Template,
    /// For each field its length (`u32` little-endian) and its data; always well-formed, and as many as the template has.
    data: Box<[u8]>,
    violation: bool,
}

/// Appends one field with its length.
pub(super) fn push_field(data: &mut Vec<u8>, field: Field, bytes: &[u8]) -> Result<(), TemplateError> {
    let length = u32::try_from(bytes.len()).map_err(|_| TemplateError::TooLong(field.id()))?;
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(bytes);
    Ok(())
}

impl Entry {
    /// `data` must hold exactly the template's fields, each with its length.
    pub(super) fn from_parts(pcr: PcrIndex, template: Template, data: Vec<u8>, violation: bool) -> Self {
        Self { pcr, template, data: data.into_boxed_slice(), violation }
    }

    /// An entry of template data as a binary list holds it; `None` unless it is exactly the template's fields.
    pub(crate) fn from_data(pcr: PcrIndex, template: Template, data: &[u8], violation: bool) -> Option<Self> {
        let mut fields = Fields { rest: data };
        let complete = fields.by_ref().take(template.fields().len()).count() == template.fields().len();
        (complete && fields.rest.is_empty())
            .then(|| Self::from_parts(pcr, template, data.to_vec(), violation))
    }

    /// An entry of its fields' data; `None` for the wrong number of them or one too long.
    pub(crate) fn from_fields(
        pcr: PcrIndex,
        template: Template,
        fields: &[Vec<u8>],
        violation: bool,
    ) -> Option<Self> {
        if fields.len() != template.fields().len() {
            return None;
        }
        let mut data = Vec::with_capacity(fields.iter().map(|bytes| bytes.len() + 4).sum());
        for (field, bytes) in template.fields().iter().zip(fields) {
            push_field(&mut data, *field, bytes).ok()?;
        }
        Some(Self::from_parts(pcr, template, data, violation))
    }

    /// The PCR it is for.
    pub const fn pcr(&self) -> PcrIndex {
        self.pcr
    }

    /// The template.
    pub const fn template(&self) -> &Template {
        &self.template
    }

    /// Whether it records a violation.
    pub const fn is_violation(&self) -> bool {
        self.violation
    }

    /// The fields' data in the template's order, without their lengths.
    pub fn fields(&self) -> Fields<'_> {
        Fields { rest: &self.data }
    }

    /// The data of the first field of this kind.
    pub fn field(&self, field: Field) -> Option<&[u8]> {
        self.template
            .fields()
            .iter()
            .zip(self.fields())
            .find(|(kind, _)| **kind == field)
            .map(|(_, data)| data)
    }

    /// The content's digest: field `d-ng` or `d-ngv2`, or `d` by its length. `None` where malformed or absent.
    pub fn digest(&self) -> Option<Digest> {
        self.kind_and_digest().map(|(_, digest)| digest)
    }

    /// As [`Entry::digest`], with what the digest was computed over; only `d-ngv2` can tell [`DigestKind::Verity`].
    pub fn kind_and_digest(&self) -> Option<(DigestKind, Digest)> {
        self.template.fields().iter().zip(self.fields()).find_map(|(field, data)| match field {
            Field::D => {
                let algo =
                    if data.len() == HashAlgo::Md5.digest_len() { HashAlgo::Md5 } else { HashAlgo::Sha1 };
                Digest::new(algo, data).ok().map(|digest| (DigestKind::Ima, digest))
            }
            other => other.digest(data),
        })
    }

    /// The name as stored (spaces are underscores), without its NUL: field `n-ng` or `n`.
    pub fn name(&self) -> Option<&[u8]> {
        self.field(Field::NNg).or_else(|| self.field(Field::N)).map(until_nul)
    }

    /// The bytes of field `sig`; `None` where absent or empty.
    pub fn signature(&self) -> Option<&[u8]> {
        self.field(Field::Sig).filter(|signature| !signature.is_empty())
    }

    /// The template digest a list shows: zero for a violation.
    ///
    /// # Errors
    /// [`UnavailableAlgo`], also for violations, so that a bank is refused before it is half filled.
    pub fn template_digest(&self, algo: HashAlgo) -> Result<Digest, UnavailableAlgo> {
        let hasher = Hasher::new(algo)?;
        Ok(if self.violation { Digest::zero(algo) } else { self.hash_data(hasher) })
    }

    /// What the PCR of a bank is extended with: the template digest, or ones for a violation.
    ///
    /// # Errors
    /// As [`Entry::template_digest`].
    pub fn extend_value(&self, algo: HashAlgo) -> Result<Digest, UnavailableAlgo> {
        let digest = self.template_digest(algo)?;
        Ok(if self.violation { Digest::ones(algo) } else { digest })
    }

    /// Hashes the template data, without regard to violations.
    pub(crate) fn hash_data(&self, mut hasher: Hasher) -> Digest {
        if self.template.is_legacy_ima() {
            for (field, data) in self.template.fields().iter().zip(self.fields()) {
                hasher.update(data);
                if *field == Field::N {
                    // To the size of the kernel's buffer, in which the name stands with its NUL.
                    let padding = [0; NAME_MAX + 1];
                    hasher.update(padding.get(data.len()..).unwrap_or_default());
                }
            }
        } else {
            hasher.update(&self.data);
        }
        hasher.finish()
    }

    /// Appends the line of the ASCII list whose template digests are of `algo` (the unsuffixed list: SHA-1).
    ///
    /// # Errors
    /// As [`Entry::template_digest`]; nothing is appended then.
    pub fn write_ascii(&self, out: &mut Vec<u8>, algo: HashAlgo) -> Result<(), UnavailableAlgo> {
        self.write_ascii_with(out, &self.template_digest(algo)?);
        Ok(())
    }

    /// As [`Entry::write_ascii`], with the template digest already at hand.
    pub fn write_ascii_with(&self, out: &mut Vec<u8>, template_digest: &Digest) {
        out.extend_from_slice(format!("{:2} ", self.pcr).as_bytes());
        push_hex(out, template_digest.bytes());
        out.push(b' ');
        out.extend_from_slice(self.template.listed_name().as_bytes());
        for (field, data) in self.template.fields().iter().zip(self.fields()) {
            out.push(b' ');
            field.write_ascii(data, out);
        }
        out.push(b'\n');
    }

    /// Appends the record of the binary list whose template digests are of `algo` (the unsuffixed list: SHA-1).
    ///
    /// # Errors
    /// As [`Entry::template_digest`]; nothing is appended then.
    pub fn write_binary(&self, out: &mut Vec<u8>, algo: HashAlgo) -> Result<(), UnavailableAlgo> {
        self.write_binary_with(out, &self.template_digest(algo)?);
        Ok(())
    }

    /// As [`Entry::write_binary`], with the template digest already at hand.
    pub fn write_binary_with(&self, out: &mut Vec<u8>, template_digest: &Digest) {
        let name = self.template.listed_name();
        out.extend_from_slice(&self.pcr.value().to_le_bytes());
        out.extend_from_slice(template_digest.bytes());
        push_length(out, name.len());
        out.extend_from_slice(name.as_bytes());
        if self.template.is_legacy_ima() {
            for (field, data) in self.template.fields().iter().zip(self.fields()) {
                if *field == Field::N {
                    let name = until_nul(data);
                    push_length(out, name.len());
                    out.extend_from_slice(name);
                } else {
                    out.extend_from_slice(data);
                }
            }
        } else {
            push_length(out, self.data.len());
            out.extend_from_slice(&self.data);
        }
    }

    /// Length of the template data in bytes, field lengths included.
    pub const fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// Appends a length. Template data beyond 4 GiB cannot be written by any kernel and does not come out of a list either.
fn push_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("pcr", &self.pcr.value())
            .field("template", &self.template)
            .field("violation", &self.violation)
            .field("digest", &self.digest())
            .field("name", &String::from_utf8_lossy(self.name().unwrap_or_default()))
            .finish_non_exhaustive()
    }
}

/// The data of an entry's fields, one after the other.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    /// The next field; `None` at the end and at a length that runs past it, which leaves the rest unread.
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(field)
    }
}
