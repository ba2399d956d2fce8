//! Reading, writing, holes, copies, mappings.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, copy_file_range, fallocate, seek};

use crate::common::{ALL, LENDING, Rig, SERVING, Setting, can_mount, shell};

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn what_is_written_is_read_at_every_size() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        for size in [0, 1, 4095, 4096, 4097, 131_072, 1 << 20, (1 << 20) + 1, 5_000_000] {
            let content = pattern(size);
            fs::write(rig.at("file"), &content).unwrap();
            assert!(fs::read(rig.at("file")).unwrap() == content, "{size} {setting:?}");
            assert!(fs::read(rig.under("file")).unwrap() == content, "{size} {setting:?}");
            assert_eq!(fs::metadata(rig.at("file")).unwrap().len(), size as u64);
        }
        let mut file = File::options().read(true).write(true).open(rig.at("file")).unwrap();
        file.write_all_at(b"in the middle", 2_000_000).unwrap();
        file.seek(SeekFrom::Start(2_000_003)).unwrap();
        let mut four = [0; 4];
        file.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"the ");
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        File::open(&rig.target).unwrap().sync_all().unwrap();
    }
}

#[test]
fn files_are_lent_or_cached_as_their_size_says() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    if !rig.fs.lends() {
        eprintln!("skipped: this kernel lends nothing");
        return;
    }
    fs::write(rig.under("small"), pattern(1000)).unwrap();
    fs::write(rig.under("large"), pattern(3 << 20)).unwrap();
    fs::read(rig.at("small")).unwrap();
    assert_eq!(rig.fs.opened(), (1, 0));
    fs::read(rig.at("large")).unwrap();
    assert_eq!(rig.fs.opened(), (1, 1));
    fs::write(rig.at("small"), b"x").unwrap();
    assert_eq!(rig.fs.opened(), (1, 2));
    let without = Rig::new(SERVING);
    fs::write(without.at("small"), b"x").unwrap();
    assert_eq!(without.fs.opened(), (1, 0));
}

#[test]
fn cached_readers_and_writers_of_one_file_never_meet_an_error() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::write(rig.at("file"), b"first").unwrap();
        let mut held: Vec<File> = Vec::new();
        for turn in 0..200_u32 {
            let content = format!("content of turn {turn}");
            let reader = File::open(rig.at("file")).unwrap();
            let writer = File::options().read(true).write(true).open(rig.at("file")).unwrap();
            writer.set_len(0).unwrap();
            writer.write_all_at(content.as_bytes(), 0).unwrap();
            let mut read = vec![0; content.len()];
            reader.read_exact_at(&mut read, 0).unwrap();
            assert_eq!(read, content.as_bytes(), "{setting:?}");
            match turn % 3 {
                0 => drop(reader),
                1 => held.push(reader),
                _ => held.clear(),
            }
            drop(writer);
            assert_eq!(fs::read(rig.at("file")).unwrap(), content.as_bytes());
        }
    }
}

#[test]
fn pages_kept_by_the_kernel_are_never_older_than_the_last_write() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        for turn in 0..300_u32 {
            let content = format!("{turn:04}");
            fs::write(rig.at("file"), &content).unwrap();
            assert_eq!(fs::read_to_string(rig.at("file")).unwrap(), content);
            assert_eq!(fs::read_to_string(rig.at("file")).unwrap(), content);
        }
        // Through a lent file, while nobody holds the cached one open.
        let writer = File::options().write(true).open(rig.at("file")).unwrap();
        writer.write_all_at(b"lent", 0).unwrap();
        assert_eq!(fs::read_to_string(rig.at("file")).unwrap(), "lent");
        drop(writer);
        assert_eq!(fs::read_to_string(rig.at("file")).unwrap(), "lent");
    }
}

