//! Requests of the kernel: `imafs::fuse::request`.

use imafs::fuse::request::{Dialect, Header, Malformed, Operation, Request};

use crate::{Bound, must, within};

/// Reading a request allocates nothing at all.
const NOTHING: Bound = Bound { fixed: 0, per_byte: 0 };

/// Any bytes as a request.
///
/// - What is understood is as long as it says, and its header is the one that is read alone.
/// - Names have no zero byte in them, and nothing that is borrowed is longer than the request.
/// - Bytes behind what is known change nothing.
/// - Each refusal of a length is the one that the bytes deserve.
pub fn request(data: &[u8]) {
    for setxattr_ext in [false, true] {
        let dialect = Dialect { setxattr_ext };
        let header = within(NOTHING, data, || Header::read(data));
        match within(NOTHING, data, || Request::parse(data, dialect)) {
            Ok(request) => {
                assert_eq!(header, Ok(request.header));
                operation(data, &request.operation);
                lengthened(data, &request, dialect);
            }
            Err(Malformed::Length { said, found }) => {
                assert!(found == data.len() && usize::try_from(said) != Ok(found) && header.is_ok());
            }
            Err(_) => {}
        }
    }
}

fn operation(data: &[u8], operation: &Operation<'_>) {
    let (names, rest): (Vec<_>, usize) = match *operation {
        Operation::Lookup { name }
        | Operation::MkNod { name, .. }
        | Operation::MkDir { name, .. }
        | Operation::Unlink { name }
        | Operation::RmDir { name }
        | Operation::Link { name, .. }
        | Operation::Create { name, .. }
        | Operation::GetXattr { name, .. }
        | Operation::RemoveXattr { name } => (vec![name], 0),
        Operation::Symlink { name, target } => (vec![name, target], 0),
        Operation::Rename { name, new_name, .. } => (vec![name, new_name], 0),
        Operation::SetXattr { name, value, .. } => (vec![name], value.len()),
        Operation::Write { data, .. } => (Vec::new(), data.len()),
        Operation::Ioctl { input, .. } => (Vec::new(), input.len()),
        Operation::BatchForget(forgets) => (Vec::new(), forgets.count() * 16),
        _ => (Vec::new(), 0),
    };
    let borrowed = names.iter().map(|name| name.len() + 1).sum::<usize>() + rest;
    assert!(borrowed + 40 <= data.len(), "{borrowed} bytes were borrowed of {}", data.len());
    assert!(names.iter().all(|name| !name.as_encoded_bytes().contains(&0)));
}

fn lengthened(data: &[u8], request: &Request<'_>, dialect: Dialect) {
    // INIT is longer in newer kernels, and extensions count from the end.
    let extended = data.get(36..38) != Some(&[0, 0]);
    if extended || matches!(request.operation, Operation::Init(_)) {
        return;
    }
    let mut longer = data.to_vec();
    longer.extend_from_slice(&[0xff; 8]);
    let length = must(u32::try_from(longer.len()).ok(), "a request says its length in 32 bits").to_ne_bytes();
    longer.splice(..4, length);
    let parsed = Request::parse(&longer, dialect).map(|request| request.operation);
    assert_eq!(parsed, Ok(request.operation));
}
