//! A connection that is made when it is needed, and made again after it broke.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::bridge::Bridge;
use crate::device::Device;
use crate::swtpm::Swtpm;
use crate::{Tcti, TpmError};

/// What is at the other end.
#[derive(Debug)]
pub(crate) enum End {
    /// A TPM that is there.
    Tcti(Tcti),
    /// A swtpm of our own, started when it does not run.
    Own(Swtpm),
}

/// See the module's text. It belongs to one thread, which its bridge ties to a network of its own.
#[derive(Debug)]
pub(crate) struct Link {
    // Closed before the swtpm ends: fields are dropped in order.
    device: Option<Device>,
    bridge: Option<Bridge>,
    end: End,
}

impl Link {
    pub(crate) fn new(end: End) -> Self {
        Self { device: None, bridge: None, end }
    }

    /// Uses the connection. One that broke is closed, so that the next use makes another.
    pub(crate) fn with<T>(
        &mut self,
        what: impl FnOnce(&mut Device) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let done = what(self.device()?);
        if matches!(done, Err(TpmError::Lost(_))) {
            self.device = None;
        }
        done
    }

    fn device(&mut self) -> Result<&mut Device, TpmError> {
        let device = match self.device.take() {
            Some(device) => device,
            None => self.connect()?,
        };
        Ok(self.device.insert(device))
    }

    fn connect(&mut self) -> Result<Device, TpmError> {
        let connected = self.try_to_connect();
        match &mut self.end {
            // A swtpm of our own that ended says better why.
            End::Own(swtpm) => connected.map_err(|error| swtpm.end_at_start().unwrap_or(error)),
            End::Tcti(_) => connected,
        }
    }

    fn try_to_connect(&mut self) -> Result<Device, TpmError> {
        let tcti = match &mut self.end {
            End::Tcti(tcti) => tcti.clone(),
            End::Own(swtpm) => {
                swtpm.ensure_running()?;
                Tcti::SwtpmPath(swtpm.socket().to_owned())
            }
        };
        // libtss2 says no more than that it failed; a look beforehand says why.
        look(&tcti).map_err(|source| TpmError::Unreachable { tcti: tcti.to_string(), source })?;
        let port = match &tcti {
            Tcti::SwtpmPath(path) => Some(self.bridge(path)?),
            Tcti::Device(_) | Tcti::Swtpm { .. } | Tcti::Mssim { .. } | Tcti::Tabrmd(_) => None,
        };
        let conf = tcti.name_conf(port).map_err(TpmError::from_tss)?;
        // Connecting sends no command that changes anything.
        Device::open(conf).map_err(|error| match error {
            TpmError::Lost(source) => {
                TpmError::Unreachable { tcti: tcti.to_string(), source: io::Error::other(source) }
            }
            other => other,
        })
    }

    fn bridge(&mut self, path: &Path) -> Result<u16, TpmError> {
        if let Some(bridge) = &self.bridge {
            return Ok(bridge.port());
        }
        let failed = |source| TpmError::Bridge { path: path.to_owned(), source };
        Ok(self.bridge.insert(Bridge::start(path).map_err(failed)?).port())
    }
}

/// Whether somebody is there.
fn look(tcti: &Tcti) -> io::Result<()> {
    match tcti {
        Tcti::Device(path) => std::fs::File::options().read(true).write(true).open(path).map(drop),
        Tcti::SwtpmPath(path) => UnixStream::connect(path).map(drop),
        Tcti::Swtpm { host, port } | Tcti::Mssim { host, port } => {
            TcpStream::connect((host.as_str(), *port)).map(drop)
        }
        Tcti::Tabrmd(_) => Ok(()),
    }
}
