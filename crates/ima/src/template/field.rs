//! The fields of templates: what each holds, how it is shown, and how what is shown is read back.
//!
//! Source: `ima_event*_init` and `ima_show_template_data_ascii`, security/integrity/ima/ima_template_lib.c, Linux 6.1.

use std::borrow::Cow;

use crate::{
    Digest, DigestKind, HashAlgo,
    label::{TYPE_PORTABLE_SIGNATURE, TYPE_SIGNATURE, TYPE_VERITY_SIGNATURE},
    template::Event,
};

/// `IMA_EVENT_NAME_LEN_MAX`: the longest name in field `n`, without its NUL.
pub(crate) const NAME_MAX: usize = 255;

/// Why an event cannot be recorded by a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Field `d` holds SHA-1 or MD5, and the event brings neither.
    #[error("template field d needs a sha1 or md5 digest")]
    LegacyDigest,
    /// A field is longer than its 32-bit length can tell.
    #[error("template field {0} is too long")]
    TooLong(&'static str),
}

/// Generates the enum and the ids.
macro_rules! fields {
    ($($variant:ident = $id:literal, $show:ident, $doc:literal;)*) => {
        /// A field of a template.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Field {
            $(#[doc = $doc] $variant,)*
        }

        impl Field {
            /// The id in a template format.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)*
                }
            }

            /// The field of an id.
            pub fn from_id(id: &str) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// How the data is written in an ASCII list.
            const fn show(self) -> Show {
                match self {
                    $(Self::$variant => Show::$show,)*
                }
            }
        }
    };
}

fields! {
    D = "d", Hex, "SHA-1 or MD5 digest, bare.";
    N = "n", Text, "Name of at most 255 bytes, and a NUL.";
    DNg = "d-ng", Digest, "`algorithm:`, NUL, digest.";
    DNgV2 = "d-ngv2", Digest, "`ima:` or `verity:`, then as `d-ng`.";
    NNg = "n-ng", Text, "Name of any length, and a NUL.";
    Sig = "sig", Hex, "The label where it is a signature, else a portable signature in `security.evm`.";
    EvmSig = "evmsig", Hex, "A portable signature in `security.evm`.";
    DModsig = "d-modsig", Digest, "As `d-ng`, over the content without its appended signature.";
    Modsig = "modsig", Hex, "The appended signature.";
    Buf = "buf", Hex, "A buffer.";
    IUid = "iuid", Number, "Owner, `u32`.";
    IGid = "igid", Number, "Group, `u32`.";
    IMode = "imode", Number, "Mode, `u16`.";
    XattrNames = "xattrnames", Text, "Names of extended attributes, separated by `|`, and one NUL.";
    XattrLengths = "xattrlengths", Hex, "Lengths of their values, `u32` each.";
    XattrValues = "xattrvalues", Hex, "Their values, one behind the other.";
}

/// `enum data_formats` of the kernel, by what it does with them.
enum Show {
    Digest,
    Hex,
    Text,
    Number,
}

