//! Who owns what is made, and with which bits: the same as on the source, for callers that are not root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::common::{ALL, Rig, Setting, can_mount, shell, shell_as};

/// Makes one of each under several umasks.
const MAKE: &str = "
    for mask in 000 022 027 077; do
        umask $mask
        echo x > file$mask; mkdir dir$mask; mkfifo fifo$mask; ln -s t link$mask
        install -m 2755 /dev/null set$mask
    done
    umask 002; mkdir -m 1777 sticky; touch plain; cp plain copy
";

/// A user whose supplementary group 5555 gives it the directory.
const MEMBER: [&str; 3] = ["--reuid=1234", "--regid=4321", "--groups=5555"];

/// Type, mode, owner and group of everything in a directory.
fn listing(directory: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = fs::symlink_metadata(entry.path()).unwrap();
            format!("{:?} {:o} {} {}", entry.file_name(), meta.mode(), meta.uid(), meta.gid())
        })
        .collect();
    lines.sort();
    lines
}

/// Prepares the same directory in the mount and beside it, runs the same script in both, and compares.
fn compare(setting: Setting, prepare: &dyn Fn(&Path)) {
    let rig = Rig::new(setting);
    let plain = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(plain.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (inside, beside) = (rig.at("d"), plain.path().join("d"));
    for directory in [&inside, &beside] {
        fs::create_dir(directory).unwrap();
        prepare(directory);
        shell_as(directory, &MEMBER, MAKE);
    }
    assert_eq!(listing(&inside), listing(&beside), "{setting:?}");
    assert_eq!(listing(&rig.under("d")), listing(&beside), "{setting:?}");
    let acls = |directory: &Path| shell(directory, "getfacl -npR . 2>/dev/null || true");
    assert_eq!(acls(&inside), acls(&beside));
}

#[test]
fn what_a_member_of_a_supplementary_group_makes_is_as_on_the_source() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        compare(setting, &|directory| {
            chown(directory, Some(0), Some(5555)).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o770)).unwrap();
        });
    }
}

#[test]
fn a_set_group_id_directory_hands_down_its_group() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        compare(setting, &|directory| {
            chown(directory, Some(0), Some(5555)).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o2770)).unwrap();
        });
        // A group the caller is not in: the set-group-id bit of what it makes is stripped.
        compare(setting, &|directory| {
            chown(directory, Some(0), Some(7777)).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o2777)).unwrap();
        });
    }
}

#[test]
fn a_default_acl_takes_the_place_of_the_umask() {
    if !can_mount() {
        return;
    }
    if std::process::Command::new("setfacl").arg("--version").output().is_err() {
        eprintln!("skipped: needs setfacl");
        return;
    }
    for setting in ALL {
        compare(setting, &|directory| {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
            shell(directory, "setfacl -d -m u::rwx,g::rx,o::-,u:1234:rw,g:5555:rwx,m::rwx .");
        });
    }
}

#[test]
fn permissions_are_checked_with_supplementary_groups_and_acls() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::write(rig.at("group"), b"x").unwrap();
        chown(rig.at("group"), Some(0), Some(5555)).unwrap();
        fs::set_permissions(rig.at("group"), fs::Permissions::from_mode(0o060)).unwrap();
        shell_as(&rig.target, &MEMBER, "echo y >> group; cat group");
        let stranger = ["--reuid=1235", "--regid=4321", "--clear-groups"];
        shell_as(&rig.target, &stranger, "! cat group 2>/dev/null; ! { echo y >> group; } 2>/dev/null");
        shell_as(
            &rig.target,
            &stranger,
            "! touch new 2>/dev/null; ! rm -f group 2>/dev/null; ! chmod 777 group 2>/dev/null",
        );
        shell_as(&rig.target, &stranger, "! ln group mine 2>/dev/null; ! mkdir d 2>/dev/null");
        if std::process::Command::new("setfacl").arg("--version").output().is_ok() {
            shell(&rig.target, "setfacl -m u:1235:r group");
            shell_as(&rig.target, &stranger, "cat group; ! { echo y >> group; } 2>/dev/null");
        }
    }
}
