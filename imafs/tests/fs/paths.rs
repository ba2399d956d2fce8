//! Rules about paths, and files with several names.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{LENDING, Rig, SERVING, SHARED, Setting, can_mount, shell};

/// Nothing has a label here, so what a rule appraises is refused.
const GUARDED: &str = "appraise func=FILE_CHECK path=/guarded/**\n";

fn rig(setting: Setting) -> Rig {
    let rig = Rig::new(Setting { policy: GUARDED, ..setting });
    shell(&rig.source, "mkdir guarded free; echo x > guarded/file; echo y > free/file");
    rig
}

fn refused(path: impl AsRef<Path>) -> bool {
    match fs::read(path) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
            true
        }
    }
}

#[test]
fn a_link_made_in_the_mount_leaves_a_file_under_the_rules_of_all_its_names() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, SERVING, SHARED] {
        let rig = rig(setting);
        assert!(refused(rig.at("guarded/file")) && !refused(rig.at("free/file")));
        fs::hard_link(rig.at("guarded/file"), rig.at("free/link")).unwrap();
        fs::hard_link(rig.at("free/file"), rig.at("free/other")).unwrap();
        for _ in 0..2 {
            assert!(refused(rig.at("free/link")), "{setting:?}");
            assert!(!refused(rig.at("free/other")), "{setting:?}");
            assert!(!refused(rig.at("free/file")));
            assert!(refused(rig.at("guarded/file")));
        }
        fs::hard_link(rig.at("free/file"), rig.at("guarded/other")).unwrap();
        assert!(refused(rig.at("free/file")), "now it has a name there");
        fs::remove_file(rig.at("guarded/other")).unwrap();
        assert!(!refused(rig.at("free/file")) && !refused(rig.at("free/other")));
        fs::remove_file(rig.at("guarded/file")).unwrap();
        assert!(!refused(rig.at("free/link")), "its only name is outside");
    }
}

#[test]
fn names_nobody_has_looked_up_count_as_those_of_any_rule() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, SHARED] {
        let rig = rig(setting);
        shell(&rig.source, "ln guarded/file free/link; ln free/file free/other");
        assert!(refused(rig.at("free/link")));
        assert!(refused(rig.at("free/other")), "its second name may be anywhere");
        fs::metadata(rig.at("free/file")).unwrap();
        assert!(!refused(rig.at("free/other")), "{setting:?}");
        fs::metadata(rig.at("guarded/file")).unwrap();
        assert!(refused(rig.at("free/link")));
    }
    let rig = rig(SHARED);
    fs::hard_link(rig.at("free/file"), rig.at("free/other")).unwrap();
    assert!(!refused(rig.at("free/file")));
    // The number of names is that of those known, and yet one of them is not.
    shell(&rig.source, "ln free/file guarded/other; rm free/other");
    assert!(refused(rig.at("free/file")));
}

/// However it came that a file is not where it was looked up last: it is not served as if it were.
#[test]
fn a_file_that_is_not_where_it_was_looked_up_counts_as_one_of_any_rule() {
    if !can_mount() {
        return;
    }
    let rig = rig(LENDING);
    shell(&rig.source, "echo z > free/stays; echo z > free/goes; mkdir free/dir; echo z > free/dir/below");
    let goes = fs::File::open(rig.at("free/goes")).unwrap();
    assert!(!refused(rig.at("free/file")) && !refused(rig.at("free/stays")));
    assert!(!refused(rig.at("free/dir/below")));
    // The kernel keeps the names of a mount that nobody else writes for a day.
    shell(&rig.source, "mv free/file guarded/moved; mv free/dir free/elsewhere; rm free/goes");
    assert!(refused(rig.at("free/file")));
    assert!(!refused(rig.at("free/stays")));
    assert!(!refused(rig.at("free/dir/below")), "it has its name still in its directory");
    let again = format!("/proc/self/fd/{}", goes.as_raw_fd());
    assert!(!refused(again), "what has no name at all has none that a rule is about");
}

#[test]
fn renaming_moves_a_name_and_leaves_the_others() {
    if !can_mount() {
        return;
    }
    let rig = rig(LENDING);
    fs::hard_link(rig.at("free/file"), rig.at("free/other")).unwrap();
    fs::create_dir(rig.at("moved")).unwrap();
    fs::rename(rig.at("free/other"), rig.at("moved/other")).unwrap();
    assert!(!refused(rig.at("free/file")) && !refused(rig.at("moved/other")));
    fs::rename(rig.at("moved"), rig.at("guarded/moved")).unwrap();
    assert!(refused(rig.at("free/file")) && refused(rig.at("guarded/moved/other")));
    fs::rename(rig.at("guarded/moved"), rig.at("moved")).unwrap();
    assert!(!refused(rig.at("free/file")) && !refused(rig.at("moved/other")));
    // To rename one name of a file to another does nothing.
    fs::rename(rig.at("moved/other"), rig.at("free/file")).unwrap();
    assert!(!refused(rig.at("free/file")) && !refused(rig.at("moved/other")));
    shell(&rig.target, "echo z > third; mv third moved/other");
    assert!(!refused(rig.at("free/file")) && !refused(rig.at("moved/other")));
    assert_eq!(fs::read(rig.at("free/file")).unwrap(), b"y\n");
}

#[test]
fn a_file_with_more_names_than_are_kept_is_held_against_every_rule() {
    if !can_mount() {
        return;
    }
    let rig = rig(LENDING);
    for number in 0..16 {
        fs::hard_link(rig.at("free/file"), rig.at(&format!("free/{number}"))).unwrap();
    }
    assert!(!refused(rig.at("free/file")));
    fs::hard_link(rig.at("free/file"), rig.at("free/more")).unwrap();
    assert!(refused(rig.at("free/file")) && refused(rig.at("free/more")));
    for number in 0..16 {
        fs::remove_file(rig.at(&format!("free/{number}"))).unwrap();
    }
    fs::metadata(rig.at("free/more")).unwrap();
    assert!(!refused(rig.at("free/file")));
}

/// Whether a good file is refused must not depend on what the kernel has room for.
#[test]
fn names_stay_known_when_the_kernel_forgets_the_file_and_go_with_the_second_name() {
    if !can_mount() {
        return;
    }
    let rig = rig(LENDING);
    fs::hard_link(rig.at("free/file"), rig.at("free/other")).unwrap();
    shell(&rig.source, "mkdir many; cd many; seq 500 | xargs touch");
    shell(&rig.target, "ls -l many > /dev/null");
    let drop_until = |most: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while rig.fs.records() > most && Instant::now() < deadline {
            fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
        rig.fs.records()
    };
    assert!(drop_until(3) >= 3, "the root, the directory and the file are kept");
    assert!(!refused(rig.at("free/file")));
    fs::remove_file(rig.at("free/other")).unwrap();
    assert_eq!(drop_until(1), 1, "a file with one name is not kept");
}
