//! A relay before a swtpm's socket: it lets each command wait, as a slow TPM does, and counts them.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// `TPM2_PCR_Extend`; a command has its code behind tag and length.
const EXTEND: &[u8] = &[0, 0, 0x01, 0x82];

/// See the module's text. Its threads end with the process.
#[derive(Debug)]
pub(crate) struct Relay {
    socket: PathBuf,
    commands: Arc<AtomicUsize>,
    extends: Arc<AtomicUsize>,
}

impl Relay {
    /// A relay at `socket` to the swtpm at `tpm`.
    pub(crate) fn before(tpm: &Path, socket: &Path, command: Duration) -> Result<Self> {
        let control = |path: &Path| path.with_file_name(format!("{}.ctrl", file_name(path)));
        symlink(control(tpm), control(socket)).context("cannot link the control channel")?;
        let listener = UnixListener::bind(socket).context("cannot listen")?;
        let relay = Self { socket: socket.to_owned(), commands: Arc::default(), extends: Arc::default() };
        let (tpm, commands, extends) =
            (tpm.to_owned(), Arc::clone(&relay.commands), Arc::clone(&relay.extends));
        let count = move |request: &[u8]| {
            commands.fetch_add(1, Ordering::Relaxed);
            extends.fetch_add(usize::from(request.get(6..10) == Some(EXTEND)), Ordering::Relaxed);
        };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = UnixStream::connect(&tpm) {
                    let count = count.clone();
                    std::thread::spawn(move || pass(client, server, command, &count));
                }
            }
        });
        Ok(relay)
    }

    /// Commands so far, and how many of them were extends.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.commands.load(Ordering::Relaxed), self.extends.load(Ordering::Relaxed))
    }

    /// How imafs names it.
    pub(crate) fn tcti(&self) -> String {
        format!("swtpm:path={}", self.socket.display())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A command and its answer in turn, as a TPM works.
fn pass(
    mut client: UnixStream,
    mut server: UnixStream,
    command: Duration,
    count: &impl Fn(&[u8]),
) -> Option<()> {
    loop {
        let request = message(&mut client)?;
        count(&request);
        std::thread::sleep(command);
        server.write_all(&request).ok()?;
        client.write_all(&message(&mut server)?).ok()?;
    }
}

/// A command or an answer: a tag of two bytes, its length in four, and the rest.
fn message(from: &mut UnixStream) -> Option<Vec<u8>> {
    let mut head = [0; 6];
    from.read_exact(&mut head).ok()?;
    let (_, length) = head.split_last_chunk::<4>()?;
    let mut message = head.to_vec();
    message.resize(usize::try_from(u32::from_be_bytes(*length)).ok()?.max(head.len()), 0);
    from.read_exact(message.get_mut(head.len()..)?).ok()?;
    Some(message)
}