impl Field {
    /// The field's data for an event: what is hashed and what the binary list holds, without the length before it.
    ///
    /// # Errors
    /// [`TemplateError::LegacyDigest`] for `d`.
    pub(crate) fn encode<'a>(self, event: &Event<'a>) -> Result<Cow<'a, [u8]>, TemplateError> {
        let portable = event.evm.filter(|value| value.first() == Some(&TYPE_PORTABLE_SIGNATURE));
        Ok(match self {
            Self::D => legacy_digest(event)?.into(),
            Self::N => stored_text(legacy_name(event)).into(),
            Self::NNg => stored_text(event.name).into(),
            Self::DNg => tagged_digest(None, &content_digest(event)).into(),
            Self::DNgV2 => {
                let kind = if event.violation { DigestKind::Ima } else { event.kind };
                tagged_digest(Some(kind), &content_digest(event)).into()
            }
            Self::Sig => {
                let is_signature =
                    |value: &&[u8]| matches!(value.first(), Some(&TYPE_SIGNATURE | &TYPE_VERITY_SIGNATURE));
                event.label.filter(is_signature).or(portable).unwrap_or_default().into()
            }
            Self::EvmSig => portable.unwrap_or_default().into(),
            Self::DModsig => match event.modsig {
                Some(modsig) => tagged_digest(None, &modsig.digest).into(),
                None => Cow::default(),
            },
            Self::Modsig => event.modsig.map(|modsig| modsig.der).unwrap_or_default().into(),
            Self::Buf => event.buf.unwrap_or_default().into(),
            Self::IUid => attribute(event.file.map(|file| file.uid.to_le_bytes())),
            Self::IGid => attribute(event.file.map(|file| file.gid.to_le_bytes())),
            Self::IMode => attribute(event.file.map(|file| file.mode.to_le_bytes())),
            Self::XattrNames if event.xattrs.is_empty() => Cow::default(),
            Self::XattrNames => {
                let names: Vec<_> = event.xattrs.iter().map(|(name, _)| *name).collect();
                stored_text(&names.join(&b'|')).into()
            }
            Self::XattrLengths => xattr_lengths(event)?.into(),
            Self::XattrValues => {
                event.xattrs.iter().flat_map(|(_, value)| value.iter().copied()).collect::<Vec<_>>().into()
            }
        })
    }

    /// Appends the data as an ASCII list shows it; nothing for no data.
    pub(crate) fn write_ascii(self, data: &[u8], out: &mut Vec<u8>) {
        if data.is_empty() {
            return;
        }
        match self.show() {
            Show::Hex => push_hex(out, data),
            Show::Text => out.extend_from_slice(until_nul(data)),
            Show::Digest => {
                let tag = until_nul(data);
                // A lone colon names no algorithm, and the kernel does not show it.
                if tag != b":" {
                    out.extend_from_slice(tag);
                }
                push_hex(out, data.get(tag.len() + 1..).unwrap_or_default());
            }
            Show::Number => match little_endian(data) {
                Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
                None => push_hex(out, data),
            },
        }
    }

    /// The data of what an ASCII list shows; `None` where this field never looks like that.
    pub(crate) fn parse_ascii(self, text: &[u8]) -> Option<Vec<u8>> {
        // What is shown ends at the first NUL.
        if text.contains(&0) {
            return None;
        }
        match (self.show(), self) {
            (Show::Text, Self::XattrNames) if text.is_empty() => Some(Vec::new()),
            // A kernel's name, which may hold anything: taken as it stands.
            (Show::Text, _) => Some([text, &[0]].concat()),
            _ if text.is_empty() => Some(Vec::new()),
            (Show::Hex, _) => hex::decode(text).ok(),
            (Show::Digest, _) => {
                let colon = text.iter().rposition(|byte| *byte == b':')?;
                let (tag, digits) = text.split_at_checked(colon + 1)?;
                Some([tag, &[0], &hex::decode(digits).ok()?].concat())
            }
            (Show::Number, Self::IMode) => Some(decimal::<u16>(text)?.to_le_bytes().to_vec()),
            (Show::Number, _) => Some(decimal::<u32>(text)?.to_le_bytes().to_vec()),
        }
    }

    /// The digest in this field's data, for the fields that name its algorithm.
    pub(crate) fn digest(self, data: &[u8]) -> Option<(DigestKind, Digest)> {
        let tag = until_nul(data);
        let tag_text = std::str::from_utf8(tag).ok()?.strip_suffix(':')?;
        let (kind, algo) = match self {
            Self::DNg => (DigestKind::Ima, tag_text),
            Self::DNgV2 => match tag_text.split_once(':')? {
                ("ima", algo) => (DigestKind::Ima, algo),
                ("verity", algo) => (DigestKind::Verity, algo),
                _ => return None,
            },
            _ => return None,
        };
        Some((kind, Digest::new(HashAlgo::from_name(algo)?, data.get(tag.len() + 1..)?).ok()?))
    }
}

