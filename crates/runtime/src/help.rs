//! What `imafs-runtime --help` says before the real runtime's own help.

use std::io::Write as _;

use crate::annotations;
use crate::command_line::OURS;

const HEAD: &str = "\
imafs-runtime: for container engines, in the place of runc. It mounts imafs over a container's root filesystem, so that
each file that is opened there is checked, and leaves everything else to the real runtime.

Usage: imafs-runtime [options of its own] [the real runtime's options] COMMAND ...
";

/// Settings as `/etc/imafs/runtime.yaml` may have them.
const SETTINGS: &str = "  runtime: runc                   # the real runtime
  default: exec                   # for containers that name no profile; left out, they run unchecked
  required: true                  # refuse containers that have none
  choosable: [immutable]          # what a container may name instead of the one it would have
  profiles:
    exec:
      file: profiles/exec.yaml    # as 'imafs mount --profile' takes it; from this file's directory
      permit: {policy: [immutable], appraise: [log]}    # what annotations may choose that is not stricter
    immutable: {file: profiles/immutable.yaml}
";

const TAIL: &str = "\
A container that asks for what is not permitted, or cannot be checked, does not start. One on imafs is neither
checkpointed nor restored.

Example:
  podman run --runtime /usr/local/bin/imafs-runtime --annotation org.imafs.profile=exec IMAGE
  podman exec CONTAINER cat /.imafs/measurements

What follows is the real runtime's own help.

";

/// Prints it.
pub(crate) fn print() {
    // Nobody listening is no failure.
    let _told = std::io::stdout().lock().write_all(text().as_bytes());
}

fn text() -> String {
    let line = |(name, meaning): (String, &str)| format!("  {name:<24}{meaning}\n");
    let options = OURS.map(|(name, value, meaning)| line((format!("--{name}={value}"), meaning)));
    let asked = annotations::ALL.map(|(name, meaning)| line((format!("org.imafs.{name}"), meaning)));
    let sweep = line(("imafs-sweep".to_owned(), "takes away what killed processes left, as each start does"));
    [
        HEAD,
        "\nOptions of its own, before the command:\n",
        &options.concat(),
        "\nA command of its own:\n",
        &sweep,
        "\nAnnotations of a container:\n",
        &asked.concat(),
        "\nThe host's settings, /etc/imafs/runtime.yaml:\n",
        SETTINGS,
        "\n",
        TAIL,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_a_screen_and_its_settings_are_ones() {
        assert!(text().lines().all(|line| line.len() <= 120), "{}", text());
        crate::config::Config::parse(SETTINGS, std::path::Path::new("/etc/imafs")).unwrap();
    }
}
