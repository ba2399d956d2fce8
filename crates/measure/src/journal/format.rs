//! The bytes of a journal: `docs/journal.md`, section "The format". No I/O.

use ima::{Digest, Entry, HashAlgo, Hasher, PcrIndex, Template, UnavailableAlgo, parse_binary};

use super::bytes::{Bytes, put_name, put_sized};

pub(crate) const MAGIC: &[u8; 8] = b"imafsJRN";
pub(crate) const MARK_MAGIC: &[u8; 8] = b"imafsSYN";
pub(crate) const VERSION: u16 = 1;
/// Bytes of a record before its payload.
pub(crate) const RECORD_HEAD: usize = 32;
/// The longest payload. A template holds at most a path, some attributes of 64 KiB and a buffer.
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;
/// The longest header: names of 255 bytes and a template's format.
pub(crate) const MAX_HEADER: usize = 8192;
/// Bytes of the `synced` file.
pub(crate) const MARK_LEN: usize = 48;

/// What identifies one journal among all.
pub type JournalId = [u8; 16];

/// What a list must have in common with its journal to continue it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The mount's name on its host.
    pub ns_id: String,
    /// The list's default algorithm.
    pub default_algo: HashAlgo,
    /// The list's default template.
    pub template: Template,
    /// The list's default PCR.
    pub pcr: PcrIndex,
    /// The algorithms of the PCR banks, in their order.
    pub banks: Vec<HashAlgo>,
}

/// Whose registers a list extends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The process's: they end with it.
    Process,
    /// A device's, which outlives the process.
    Device,
}

/// The beginning of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Random.
    pub id: JournalId,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// Whose list it is.
    pub identity: Identity,
    /// Whose the registers are.
    pub owner: Owner,
}

/// A register that the list extends, in one bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Its number.
    pub pcr: PcrIndex,
    /// Before the list first extended it.
    pub base: Digest,
    /// Now.
    pub value: Digest,
}

/// What closes a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Entries in the list.
    pub entries: u64,
    /// The registers after all entries.
    pub registers: Vec<Register>,
}

/// The last word on a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// When, seconds since 1970.
    pub time: u64,
    /// Entries in the list.
    pub entries: u64,
    /// SHA-256 of the binary list with SHA-1 template digests.
    pub list_digest: Digest,
    /// The registers after all entries.
    pub registers: Vec<Register>,
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A line of the list.
    Entry(Entry),
    /// The end of a batch.
    State(State),
    /// The end of the list.
    End(End),
}

/// The kinds of records, by their letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Entry,
    State,
    End,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Kind::Entry => b'E',
            Kind::State => b'S',
            Kind::End => b'Z',
        }
    }

    fn of(letter: u8) -> Option<Self> {
        [Kind::Entry, Kind::State, Kind::End].into_iter().find(|kind| kind.letter() == letter)
    }
}

/// Computes checksums. Those of records begin with the journal's id, so that what an older file left on the disk is no
/// record of this one.
#[derive(Debug, Clone)]
pub(crate) struct Seal(Hasher);

impl Seal {
    pub(crate) fn new(id: &JournalId) -> Result<Self, UnavailableAlgo> {
        let mut hasher = Hasher::new(HashAlgo::Sha256)?;
        hasher.update(id);
        Ok(Self(hasher))
    }

    fn over(&self, head: &[u8], payload: &[u8]) -> [u8; 8] {
        let mut hasher = self.0.clone();
        hasher.update(head);
        hasher.update(payload);
        first_eight(&hasher.finish())
    }
}

fn first_eight(digest: &Digest) -> [u8; 8] {
    digest.bytes().first_chunk().copied().unwrap_or_default()
}

fn plain_sum(bytes: &[u8]) -> Result<[u8; 8], UnavailableAlgo> {
    ima::hash(HashAlgo::Sha256, bytes).map(|digest| first_eight(&digest))
}

/// A record's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) length: usize,
    pub(crate) sequence: u64,
    pub(crate) batch: u64,
    sum: [u8; 8],
    /// The bytes the checksum covers.
    covered: [u8; 24],
}