#[test]
fn holes_are_punched_found_and_read_as_zeros() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::write(rig.at("file"), pattern(64 << 10)).unwrap();
        let file = File::options().read(true).write(true).open(rig.at("file")).unwrap();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, punch, 16 << 10, 16 << 10).unwrap();
        assert_eq!(seek(&file, rustix::fs::SeekFrom::Hole(0)), Ok(16 << 10), "{setting:?}");
        assert_eq!(seek(&file, rustix::fs::SeekFrom::Data(16 << 10)), Ok(32 << 10));
        assert_eq!(seek(&file, rustix::fs::SeekFrom::Data(1 << 20)), Err(rustix::io::Errno::NXIO));
        let mut hole = [1; 4096];
        file.read_exact_at(&mut hole, 20 << 10).unwrap();
        assert_eq!(hole, [0; 4096]);
        fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        assert_eq!(fs::metadata(rig.under("file")).unwrap().len(), 1 << 20);
    }
}

#[test]
fn copies_within_the_mount_carry_the_bytes() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        let content = pattern(300_000);
        fs::write(rig.at("from"), &content).unwrap();
        let (from, to) = (File::open(rig.at("from")).unwrap(), File::create(rig.at("to")).unwrap());
        let mut copied = 0;
        loop {
            match copy_file_range(&from, None, &to, None, 1 << 30).unwrap() {
                0 => break,
                more => copied += more,
            }
        }
        assert_eq!(copied, content.len());
        assert!(fs::read(rig.at("to")).unwrap() == content, "{setting:?}");
        fs::copy(rig.at("from"), rig.at("again")).unwrap();
        assert!(fs::read(rig.under("again")).unwrap() == content);
    }
}

#[test]
fn a_shared_mapping_reaches_the_file_and_a_reader() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        for size in [4096, 3 << 20] {
            fs::write(rig.at("mapped"), pattern(size)).unwrap();
            let file = File::options().read(true).write(true).open(rig.at("mapped")).unwrap();
            let mut mapping = sys::mapping::Shared::map(file.as_fd(), size).unwrap();
            drop(file);
            mapping.write(100, b"mapped").unwrap();
            drop(mapping);
            let mut expected = pattern(size);
            expected[100..106].copy_from_slice(b"mapped");
            assert!(fs::read(rig.at("mapped")).unwrap() == expected, "{size} {setting:?}");
            assert!(fs::read(rig.under("mapped")).unwrap() == expected, "{size} {setting:?}");
        }
    }
}

#[test]
fn direct_and_appending_writes_work() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        shell(&rig.target, "dd if=/dev/zero of=direct bs=64k count=8 oflag=direct status=none");
        shell(&rig.target, "dd if=direct of=/dev/null bs=64k iflag=direct status=none");
        shell(&rig.target, "dd if=/dev/zero of=synced bs=4k count=8 oflag=sync status=none");
        let mut file = File::options().append(true).create(true).open(rig.at("appended")).unwrap();
        file.write_all(b"one ").unwrap();
        fs::write(rig.at("other"), b"").unwrap();
        file.write_all(b"two").unwrap();
        assert_eq!(fs::read(rig.under("appended")).unwrap(), b"one two");
    }
}

#[test]
fn several_processes_append_without_losing_a_line() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        shell(
            &rig.target,
            "for p in 1 2 3 4; do (i=0; while [ $i -lt 250 ]; do echo line-$p-$i >> log; i=$((i+1)); done) & done; wait",
        );
        let log = fs::read_to_string(rig.at("log")).unwrap();
        assert_eq!(log.lines().count(), 1000);
        let mut lines: Vec<_> = log.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 1000, "{setting:?}");
    }
}

#[test]
fn a_cold_file_is_read_whole() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(Setting { page_cache_limit: 64 << 20, ..SERVING });
    let content = pattern(9 << 20);
    fs::write(rig.under("cold"), &content).unwrap();
    let file = File::open(rig.under("cold")).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert!(fs::read(rig.at("cold")).unwrap() == content);
}
