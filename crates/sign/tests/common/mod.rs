//! What the tests of this crate share: a scratch tree that takes `security.ima`, and foreign tools.
//!
//! Needs root (CAP_SYS_ADMIN) and a filesystem with security xattrs at /var/tmp or $IMAFS_TEST_DIR;
//! the matrix also needs `openssl` and `evmctl`. What is missing is said, and the test passes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "each test program uses its own part")]

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::fs::XattrFlags;

/// A directory that is removed at the end.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// `None`, with the reason printed, where labels cannot be written.
    pub fn new() -> Option<Self> {
        let base = std::env::var_os("IMAFS_TEST_DIR").unwrap_or_else(|| "/var/tmp".into());
        let dir = tempfile::Builder::new().prefix("imafs-sign-test-").tempdir_in(base).unwrap();
        let probe = dir.path().join("probe");
        std::fs::write(&probe, "").unwrap();
        match rustix::fs::setxattr(&probe, "security.ima", &[1; 21], XattrFlags::empty()) {
            Ok(()) => {
                std::fs::remove_file(probe).unwrap();
                Some(Self(dir))
            }
            Err(errno) => {
                assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
                eprintln!("skipped: cannot write security.ima in {}: {errno}", dir.path().display());
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A key by openssl: `rsa:2048`, `P-256`... and its self-signed certificate, PEM and DER.
    pub fn openssl_key(&self, name: &str, kind: &str) {
        let key = self.path().join(format!("{name}.key"));
        let (algorithm, option) = match kind.strip_prefix("rsa:") {
            Some(bits) => ("RSA", format!("rsa_keygen_bits:{bits}")),
            None => ("EC", format!("ec_paramgen_curve:{kind}")),
        };
        self.openssl(&["genpkey", "-quiet", "-algorithm", algorithm, "-pkeyopt", &option, "-out"], &[&key]);
        let pem = self.path().join(format!("{name}.pem"));
        let der = self.path().join(format!("{name}.der"));
        let subject = format!("/CN={name}");
        self.openssl(
            &[
                "req",
                "-x509",
                "-subj",
                &subject,
                "-days",
                "2",
                "-addext",
                "keyUsage=digitalSignature",
                "-addext",
                "basicConstraints=CA:FALSE",
                "-key",
            ],
            &[key.as_os_str(), OsStr::new("-out"), pem.as_os_str()],
        );
        self.openssl(
            &["x509", "-outform", "DER", "-in"],
            &[pem.as_os_str(), OsStr::new("-out"), der.as_os_str()],
        );
    }

    pub fn openssl<S: AsRef<OsStr>>(&self, args: &[&str], more: &[S]) {
        let args: Vec<_> = args.iter().filter(|arg| **arg != "-quiet").collect();
        let output = Command::new("openssl").args(&args).args(more).output().unwrap();
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Whether the programs are installed; says which is not.
pub fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        if !found {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: {program} is not installed");
        }
        found
    })
}

pub fn imafs_sign<S: AsRef<OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imafs-sign")).args(args).output().unwrap()
}

/// The exit status, and both outputs as text.
pub fn run<S: AsRef<OsStr>>(args: &[S]) -> (i32, String, String) {
    let output = imafs_sign(args);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

pub fn evmctl<S: AsRef<OsStr>>(args: &[S]) -> bool {
    Command::new("evmctl").args(args).output().unwrap().status.success()
}

pub fn label(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; 2048];
    match rustix::fs::lgetxattr(path, "security.ima", value.as_mut_slice()) {
        Ok(len) => {
            value.truncate(len);
            Some(value)
        }
        Err(rustix::io::Errno::NODATA) => None,
        Err(errno) => panic!("{}: {errno}", path.display()),
    }
}

pub fn set_label(path: &Path, value: &[u8]) {
    rustix::fs::setxattr(path, "security.ima", value, XattrFlags::empty()).unwrap();
}

pub fn clear_label(path: &Path) {
    rustix::fs::removexattr(path, "security.ima").unwrap();
}
