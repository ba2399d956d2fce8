//! The loop that reads requests, one at a time and in order.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::abi::MIN_READ_BUFFER;
use super::adapter::Adapter;
use super::device::Device;
use super::init::{Agreement, MAX_WRITE, Response, respond};
use super::pending::{Owed, Pending};
use super::request::{Dialect, Header, Offer, Operation, Request};
use super::wire::{InitOut, Message};
use crate::fs::{Errno, Filesystem};

/// Room for the largest write and what stands before its data. The kernel gives no request to a smaller buffer.
const BUFFER: usize = MAX_WRITE as usize + MIN_READ_BUFFER;

/// Reads requests from `device` and has them answered, until the mount is gone.
///
/// # Errors
/// When the kernel is too old, the first request is not INIT, or the device cannot be read any more; and when a handler
/// panicked, for then what is known of who has which file open may be wrong.
pub(super) fn run(device: &Arc<Device>, fs: &Arc<Filesystem>) -> io::Result<()> {
    let mut buffer = vec![0_u8; BUFFER];
    let Some(dialect) = shake_hands(device, fs, &mut buffer)? else { return Ok(()) };
    let mut adapter = Adapter::new(Arc::clone(fs), Arc::clone(device));
    while let Some(bytes) = device.receive(&mut buffer)? {
        match Request::parse(bytes, dialect) {
            Ok(Request { header, operation: Operation::Destroy }) => {
                if let Owed::Plain(reply) = Owed::to(&header, device) {
                    reply.done();
                }
                return Ok(());
            }
            Ok(request) => {
                let handled = catch_unwind(AssertUnwindSafe(|| {
                    adapter.handle(&request);
                    fs.request_handled();
                }));
                handled.map_err(|_| io::Error::other("the handler of a request panicked"))?;
            }
            Err(malformed) => {
                // Without a header there is nothing to answer to, and nothing that could be believed.
                let header = Header::read(bytes).map_err(invalid)?;
                tracing::error!(%malformed, opcode = header.opcode, "the kernel sent a request that makes no sense");
                Owed::to(&header, device).error(Errno::IO);
            }
        }
    }
    Ok(())
}

/// The first exchange. `None` when the mount is gone before it.
fn shake_hands(device: &Arc<Device>, fs: &Filesystem, buffer: &mut [u8]) -> io::Result<Option<Dialect>> {
    while let Some(bytes) = device.receive(buffer)? {
        let request = Request::parse(bytes, Dialect::default()).map_err(invalid)?;
        let (Operation::Init(offer), Owed::Plain(reply)) =
            (request.operation, Owed::to(&request.header, device))
        else {
            // What was taken over is answered with an error when it is dropped.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the first request is not INIT"));
        };
        match respond(fs.options(), &offer) {
            Response::Agree(agreement) => {
                let Agreement { answer, dialect, negotiated } = *agreement;
                // Before the answer, with which the next request may come.
                fs.set_negotiated(negotiated);
                send(reply, &answer);
                return Ok(Some(dialect));
            }
            Response::NameVersion => send(reply, &InitOut::default()),
            Response::Refuse => {
                reply.error(Errno::PROTO);
                return Err(too_old(&offer));
            }
        }
    }
    Ok(None)
}

fn send(reply: Pending, answer: &InitOut) {
    let mut message = Message::default();
    message.init_out(answer);
    reply.send(message.bytes());
}

fn too_old(offer: &Offer) -> io::Error {
    let Offer { major, minor, .. } = offer;
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("the kernel speaks FUSE {major}.{minor}, which is too old"),
    )
}

fn invalid(malformed: super::request::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}
