//! Who has a file open is counted exactly: no violation without a writer, and none missed.
//!
//! A program of its own, because a test that starts a child hands it copies of every descriptor for a moment, and
//! then there is a writer.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails loudly")]

mod common;

use std::fs::{self, File};
use std::os::fd::AsFd;

use common::{LENDING, Rig, SERVING, SHARED, Setting, can_mount};

const MEASURING: Setting = Setting { policy: LENDING.policy, ..SERVING };

#[test]
fn writing_closing_and_opening_again_is_no_violation_and_a_real_one_is_recorded() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, MEASURING, SHARED] {
        let rig = Rig::new(setting);
        for clients in [1, 2, 8] {
            std::thread::scope(|scope| {
                for client in 0..clients {
                    let path = rig.at(&format!("file{client}"));
                    scope.spawn(move || {
                        for turn in 0..800 / clients {
                            fs::write(&path, format!("{turn}")).unwrap();
                            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{turn}"));
                        }
                    });
                }
            });
            let told = rig.fs.monitor().options().audit.read_from(0);
            assert_eq!(rig.list.violations(), 0, "{clients} clients, {setting:?}: {told:?}");
        }
        let writer = File::options().write(true).open(rig.at("file0")).unwrap();
        fs::read(rig.at("file0")).unwrap();
        assert_eq!(rig.list.violations(), 1, "{setting:?}");
        drop(writer);
        let mapped = File::options().read(true).write(true).open(rig.at("file1")).unwrap();
        let mapping = sys::mapping::Shared::map(mapped.as_fd(), 1).unwrap();
        drop(mapped);
        fs::read(rig.at("file1")).unwrap();
        assert_eq!(rig.list.violations(), 2, "a mapping writes after its descriptor is closed {setting:?}");
        drop(mapping);
        fs::read(rig.at("file1")).unwrap();
        assert_eq!(rig.list.violations(), 2, "{setting:?}");
    }
}