impl Head {
    /// Reads a head; `None` where the bytes are none, whatever follows them.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let covered: [u8; 24] = *bytes.first_chunk()?;
        let mut bytes = Bytes(bytes);
        (bytes.take(3)? == b"IJR").then_some(())?;
        let kind = Kind::of(bytes.u8()?)?;
        let length = usize::try_from(bytes.u32()?).ok().filter(|length| *length <= MAX_PAYLOAD)?;
        let (sequence, batch) = (bytes.u64()?, bytes.u64()?);
        let sum = *bytes.take(8)?.first_chunk()?;
        Some(Self { kind, length, sequence, batch, sum, covered })
    }

    pub(crate) fn fits(&self, seal: &Seal, payload: &[u8]) -> bool {
        payload.len() == self.length && seal.over(&self.covered, payload) == self.sum
    }
}

/// Appends a record; `false`, and nothing is appended, where the payload is too long.
pub(crate) fn put_record(
    out: &mut Vec<u8>,
    seal: &Seal,
    kind: Kind,
    (sequence, batch): (u64, u64),
    payload: &[u8],
) -> bool {
    let Some(length) = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD) else {
        return false;
    };
    let mut head = Vec::with_capacity(RECORD_HEAD);
    head.extend_from_slice(b"IJR");
    head.push(kind.letter());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&sequence.to_le_bytes());
    head.extend_from_slice(&batch.to_le_bytes());
    let sum = seal.over(&head, payload);
    out.reserve(RECORD_HEAD + payload.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(&sum);
    out.extend_from_slice(payload);
    true
}

impl Header {
    /// The bytes of the header; `None` where a name is too long.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.id);
        body.extend_from_slice(&self.created.to_le_bytes());
        body.extend_from_slice(&self.identity.pcr.value().to_le_bytes());
        put_name(&mut body, &self.identity.ns_id)?;
        put_name(&mut body, self.identity.default_algo.name())?;
        put_sized(&mut body, self.identity.template.listed_name().as_bytes())?;
        body.push(u8::try_from(self.identity.banks.len()).ok()?);
        for bank in &self.identity.banks {
            put_name(&mut body, bank.name())?;
        }
        body.push(match self.owner {
            Owner::Process => 0,
            Owner::Device => 1,
        });
        let mut out = Vec::with_capacity(body.len() + 24);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let length =
            u16::try_from(body.len() + 24).ok().filter(|length| usize::from(*length) <= MAX_HEADER)?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&body);
        let sum = plain_sum(&out).ok()?;
        out.extend_from_slice(&sum);
        Some(out)
    }

    /// Reads the header that `bytes` begin with, and gives its length.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, usize), HeaderFault> {
        let mut fields = Bytes(bytes);
        if fields.take(8) != Some(MAGIC) {
            return Err(HeaderFault::Magic);
        }
        match fields.u16() {
            Some(VERSION) => {}
            Some(other) => return Err(HeaderFault::Version(other)),
            None => return Err(HeaderFault::Content),
        }
        let length = fields.u16().map(usize::from).ok_or(HeaderFault::Content)?;
        let whole = bytes.get(..length).ok_or(HeaderFault::Content)?;
        let (covered, sum) = whole.split_last_chunk::<8>().ok_or(HeaderFault::Content)?;
        if plain_sum(covered).ok() != Some(*sum) {
            return Err(HeaderFault::Content);
        }
        let body = covered.get(12..).ok_or(HeaderFault::Content)?;
        Ok((Self::parse_body(Bytes(body)).ok_or(HeaderFault::Content)?, length))
    }

    fn parse_body(mut body: Bytes<'_>) -> Option<Self> {
        (body.u32()? == 0).then_some(())?;
        let id = *body.take(16)?.first_chunk()?;
        let created = body.u64()?;
        let pcr = PcrIndex::new(body.u32()?)?;
        let ns_id = body.name()?.to_owned();
        let default_algo = HashAlgo::from_name(body.name()?)?;
        let template = Template::listed(std::str::from_utf8(body.sized()?).ok()?)?;
        let banks = (0..body.u8()?).map(|_| HashAlgo::from_name(body.name()?)).collect::<Option<_>>()?;
        let owner = match body.u8()? {
            0 => Owner::Process,
            1 => Owner::Device,
            _ => return None,
        };
        let identity = Identity { ns_id, default_algo, template, pcr, banks };
        body.0.is_empty().then_some(Self { id, created, identity, owner })
    }
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// They do not begin as a journal does.
    Magic,
    /// A version this program does not know.
    Version(u16),
    /// Cut short, of another checksum, or not what the fields may hold.
    Content,
}

