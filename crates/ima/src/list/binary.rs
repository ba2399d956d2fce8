//! The binary list: records back to back, no header, integers little-endian.
//!
//! Source: `ima_measurements_show`, security/integrity/ima/ima_fs.c; `ima_restore_measurement_list`,
//! security/integrity/ima/ima_template.c, Linux 6.1.

use crate::{
    Digest, Entry, HashAlgo, PcrIndex, Template,
    list::{Cursor, ListError, ListFault, ParsedEntry},
};

/// `MAX_TEMPLATE_NAME_LEN`: the longest name or format, in bytes.
const MAX_TEMPLATE_NAME: usize = 255;
/// The longest event name in the `ima` template, in bytes.
const MAX_LEGACY_NAME: usize = 255;

/// Reads `list`, whose template digests are of `algo` (the unsuffixed list: SHA-1).
pub const fn parse_binary(list: &[u8], algo: HashAlgo) -> BinaryList<'_> {
    BinaryList { cursor: Cursor::new(list), algo }
}

/// Iterator over the entries of a binary list.
#[derive(Debug, Clone)]
pub struct BinaryList<'a> {
    cursor: Cursor<'a>,
    algo: HashAlgo,
}

impl BinaryList<'_> {
    /// How many bytes the entries returned so far take up.
    ///
    /// After [`ListFault::Truncated`] reading may be begun anew from here when more of the list has come in.
    pub const fn offset(&self) -> usize {
        self.cursor.offset()
    }
}

impl Iterator for BinaryList<'_> {
    type Item = Result<ParsedEntry, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        let algo = self.algo;
        self.cursor.step(|bytes| {
            let mut reader = Reader { rest: bytes };
            Ok((reader.entry(algo)?, reader.rest))
        })
    }
}

impl std::iter::FusedIterator for BinaryList<'_> {}

/// Takes one record apart. Nothing is copied before all of it is known to be there.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn entry(&mut self, algo: HashAlgo) -> Result<ParsedEntry, ListFault> {
        let pcr = PcrIndex::new(self.number()?).ok_or(ListFault::Pcr)?;
        let recorded = self.take(algo.digest_len())?;
        let recorded = Digest::new(algo, recorded).map_err(|_| ListFault::TemplateDigest)?;
        let template = self.template()?;
        let violation = recorded.is_zero();
        let entry = if template.is_legacy_ima() {
            self.legacy_entry(pcr, template, violation)?
        } else {
            let length = self.length()?;
            Entry::from_data(pcr, template, self.take(length)?, violation)
        };
        Ok(ParsedEntry { entry: entry.ok_or(ListFault::Data)?, recorded })
    }

    /// The `ima` template: twenty bytes of digest, then the name with its length but without its NUL.
    fn legacy_entry(
        &mut self,
        pcr: PcrIndex,
        template: Template,
        violation: bool,
    ) -> Result<Option<Entry>, ListFault> {
        let digest = self.take(HashAlgo::Sha1.digest_len())?.to_vec();
        let length = self.length()?;
        if length > MAX_LEGACY_NAME {
            return Err(ListFault::Data);
        }
        let name = self.take(length)?;
        if name.contains(&0) {
            return Err(ListFault::Data);
        }
        Ok(Entry::from_fields(pcr, template, &[digest, [name, &[0]].concat()], violation))
    }

    fn template(&mut self) -> Result<Template, ListFault> {
        let length = self.length()?;
        if length > MAX_TEMPLATE_NAME {
            return Err(ListFault::Template);
        }
        let name = std::str::from_utf8(self.take(length)?).map_err(|_| ListFault::Template)?;
        Template::listed(name).ok_or(ListFault::Template)
    }

    fn length(&mut self) -> Result<usize, ListFault> {
        // A length beyond the address space is beyond the list as well.
        usize::try_from(self.number()?).map_err(|_| ListFault::Truncated)
    }

    fn number(&mut self) -> Result<u32, ListFault> {
        let (number, rest) = self.rest.split_first_chunk().ok_or(ListFault::Truncated)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*number))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ListFault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ListFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}
