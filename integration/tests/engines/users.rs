//! Root in the container is somebody else on the host.

use anyhow::{Context, Result, ensure};
use integration::engine::Cli;

/// Owners are right inside, and the container is checked all the same.
pub fn of_a_user_namespace(engine: &Cli, options: &[&str]) -> Result<()> {
    let program = "set -e
        test $(stat -c %u /usr/bin/ls) = 0
        touch /root/mine; test $(stat -c %u:%g /root/mine) = 0:0
        sha256sum /etc/hostname && exit 91 || test $? = 126
        cp /usr/bin/ls /tmp/copied; /tmp/copied && exit 92 || test $? = 126
        awk '{ print $2 }' /proc/self/uid_map";
    let words = engine.once(Some("exec"), options, &["signed", "sh", "-c", program])?.well();
    let words = words.context("in a user namespace")?;
    ensure!(words.lines().any(|line| line.trim() == "100000"), "root is not mapped: {words}");
    Ok(())
}