impl State {
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&self.entries.to_le_bytes());
        put_registers(&mut out, &self.registers)?;
        Some(out)
    }

    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut fields = Bytes(payload);
        let state = Self { entries: fields.u64()?, registers: registers(&mut fields)? };
        fields.0.is_empty().then_some(state)
    }
}

impl End {
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(self.list_digest.bytes());
        put_registers(&mut out, &self.registers)?;
        Some(out)
    }

    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut fields = Bytes(payload);
        let (time, entries) = (fields.u64()?, fields.u64()?);
        let list_digest = fields.digest(HashAlgo::Sha256)?;
        let registers = registers(&mut fields)?;
        fields.0.is_empty().then_some(Self { time, entries, list_digest, registers })
    }
}

fn put_registers(out: &mut Vec<u8>, registers: &[Register]) -> Option<()> {
    out.extend_from_slice(&u16::try_from(registers.len()).ok()?.to_le_bytes());
    for register in registers {
        out.push(u8::try_from(register.pcr.value()).ok()?);
        put_name(out, register.value.algo().name())?;
        out.extend_from_slice(register.base.bytes());
        out.extend_from_slice(register.value.bytes());
    }
    Some(())
}

fn registers(fields: &mut Bytes<'_>) -> Option<Vec<Register>> {
    (0..fields.u16()?).map(|_| register(fields)).collect()
}

fn register(fields: &mut Bytes<'_>) -> Option<Register> {
    let pcr = PcrIndex::new(u32::from(fields.u8()?))?;
    let algo = HashAlgo::from_name(fields.name()?)?;
    Some(Register { pcr, base: fields.digest(algo)?, value: fields.digest(algo)? })
}

/// The payload of an entry; `None` for an entry whose written form does not read back as itself.
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) -> Option<()> {
    let start = out.len();
    entry.write_binary(out, HashAlgo::Sha1).ok()?;
    // The one template whose written form leaves the lengths of its fields out, so that some data reads back as other.
    let ambiguous = entry.template().is_legacy_ima();
    let faithful = !ambiguous || out.get(start..).and_then(parse_entry).as_ref() == Some(entry);
    faithful.then_some(())
}

/// The entry of a payload; `None` unless the payload is exactly one whose template digest is its own.
pub(crate) fn parse_entry(payload: &[u8]) -> Option<Entry> {
    let mut entries = parse_binary(payload, HashAlgo::Sha1);
    let entry = entries.next()?.ok()?;
    (entries.next().is_none() && entry.is_consistent()).then_some(entry.entry)
}

/// What a record of this kind holds; `None` where that is not of its form.
pub(crate) fn parse_payload(kind: Kind, payload: &[u8]) -> Option<Record> {
    match kind {
        Kind::Entry => parse_entry(payload).map(Record::Entry),
        Kind::State => State::parse(payload).map(Record::State),
        Kind::End => End::parse(payload).map(Record::End),
    }
}

/// How much of a journal is known to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) id: JournalId,
    pub(crate) batch: u64,
    pub(crate) end: u64,
}

impl Mark {
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(MARK_LEN);
        out.extend_from_slice(MARK_MAGIC);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.batch.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        let sum = plain_sum(&out).ok()?;
        out.extend_from_slice(&sum);
        Some(out)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (covered, sum) = bytes.split_last_chunk::<8>()?;
        let mut fields = Bytes(covered);
        (fields.take(8)? == MARK_MAGIC && plain_sum(covered).ok()? == *sum).then_some(())?;
        let id = *fields.take(16)?.first_chunk()?;
        let mark = Self { id, batch: fields.u64()?, end: fields.u64()? };
        fields.0.is_empty().then_some(mark)
    }
}

#[cfg(test)]
mod tests;
