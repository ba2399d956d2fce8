//! What kind of file this is, as far as running it goes: ELF with its interpreter, script, or neither.
//!
//! FUSE shows neither mappings nor which of the files opened during an exec is the ELF interpreter. The header
//! tells: an ELF executable or shared object is what gets mapped, and its `PT_INTERP` is what the kernel opens
//! next. The parser reads hostile bytes: every field is fetched by checked offset.

use std::os::fd::AsFd;

use rustix::io::{Errno, pread, retry_on_intr};

/// Read at once: the ELF header and, nearly always, the program headers.
const HEAD: usize = 4096;

/// The kernel refuses a longer interpreter path (`PATH_MAX`, fs/binfmt_elf.c).
const INTERP_MAX: u64 = 4096;

/// The kernel refuses a larger program header table (64 KiB, fs/binfmt_elf.c).
const PHDR_TABLE_MAX: u64 = 65536;

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// Whether this machine puts the most significant byte first.
const NATIVE: bool = cfg!(target_endian = "big");

/// What an opened file is to an exec or a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An ELF executable or shared object.
    Elf {
        /// The path in its `PT_INTERP`, without the terminating zero.
        interpreter: Option<Box<[u8]>>,
    },
    /// Begins with `#!`.
    Script,
    /// Anything else.
    Other,
}

impl Kind {
    /// Whether the file is one that gets mapped for execution.
    pub fn is_elf(&self) -> bool {
        match self {
            Self::Elf { .. } => true,
            Self::Script | Self::Other => false,
        }
    }

    /// Reads what is needed of `fd` to tell.
    ///
    /// # Errors
    /// The errno of a failed read; a short or nonsensical file is [`Kind::Other`], not an error.
    pub fn of(fd: impl AsFd) -> Result<Self, Errno> {
        let mut head = vec![0_u8; HEAD];
        let length = read_up_to(&fd, &mut head, 0)?;
        head.truncate(length);
        if head.starts_with(b"#!") {
            return Ok(Self::Script);
        }
        if let Some(elf) = Header::parse(&head) {
            return Ok(Self::Elf { interpreter: elf.interpreter(&fd, &head)? });
        }
        for wide in [true, false] {
            if let Some(elf) = Header::read(&head, wide, NATIVE)
                && elf.is_dynamic(&fd, &head)?
            {
                return Ok(Self::Elf { interpreter: None });
            }
        }
        Ok(Self::Other)
    }
}

/// Where the program headers are and how to read them.
struct Header {
    wide: bool,
    big_endian: bool,
    table: u64,
    entry: u64,
    count: u64,
}

impl Header {
    /// Takes `ET_EXEC` and `ET_DYN` of both classes and byte orders; relocatable objects and cores are not
    /// mapped for execution.
    ///
    /// The byte order is the declared one or the machine's own, whichever fits: the kernel does not look at what
    /// is declared (`load_elf_binary`, fs/binfmt_elf.c).
    fn parse(head: &[u8]) -> Option<Self> {
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let wide = *head.get(4)? == 2;
        let declared = *head.get(5)? == 2;
        Self::read(head, wide, declared).or_else(|| Self::read(head, wide, NATIVE))
    }

    fn read(head: &[u8], wide: bool, big_endian: bool) -> Option<Self> {
        let kind = number(head, 16, 2, big_endian)?;
        if kind != 2 && kind != 3 {
            return None;
        }
        let (table, entry, count) = if wide { ((32, 8), 54, 56) } else { ((28, 4), 42, 44) };
        Some(Self {
            wide,
            big_endian,
            table: number(head, table.0, table.1, big_endian)?,
            entry: number(head, entry, 2, big_endian)?,
            count: number(head, count, 2, big_endian)?,
        })
    }

