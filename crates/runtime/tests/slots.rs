//! Nothing is left of a container that was not started, and nothing a container says is taken for an option.

mod stand;

use stand::{Stand, said};

#[test]
fn a_container_that_is_refused_leaves_no_slot() {
    let refused = |prepare: &dyn Fn(&Stand), settings: &[(&str, &str)], reason: &str| {
        let stand = Stand::new();
        prepare(&stand);
        let output = stand.create(settings);
        assert_eq!(output.status.code(), Some(1), "{reason}");
        assert!(said(&output).contains(reason), "{reason}: {}", said(&output));
        assert_eq!(stand.slots(), Vec::<std::path::PathBuf>::new(), "{reason}");
        assert!(stand.calls("runc").is_empty(), "{reason}");
    };
    refused(&|stand| stand.write("bundle/config.json", "{"), &[], "config.json");
    refused(&|stand| stand.bundle("nosuch", &[]), &[], "nosuch");
    refused(&|stand| stand.bundle("rootfs", &[("org.imafs.profil", "exec")]), &[], "org.imafs.profil");
    refused(&|stand| stand.bundle("rootfs", &[("org.imafs.profile", "nosuch")]), &[], "nosuch");
    refused(&|_| {}, &[("STAND_MOUNT", "2")], "cannot mount imafs over");
}

#[test]
fn a_root_behind_a_symbolic_link_is_refused() {
    let stand = Stand::new();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), stand.path("bundle/link")).unwrap();
    stand.bundle("link", &[]);
    let output = stand.create(&[]);
    assert!(said(&output).contains("symbolic link"), "{}", said(&output));
    assert_eq!((stand.calls("imafs").len(), stand.calls("runc").len()), (0, 0));
}

#[test]
fn a_container_made_and_deleted_leaves_nothing() {
    let stand = Stand::new();
    assert!(stand.create(&[]).status.success());
    let slot = stand.slots().pop().unwrap();
    let seen = std::fs::read_to_string(stand.path("config.seen")).unwrap();
    assert!(seen.contains(slot.join("rootfs").to_str().unwrap()), "the real runtime got {seen}");
    assert!(stand.delete().status.success());
    assert!(stand.slots().is_empty());
    let after = std::fs::read_to_string(stand.path("bundle/config.json")).unwrap();
    assert!(after.contains("\"path\":\"rootfs\""), "{after}");
}

#[test]
fn the_real_runtimes_failure_is_handed_on_and_undone() {
    let stand = Stand::new();
    assert_eq!(stand.create(&[("STAND_STATUS", "7")]).status.code(), Some(7));
    assert!(stand.slots().is_empty());
}

#[test]
fn values_of_annotations_are_never_options() {
    let stand = Stand::new();
    stand.bundle("rootfs", &[("org.imafs.contid", "--appraise=off")]);
    assert!(stand.create(&[]).status.success());
    let call = stand.calls("imafs").remove(0);
    assert!(call.contains("[--ns-id=--appraise=off]"), "{call}");
}

#[test]
fn a_state_that_nobody_can_read_is_no_reason_to_keep_a_slot() {
    for text in ["", "{}", "\0\0\0\0"] {
        // Deleted by its engine.
        let stand = Stand::new();
        assert!(stand.create(&[]).status.success());
        std::fs::write(stand.slots()[0].join("state"), text).unwrap();
        assert!(stand.delete().status.success());
        assert!(stand.slots().is_empty(), "{text:?}");
        // Found by the next. The engine has written the bundle anew, as it does for each start.
        stand.bundle("rootfs", &[]);
        assert!(stand.create(&[]).status.success());
        std::fs::write(stand.slots()[0].join("state"), text).unwrap();
        assert!(stand.call(&["imafs-sweep"], &[]).status.success());
        assert!(stand.slots().is_empty(), "{text:?}");
    }
}

#[test]
fn a_container_of_which_only_the_real_runtime_knows_is_left_to_it() {
    let stand = Stand::new();
    assert!(stand.create(&[]).status.success());
    std::fs::write(stand.slots()[0].join("state"), "{}").unwrap();
    // The container is still there, so that its name is in use.
    assert!(stand.create(&[]).status.success());
    let calls = stand.calls("imafs");
    assert_eq!(calls.iter().filter(|call| call.starts_with("[mount]")).count(), 1, "{calls:?}");
    assert_eq!(stand.slots().len(), 1);
}
