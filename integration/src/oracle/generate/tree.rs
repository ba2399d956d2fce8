//! The files at the start.

use crate::oracle::draft::{Kind, Label, Node};
use crate::oracle::generate::{OWNERS, Theme, labels};
use crate::oracle::rng::Rng;

/// Sizes: none, a little, exactly a page and around it, and more than is read ahead at once.
const SIZES: [usize; 8] = [0, 1, 5, 40, 4095, 4096, 4097, 150_000];

/// Names that lists, records and shells have to escape, or not.
const ODD_NAMES: [&str; 5] = ["a b", "q\"uote", "back\\slash", "caf\u{e9}", "-dash"];

/// Draws a tree of a few files in a few directories.
pub fn draw(rng: &mut Rng, theme: Theme) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (name, uid, mode) in [("d", 0, 0o755), ("pub", 0, 0o777), ("home", 1000, 0o755)] {
        nodes.push(node(name.to_owned(), Kind::Directory, uid, mode));
    }
    let files = 6 + rng.below(8);
    for number in 0..files {
        let name = format!("{}f{number}", directory(rng));
        nodes.push(file(rng, theme, name));
    }
    if rng.chance(30) {
        let name = format!("{}{}", directory(rng), rng.one(&ODD_NAMES));
        nodes.push(file(rng, theme, name));
    }
    let programs = if theme.exec || theme.mmap { 2 + rng.below(3) } else { rng.below(2) };
    for number in 0..programs {
        let status = u8::try_from(10 + number).unwrap_or(1);
        let name = format!("{}p{number}", directory(rng));
        nodes.push(program(rng, theme, name, Kind::Elf(status)));
    }
    let interpreter =
        nodes.iter().find(|node| matches!(node.kind, Kind::Elf(_))).map(|node| node.path.clone());
    if let Some(interpreter) = interpreter
        && theme.exec
        && rng.chance(60)
    {
        let good = rng.chance(80);
        let interpreter = if good { format!("/t/{interpreter}") } else { "/t/nothing".to_owned() };
        let name = format!("{}script", directory(rng));
        nodes.push(program(rng, theme, name, Kind::Script(interpreter)));
    }
    others(rng, &mut nodes);
    nodes
}

/// Links, and a named pipe that nobody opens.
fn others(rng: &mut Rng, nodes: &mut Vec<Node>) {
    let files: Vec<String> =
        nodes.iter().filter(|node| node.kind.is_file()).map(|node| node.path.clone()).collect();
    if let (true, Some(target)) = (rng.chance(40), rng.pick(&files)) {
        nodes.push(node("sym".to_owned(), Kind::Symlink(format!("/t/{target}")), 0, 0o777));
    }
    if let (true, Some(target)) = (rng.chance(40), rng.pick(&files)) {
        nodes.push(node("pub/hard".to_owned(), Kind::Hardlink(target.clone()), 0, 0o644));
    }
    if rng.chance(10) {
        nodes.push(node("pipe".to_owned(), Kind::Fifo, 0, 0o644));
    }
}

fn directory(rng: &mut Rng) -> &'static str {
    rng.one(&["", "", "d/", "pub/", "home/"])
}

fn node(path: String, kind: Kind, uid: u32, mode: u32) -> Node {
    Node { path, kind, uid, gid: uid, mode, label: Label::None }
}

fn file(rng: &mut Rng, theme: Theme, path: String) -> Node {
    let letter = rng.one(b"abcxyz");
    let kind = Kind::Text { letter, size: rng.one(&SIZES) };
    let uid = rng.one(&OWNERS);
    let gid = if rng.chance(80) { uid } else { rng.one(&OWNERS) };
    let mode = rng.one(&[0o644, 0o666, 0o666, 0o600, 0o640]);
    Node { path, kind, uid, gid, mode, label: labels::draw(rng, theme) }
}

fn program(rng: &mut Rng, theme: Theme, path: String, kind: Kind) -> Node {
    let uid = rng.one(&OWNERS);
    let mode = rng.one(&[0o755, 0o755, 0o755, 0o777, 0o700, 0o644, 0o4755]);
    Node { path, kind, uid, gid: uid, mode, label: labels::draw(rng, theme) }
}