    /// The program headers and the size of each; `None` where the file does not hold them.
    fn table(&self, fd: &impl AsFd, head: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Errno> {
        let length = self.entry.saturating_mul(self.count);
        let minimum = if self.wide { 56 } else { 32 };
        if length > PHDR_TABLE_MAX || self.entry < minimum {
            return Ok(None);
        }
        let entry = usize::try_from(self.entry).unwrap_or(usize::MAX);
        Ok(slice_or_read(fd, head, self.table, length)?.map(|table| (table, entry)))
    }

    /// Whether this is what musl's loader takes for a shared object. It looks at no magic number, only for
    /// `PT_DYNAMIC` (`map_library`, ldso/dynlink.c).
    fn is_dynamic(&self, fd: &impl AsFd, head: &[u8]) -> Result<bool, Errno> {
        let Some((table, entry)) = self.table(fd, head)? else { return Ok(false) };
        let dynamic = Some(u64::from(PT_DYNAMIC));
        Ok(table.chunks_exact(entry).any(|header| number(header, 0, 4, self.big_endian) == dynamic))
    }

    fn interpreter(&self, fd: &impl AsFd, head: &[u8]) -> Result<Option<Box<[u8]>>, Errno> {
        let Some((table, entry)) = self.table(fd, head)? else { return Ok(None) };
        let Some((offset, size)) = table.chunks_exact(entry).find_map(|header| self.interp_place(header))
        else {
            return Ok(None);
        };
        if size > INTERP_MAX {
            return Ok(None);
        }
        let path = slice_or_read(fd, head, offset, size)?;
        Ok(path.map(|bytes| bytes.split(|byte| *byte == 0).next().unwrap_or_default().into()))
    }

    /// Offset and size in the file of a `PT_INTERP` header's path.
    fn interp_place(&self, header: &[u8]) -> Option<(u64, u64)> {
        if number(header, 0, 4, self.big_endian)? != u64::from(PT_INTERP) {
            return None;
        }
        let (offset, size, width) = if self.wide { (8, 32, 8) } else { (4, 16, 4) };
        Some((number(header, offset, width, self.big_endian)?, number(header, size, width, self.big_endian)?))
    }
}

/// The bytes `[offset, offset + length)` of the file, from its head where that holds them. `None` past the end.
fn slice_or_read(fd: &impl AsFd, head: &[u8], offset: u64, length: u64) -> Result<Option<Vec<u8>>, Errno> {
    let Ok(size) = usize::try_from(length) else { return Ok(None) };
    let in_head = usize::try_from(offset).ok().and_then(|start| head.get(start..start.checked_add(size)?));
    if let Some(bytes) = in_head {
        return Ok(Some(bytes.to_vec()));
    }
    if offset.checked_add(length).is_none_or(|end| i64::try_from(end).is_err()) {
        return Ok(None);
    }
    let mut bytes = vec![0_u8; size];
    let read = read_up_to(fd, &mut bytes, offset)?;
    Ok((read == size).then_some(bytes))
}

fn read_up_to(fd: &impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match retry_on_intr(|| pread(fd.as_fd(), &mut *rest, offset + done as u64))? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// An unsigned number of `width` bytes at `offset`, in the file's byte order.
fn number(bytes: &[u8], offset: usize, width: usize, big_endian: bool) -> Option<u64> {
    let field = bytes.get(offset..offset.checked_add(width)?)?;
    let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
    Some(if big_endian { field.iter().fold(0, fold) } else { field.iter().rev().fold(0, fold) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn of_bytes(bytes: &[u8]) -> Kind {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Kind::of(&file).unwrap()
    }

    #[test]
    fn the_running_test_is_elf_and_names_the_interpreter_that_readelf_names() {
        let exe = std::env::current_exe().unwrap();
        let Kind::Elf { interpreter: Some(path) } = Kind::of(File::open(&exe).unwrap()).unwrap() else {
            panic!("no interpreter found")
        };
        let readelf = std::process::Command::new("readelf").arg("-lW").arg(&exe).output().unwrap();
        let text = String::from_utf8_lossy(&readelf.stdout).into_owned();
        let said = text.split("interpreter: ").nth(1).unwrap().split(']').next().unwrap();
        assert_eq!(path.as_ref(), said.as_bytes());
    }

    #[test]
    fn scripts_texts_and_short_files_are_told_apart() {
        assert_eq!(of_bytes(b"#!/bin/sh\n"), Kind::Script);
        for bytes in [&b""[..], b"\x7f", b"\x7fELF", b"\x7fELF\x02\x01", b"hello", &[0; 64]] {
            assert_eq!(of_bytes(bytes), Kind::Other, "{bytes:?}");
        }
    }

    #[test]
    fn an_elf_file_that_lies_about_its_byte_order_or_its_magic_number_is_one_still() {
        let exe = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let with = |at: usize, byte: u8| [&exe[..at], &[byte], &exe[at + 1..]].concat();
        for disguised in [with(4, 1), with(5, 2), with(5, 0xff), with(0, b'M'), with(3, 0)] {
            assert!(of_bytes(&disguised).is_elf());
        }
        let object = with(16, 1);
        assert_eq!(of_bytes(&object), Kind::Other, "relocatable, not loadable");
        let mut data = vec![0_u8; 4096];
        data[16] = 3;
        assert_eq!(of_bytes(&data), Kind::Other);
    }

    #[test]
    fn every_truncation_and_every_changed_byte_of_an_elf_head_is_survived() {
        let exe = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let head = &exe[..1024];
        for cut in 0..head.len() {
            of_bytes(&head[..cut]);
        }
        for at in 0..128 {
            for value in [0x00, 0x7f, 0xff] {
                let mut bytes = head.to_vec();
                bytes[at] = value;
                of_bytes(&bytes);
            }
        }
    }
}
