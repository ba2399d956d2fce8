//! A slice of what `make semantics` runs whole: cases of others about names, times and content, on this machine's
//! filesystem and on a mount of it.

use anyhow::{Result, ensure};
use integration::suites::{Mode, fsx, pjdfstest};
use integration::{Need, Scratch, need};

const MODES: [Mode; 2] = [
    Mode { passthrough: true, threads: 8, appraise: true },
    Mode { passthrough: false, threads: 1, appraise: false },
];

#[test]
fn what_passes_on_the_source_passes_on_the_mount() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Suites);
    let scratch = Scratch::new()?;
    let patterns = ["open::", "rename::", "unlink::", "chown::", "truncate::"];
    let expected = pjdfstest(&scratch, &scratch.dir("plain")?, &patterns)?;
    ensure!(expected.passed() > 100, "only {} cases pass on the source", expected.passed());
    for (number, mode) in MODES.into_iter().enumerate() {
        let mount = mode.mount(&scratch, &scratch.dir(&format!("source-{number}"))?)?;
        let found = pjdfstest(&scratch, mount.target(), &patterns)?;
        let lost: Vec<_> = expected.lost_in(&found).collect();
        ensure!(lost.is_empty(), "{mode}: {lost:?}");
    }
    Ok(())
}

#[test]
fn a_file_holds_what_was_written_mapped_and_cut_at_random() -> Result<()> {
    need!(Need::Root, Need::Fuse, Need::Suites);
    let scratch = Scratch::new()?;
    for (number, mode) in MODES.into_iter().enumerate() {
        let mount = mode.mount(&scratch, &scratch.dir(&format!("source-{number}"))?)?;
        for mapped in [true, false] {
            fsx(&scratch, mount.target(), 1, 1_000, mapped)?;
        }
    }
    Ok(())
}
