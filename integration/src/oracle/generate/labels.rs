//! Labels: good ones, bad ones, and bytes that are no label at all.

use crate::oracle::draft::Label;
use crate::oracle::generate::Theme;
use crate::oracle::rng::Rng;

/// Algorithms of labels that a 6.1 kernel of Debian can compute.
const ALGORITHMS: [&str; 6] = ["sha256", "sha1", "sha512", "md5", "sha384", "sha224"];

/// Values that are malformed, or of a kind that is not for files: lengths, types, algorithms and versions that are
/// not what they should be.
pub const MALFORMED: [&[u8]; 20] = [
    b"",
    b"\x00",
    b"\x01",
    b"\x02",
    b"\x03",
    b"\x04\x04",
    b"\x01\x11\x22\x33",
    b"\x02\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x04\x63\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa",
    b"\x04\x04\xaa\xaa\xaa",
    b"\x03\x02",
    b"\x03\x09",
    b"\x03\x02\x04\x01\x02\x03\x04\x00\x00",
    b"\x03\x02\x04\x01\x02\x03\x04\x00\x02\xaa\xaa",
    b"\x03\x02\x04\x01\x02\x03\x04\x00\x09\xaa\xaa",
    b"\x03\x02\x63\x01\x02\x03\x04\x00\x02\xaa\xaa",
    b"\x03\x03\x04\x01\x02\x03\x04\x00\x02\xaa\xaa",
    b"\x03\x01\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x01\x00\x08\xaa",
    b"\x05\x02\x04\x01\x02\x03\x04\x00\x02\xaa\xaa",
    b"\x06\x03\x04\x01\x02\x03\x04\x00\x02\xaa\xaa",
];

/// A label for a file at the start. With appraisal most are good, for what fails at once fails always.
pub fn draw(rng: &mut Rng, theme: Theme) -> Label {
    let labelled = if theme.appraise { 85 } else { 25 };
    if !rng.chance(labelled) {
        return Label::None;
    }
    let good = rng.chance(80);
    match rng.below(100) {
        0..8 => Label::Raw(rng.one(&MALFORMED).to_vec()),
        8..45 if theme.signatures => {
            Label::Signature { algo: rng.one(&["sha256", "sha1", "sha512"]), known: rng.chance(80), good }
        }
        8..14 => Label::Signature { algo: "sha256", known: rng.chance(60), good },
        _ => {
            let algo = if rng.chance(60) { "sha256" } else { rng.one(&ALGORITHMS) };
            Label::Hash { algo, old: matches!(algo, "sha1" | "md5") && rng.chance(70), good }
        }
    }
}
