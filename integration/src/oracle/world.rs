//! What the file system looks like while a scenario is played: which name is which file, who has it open, and what
//! of its past matters to an explanation. Followed from the kernel's results; IMA decides nothing here.

use crate::oracle::draft::{Draft, Kind, Label, Op};
use std::collections::{BTreeMap, BTreeSet};

/// A file, whatever its names.
pub type FileId = usize;

/// What of a file's past matters.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// It was an ELF program at the start.
    pub elf: bool,
    /// Type byte of its label at the start or set by hand last.
    pub label: Option<u8>,
    /// Was shortened or lengthened by its path.
    pub truncated: bool,
    /// Was made by an operation.
    pub made: bool,
    /// Was opened for writing, or changed otherwise, since the start.
    pub touched: bool,
    /// An open for writing was refused.
    pub refused: bool,
    /// Its attributes were changed by path: owner, permissions, times.
    pub attributes: bool,
    /// Opens for reading that stand.
    pub readers: usize,
    /// Opens for writing that stand.
    pub writers: usize,
    /// Was mapped shared and writable.
    pub shared_mapping: bool,
}

#[derive(Debug, Clone)]
enum Name {
    File(FileId),
    Symlink(String),
    Directory,
}

/// The state before an operation.
#[derive(Debug, Clone, Default)]
pub struct World {
    names: BTreeMap<String, Name>,
    files: Vec<File>,
    /// Open files by actor and name: which, and whether for writing.
    open: BTreeMap<(String, String), (FileId, bool)>,
}

impl World {
    /// The state at the start.
    pub fn new(draft: &Draft) -> Self {
        let mut world = Self::default();
        for node in &draft.nodes {
            let name = match &node.kind {
                Kind::Directory => Name::Directory,
                Kind::Symlink(target) => Name::Symlink(target.clone()),
                Kind::Hardlink(target) => {
                    let Some(file) = world.file(target) else { continue };
                    Name::File(file)
                }
                kind => {
                    let label = match &node.label {
                        Label::None => None,
                        Label::Hash { old, .. } => Some(if *old { 1 } else { 4 }),
                        Label::Signature { .. } => Some(3),
                        Label::Raw(bytes) => bytes.first().copied(),
                    };
                    Name::File(world.add(File {
                        elf: matches!(kind, Kind::Elf(_)),
                        label,
                        ..File::default()
                    }))
                }
            };
            world.names.insert(node.path.clone(), name);
        }
        world
    }