/// The digest to show: of a violation, zeros.
fn content_digest(event: &Event<'_>) -> Digest {
    if event.violation { Digest::zero(event.digest.algo()) } else { event.digest }
}

/// Field `d`: twenty zeros for a violation, whatever the default algorithm.
fn legacy_digest(event: &Event<'_>) -> Result<Vec<u8>, TemplateError> {
    if event.violation {
        return Ok(Digest::zero(HashAlgo::Sha1).bytes().to_vec());
    }
    [Some(event.digest), event.legacy_digest]
        .into_iter()
        .flatten()
        .find(|digest| matches!(digest.algo(), HashAlgo::Sha1 | HashAlgo::Md5))
        .map(|digest| digest.bytes().to_vec())
        .ok_or(TemplateError::LegacyDigest)
}

/// Field `n`: a name too long is replaced by a file's last component, or cut where there is no file.
fn legacy_name<'a>(event: &Event<'a>) -> &'a [u8] {
    let name = event.name;
    if name.len() <= NAME_MAX {
        return name;
    }
    let shorter =
        if event.file.is_some() { name.rsplit(|byte| *byte == b'/').next().unwrap_or(name) } else { name };
    // A component is at most 255 bytes long on every filesystem IMA measures.
    shorter.get(..NAME_MAX).unwrap_or(shorter)
}

/// Text as it is stored: each space an underscore, a NUL behind.
///
/// So far the kernel. A newline it stores as it is, and one in a file's name then begins a line of the ASCII list
/// that the file's maker wrote. Here it is an underscore too, and so is the carriage return, at which readers in
/// Python's text mode end a line. Done before anything is hashed, so every reader that takes a line apart and hashes
/// it again gets the digest it finds there.
fn stored_text(text: &[u8]) -> Vec<u8> {
    let stored = |byte: &u8| if matches!(byte, b' ' | b'\n' | b'\r') { b'_' } else { *byte };
    text.iter().map(stored).chain([0]).collect()
}

fn tagged_digest(kind: Option<DigestKind>, digest: &Digest) -> Vec<u8> {
    let mut data = Vec::with_capacity(16 + digest.bytes().len());
    if let Some(kind) = kind {
        data.extend_from_slice(kind.name().as_bytes());
        data.push(b':');
    }
    data.extend_from_slice(digest.algo().name().as_bytes());
    data.extend_from_slice(b":\0");
    data.extend_from_slice(digest.bytes());
    data
}

fn attribute<const N: usize>(bytes: Option<[u8; N]>) -> Cow<'static, [u8]> {
    bytes.map(Vec::from).unwrap_or_default().into()
}

fn xattr_lengths(event: &Event<'_>) -> Result<Vec<u8>, TemplateError> {
    let mut lengths = Vec::with_capacity(4 * event.xattrs.len());
    for (_, value) in event.xattrs {
        let length = u32::try_from(value.len()).map_err(|_| TemplateError::TooLong("xattrvalues"))?;
        lengths.extend_from_slice(&length.to_le_bytes());
    }
    Ok(lengths)
}

/// What C's `%s` shows of `data`.
pub(crate) fn until_nul(data: &[u8]) -> &[u8] {
    data.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Appends lowercase hex.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

/// The sizes of numbers the kernel shows in decimal.
fn little_endian(data: &[u8]) -> Option<u64> {
    match *data {
        [a] => Some(u64::from(a)),
        [a, b] => Some(u64::from(u16::from_le_bytes([a, b]))),
        [a, b, c, d] => Some(u64::from(u32::from_le_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

fn decimal<T: std::str::FromStr + std::fmt::Display>(text: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(text).ok()?;
    // Printed again, so that `+1` and `01`, which no kernel writes, are refused.
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}
