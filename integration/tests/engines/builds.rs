//! Images built and committed: on layers that imafs mounts for podman and buildah, and signed in stages.

use anyhow::{Context, Result, ensure};
use integration::engine::{Cli, Ended, Host, Image};
use integration::process::{ours, output, repository, succeed};
use integration::scratch::mount_table;
use integration::{Keys, Scratch, fixture};
use std::path::Path;

/// podman and buildah with imafs as their `overlay.mount_program`: what they build, run and commit is checked by the
/// one profile of the host's configuration, and no runtime takes part.
pub fn on_checked_layers(scratch: &Scratch, host: &Host, image: &Image) -> Result<()> {
    let link = scratch.dir("mount-program")?.join("imafs-mount-program");
    std::os::unix::fs::symlink(ours("imafs")?, &link).context("cannot link the mount program")?;
    let settings = repository().join("docker/mount_program.yaml");
    let text = std::fs::read_to_string(settings)?.replace("profiles/", "");
    let settings = host.dir.join("mount_program.yaml");
    std::fs::write(&settings, text)?;
    let podman = Cli::podman_on_layers(scratch, &link, &settings)?;
    podman.import(&image.tar, "signed")?;

    let context = scratch.dir("context")?;
    std::fs::write(context.join("note"), "from outside\n")?;
    let build = |containerfile: &str| -> Result<Ended> {
        std::fs::write(context.join("Containerfile"), containerfile)?;
        let mut build = podman.command(&["build", "--network", "none", "--tag", "built"]);
        build.args(["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:1024"]).arg(&context);
        output(&mut build).map(|output| Ended::of(&output))
    };
    build("FROM signed\nRUN ls / > /made\nCOPY note /root/note\nRUN cat /root/note >> /made\n")?.well()?;
    let words = podman.once(None, &[], &["built", "sh", "-c", "cat /made; ls /.imafs"])?.well()?;
    ensure!(words.contains("from outside") && words.contains("measurements"), "{words}");
    build("FROM signed\nRUN sha256sum /etc/hostname\n")?.refused("Permission denied")?;
    build("FROM signed\nRUN cp /usr/bin/ls /usr/bin/copied && copied /\n")?.refused("Permission denied")?;
    podman.once(None, &[], &["built", "sha256sum", "/etc/hostname"])?.refused("ermission denied")?;

    let mut run = podman.run(None, &["--name", "worked"], &["built", "sh", "-c", "echo more > /root/more"]);
    Ended::of(&output(&mut run)?).well()?;
    podman.say(&["commit", "--quiet", "worked", "committed"])?.well()?;
    podman.say(&["rm", "worked"])?.well()?;
    let more = podman.once(None, &[], &["committed", "cat", "/root/more", "/root/note"])?.well()?;
    ensure!(more.contains("more") && more.contains("from outside"), "{more}");

    buildah(&podman, &context)?;
    podman.say(&["rmi", "--all", "--force"])?.well()?;
    let left: Vec<_> = mount_table().into_iter().filter(|m| m.target.starts_with(scratch.path())).collect();
    ensure!(!left.iter().any(|mount| mount.kind == "fuse.imafs"), "still mounted: {left:?}");
    Ok(())
}

/// The same store, by buildah itself.
fn buildah(podman: &Cli, context: &Path) -> Result<()> {
    let say = |words: &[&str]| -> Result<Ended> { Ok(Ended::of(&output(&mut podman.buildah(words))?)) };
    let limits = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:1024"];
    let words = say(&[&["from", "--quiet", "--name", "work"], &limits[..], &["localhost/signed"]].concat())?;
    words.well().context("from")?;
    let note = context.join("note").to_string_lossy().into_owned();
    say(&["run", "--network", "none", "work", "ls", "/"])?.well().context("run")?;
    say(&["run", "--network", "none", "work", "sha256sum", "/etc/hostname"])?.refused("ermission denied")?;
    say(&["copy", "--quiet", "work", &note, "/root/note"])?.well().context("copy")?;
    say(&["commit", "--quiet", "work", "by-buildah"])?.well().context("commit")?;
    say(&["rm", "work"])?.well()?;
    let words = podman.once(None, &[], &["localhost/by-buildah", "cat", "/root/note"])?.well()?;
    ensure!(words == "from outside\n", "{words}");
    Ok(())
}

/// `docker/image/Dockerfile`: an image with a signed manifest, made in stages from one that is not signed, runs enforced; the
/// key is nowhere in it.
pub fn signed_in_stages(scratch: &Scratch, podman: &Cli, keys: &Keys) -> Result<()> {
    let Some(plain) = fixture::debian_tar()? else { return Ok(()) };
    podman.import(&plain, "plain")?;
    let context = scratch.dir("stages")?;
    std::fs::copy(repository().join("docker/image/Dockerfile"), context.join("Dockerfile"))?;
    std::fs::copy(ours("imafs-sign")?, context.join("imafs-sign"))?;
    std::fs::copy(&keys.certificate, context.join("signer.pem"))?;
    let secret = format!("id=signer.key,src={}", keys.key.display());
    let mut build = podman.command(&["build", "--network", "none", "--tag", "staged", "--secret", &secret]);
    build.args(["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:1024"]);
    build.args(["--build-arg", "BASE=localhost/plain"]).arg(&context);
    succeed(&mut build)?;
    let program = "ls / > /dev/null; cp /usr/bin/ls /tmp/copied; /tmp/copied && exit 92 || test $? = 126
        find / -xdev -name 'signer*' | grep . && exit 93; echo proven";
    let words = podman.once(Some("manifest"), &[], &["staged", "sh", "-c", program])?.well()?;
    ensure!(words.contains("proven"), "{words}");
    let unsigned = podman.once(Some("manifest"), &[], &["plain", "ls", "/"])?;
    unsigned.refused("manifest").context("the image it was made from")?;
    podman.say(&["rmi", "--force", "staged", "plain"])?.well()?;
    Ok(())
}