    fn add(&mut self, file: File) -> FileId {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Which file a path leads to. Paths are relative to the root, or begin with `/t/`.
    pub fn file(&self, path: &str) -> Option<FileId> {
        let mut path = plain(path).to_owned();
        for _ in 0..8 {
            match self.names.get(&path)? {
                Name::File(file) => return Some(*file),
                Name::Symlink(target) => path = plain(target).to_owned(),
                Name::Directory => return None,
            }
        }
        None
    }

    /// What is known of a file.
    pub fn get(&self, file: FileId) -> Option<&File> {
        self.files.get(file)
    }

    /// The file that is open under a name of an actor.
    pub fn opened(&self, actor: &str, name: &str) -> Option<FileId> {
        self.open.get(&(actor.to_owned(), name.to_owned())).map(|(file, _)| *file)
    }

    /// Whether a file has more than one name.
    pub fn has_links(&self, file: FileId) -> bool {
        self.names.values().filter(|name| matches!(name, Name::File(other) if *other == file)).count() > 1
    }

    /// The files that an operation is about.
    pub fn subjects(&self, op: &Op) -> BTreeSet<FileId> {
        let paths = match op.verb() {
            "open" => &[3][..],
            "cat" | "put" | "append" | "exec" | "unlink" | "touch" | "stat" | "listxattr" | "mknod" => &[1],
            "truncate" | "getxattr" | "setxattr" | "removexattr" => &[1],
            "rename" | "link" | "exchange" => &[1, 2],
            "chmod" => &[2],
            "chown" => &[3],
            _ => &[],
        };
        let slots = if op.verb() == "copyrange" { &[1, 2][..] } else { &[1] };
        let mut files: BTreeSet<FileId> = paths.iter().filter_map(|at| self.file(op.arg(*at))).collect();
        files.extend(slots.iter().filter_map(|at| self.opened(op.actor, op.arg(*at))));
        files
    }

    /// Takes an operation's effect over, given what the kernel answered.
    pub fn follow(&mut self, op: &Op, result: &str) {
        let done = result.starts_with("ok");
        match op.verb() {
            "open" if done => self.follow_open(op),
            "close" if done => {
                let key = (op.actor.to_owned(), op.arg(1).to_owned());
                if let Some((file, writes)) = self.open.remove(&key)
                    && let Some(file) = self.files.get_mut(file)
                {
                    let count = if writes { &mut file.writers } else { &mut file.readers };
                    *count = count.saturating_sub(1);
                }
            }
            "put" | "append" if done => {
                let file = self.made_at(op.arg(1));
                self.with(file, |file| file.touched = true);
            }
            "mknod" if done => {
                self.made_at(op.arg(1));
            }
            "truncate" if done => self.at(op.arg(1), |file| file.truncated = true),
            "chmod" if done => self.at(op.arg(2), |file| file.attributes = true),
            "chown" if done => self.at(op.arg(3), |file| file.attributes = true),
            "touch" if done => self.at(op.arg(1), |file| file.attributes = true),
            "setxattr" if done && op.arg(2) == "security.ima" => {
                let kind = op.arg(3).get(2..4).and_then(|byte| u8::from_str_radix(byte, 16).ok());
                // A placeholder stands for a label of its kind.
                let kind = if op.arg(3).starts_with("@signature") { Some(3) } else { kind.or(Some(4)) };
                self.at(op.arg(1), |file| file.label = kind);
            }
            "removexattr" if done && op.arg(2) == "security.ima" => {
                self.at(op.arg(1), |file| file.label = None)
            }
            "mmap" if done && op.arg(3) == "shared" => {
                let file = self.opened(op.actor, op.arg(1));
                self.with(file, |file| file.shared_mapping = true);
            }
            _ if done => self.follow_names(op),
            "open" | "put" | "append" if result == "EACCES" && writes(op) => {
                let path = if op.verb() == "open" { op.arg(3) } else { op.arg(1) };
                self.at(path, |file| file.refused = true);
            }
            _ => {}
        }
    }

    fn follow_open(&mut self, op: &Op) {
        let flags: Vec<&str> = op.arg(2).split('+').collect();
        if flags.contains(&"path") {
            return;
        }
        let writes = flags.contains(&"w") || flags.contains(&"rw");
        let file = if flags.contains(&"creat") { self.made_at(op.arg(3)) } else { self.file(op.arg(3)) };
        let Some(file) = file else { return };
        self.open.insert((op.actor.to_owned(), op.arg(1).to_owned()), (file, writes));
        self.with(Some(file), |file| {
            let count = if writes { &mut file.writers } else { &mut file.readers };
            *count += 1;
            file.touched |= writes;
        });
    }

    fn follow_names(&mut self, op: &Op) {
        let (from, to) = (plain(op.arg(1)).to_owned(), plain(op.arg(2)).to_owned());
        match op.verb() {
            "rename" => {
                if let Some(name) = self.names.remove(&from) {
                    self.names.insert(to, name);
                }
            }
            "exchange" => {
                if let (Some(one), Some(other)) = (self.names.remove(&from), self.names.remove(&to)) {
                    self.names.insert(from, other);
                    self.names.insert(to, one);
                }
            }
            "link" => {
                if let Some(name) = self.names.get(&from).cloned() {
                    self.names.insert(to, name);
                }
            }
            "symlink" => {
                self.names.insert(to, Name::Symlink(op.arg(1).to_owned()));
            }
            "unlink" => {
                self.names.remove(&from);
            }
            "mkdir" => {
                self.names.insert(from, Name::Directory);
            }
            _ => {}
        }
    }

    /// The file at a path, made there if there was none.
    fn made_at(&mut self, path: &str) -> Option<FileId> {
        if let Some(file) = self.file(path) {
            return Some(file);
        }
        let file = self.add(File { made: true, ..File::default() });
        self.names.insert(plain(path).to_owned(), Name::File(file));
        Some(file)
    }

    fn at(&mut self, path: &str, change: impl FnOnce(&mut File)) {
        let file = self.file(path);
        self.with(file, change);
    }

    fn with(&mut self, file: Option<FileId>, change: impl FnOnce(&mut File)) {
        if let Some(file) = file.and_then(|file| self.files.get_mut(file)) {
            change(file);
        }
    }
}

/// Whether an operation opens something for writing.
pub fn writes(op: &Op) -> bool {
    match op.verb() {
        "put" | "append" => true,
        "open" => op.arg(2).split('+').any(|flag| matches!(flag, "w" | "rw" | "trunc")),
        _ => false,
    }
}

/// A path without what leads to the root of the file system.
fn plain(path: &str) -> &str {
    let path = path.strip_prefix("/t/").unwrap_or(path);
    path.strip_prefix("./").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::draft::Node;

    fn world() -> World {
        let node = |path: &str, kind| Node {
            path: path.to_owned(),
            kind,
            uid: 0,
            gid: 0,
            mode: 0o644,
            label: Label::None,
        };
        let text = Kind::Text { letter: b'a', size: 3 };
        let nodes = vec![
            node("a", text.clone()),
            node("b", text),
            node("sym", Kind::Symlink("/t/a".to_owned())),
            node("hard", Kind::Hardlink("b".to_owned())),
        ];
        World::new(&Draft { nodes, ..Draft::default() })
    }

    #[test]
    fn names_lead_to_files_through_links_and_renames() {
        let mut world = world();
        assert_eq!(world.file("/t/sym"), world.file("a"));
        assert_eq!(world.file("hard"), world.file("./b"));
        assert_ne!(world.file("a"), world.file("b"));
        let a = world.file("a");
        world.follow(&Op::new("0", &["rename", "a", "c"]), "ENOENT");
        assert_eq!(world.file("a"), a, "a refused rename renames nothing");
        world.follow(&Op::new("0", &["rename", "a", "c"]), "ok");
        assert_eq!((world.file("a"), world.file("c")), (None, a));
        assert_eq!(world.file("sym"), None, "the link dangles");
    }

    #[test]
    fn opens_are_counted_until_they_are_closed() {
        let mut world = world();
        let a = world.file("a").unwrap();
        world.follow(&Op::new("0", &["open", "x", "rw+append", "a"]), "ok");
        world.follow(&Op::new("1000", &["open", "x", "r", "sym"]), "ok");
        world.follow(&Op::new("1000", &["open", "y", "r", "a"]), "EACCES");
        assert_eq!((world.get(a).unwrap().writers, world.get(a).unwrap().readers), (1, 1));
        assert_eq!(world.subjects(&Op::new("0", &["write", "x", "text"])), BTreeSet::from([a]));
        world.follow(&Op::new("0", &["close", "x"]), "ok");
        assert_eq!((world.get(a).unwrap().writers, world.get(a).unwrap().readers), (0, 1));
    }
}
