//! The shape of the control directory: names, kinds and modes, fixed when the mount begins.

use rustix::fs::FileType;

use ima::HashAlgo;
use measure::Form;

use crate::fs::ControlIno;

/// Whose keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ring {
    /// Those the mount was made with.
    Host,
    /// The container's own.
    Container,
}

/// What one file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    /// The measurement list with template digests of an algorithm.
    List(Form, HashAlgo),
    Count,
    Violations,
    Policy,
    Active,
    Hash,
    TemplateName,
    Mode,
    /// The keys of a layer.
    Keys(Ring),
    Audit,
    Pcrs,
    NsId,
    Status,
}

impl File {
    /// Permission bits for reading: the kernel's where it has the file. Where it can be written its owner may, too.
    ///
    /// Source: `ima_fs_init`, security/integrity/ima/ima_fs.c, Linux 6.1.
    fn permissions(self) -> u32 {
        match self {
            Self::List(..) | Self::Count | Self::Violations | Self::Audit | Self::Pcrs | Self::Status => {
                0o440
            }
            Self::Policy | Self::Active => 0o400,
            Self::Hash | Self::TemplateName | Self::Mode | Self::Keys(_) | Self::NsId => 0o444,
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Link(String),
    File(File),
}

impl Kind {
    pub(super) fn file_type(&self) -> FileType {
        match self {
            Self::Directory => FileType::Directory,
            Self::Link(_) => FileType::Symlink,
            Self::File(_) => FileType::RegularFile,
        }
    }
}

/// One name in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    parent: ControlIno,
    pub(super) name: String,
    pub(super) kind: Kind,
    permissions: u32,
}

impl Node {
    /// File type and permission bits, as in `st_mode`.
    pub(super) fn mode(&self) -> u32 {
        self.kind.file_type().as_raw_mode() | self.permissions
    }
}

/// All nodes; a node's number is its index, and the root comes first and is its own parent.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// The tree with these rings of keys and a pair of lists for each algorithm.
    pub(super) fn new(rings: &[(Ring, &str)], algos: &[HashAlgo]) -> Self {
        let mut tree = Self { nodes: Vec::new() };
        let root = tree.add(ControlIno::ROOT, "", Kind::Directory);
        tree.file(root, "measurements", File::List(Form::Ascii, HashAlgo::Sha1));
        tree.add(root, "ima", Kind::Link("integrity/ima".to_owned()));
        let integrity = tree.add(root, "integrity", Kind::Directory);
        let ima = tree.add(integrity, "ima", Kind::Directory);
        tree.file(ima, "policy", File::Policy);
        for (name, form) in
            [("ascii_runtime_measurements", Form::Ascii), ("binary_runtime_measurements", Form::Binary)]
        {
            tree.file(ima, name, File::List(form, HashAlgo::Sha1));
            for algo in algos {
                tree.file(ima, &format!("{name}_{}", algo.name()), File::List(form, *algo));
            }
        }
        tree.file(ima, "runtime_measurements_count", File::Count);
        tree.file(ima, "violations", File::Violations);
        tree.file(ima, "active", File::Active);
        tree.file(ima, "hash", File::Hash);
        tree.file(ima, "template_name", File::TemplateName);
        let keys = tree.add(root, "keys", Kind::Directory);
        for (ring, name) in rings {
            tree.file(keys, name, File::Keys(*ring));
        }
        tree.file(root, "mode", File::Mode);
        tree.file(root, "audit", File::Audit);
        tree.file(root, "pcrs", File::Pcrs);
        tree.file(root, "ns_id", File::NsId);
        tree.file(root, "status", File::Status);
        tree
    }

    fn add(&mut self, parent: ControlIno, name: &str, kind: Kind) -> ControlIno {
        let permissions = match &kind {
            Kind::Directory => 0o555,
            Kind::Link(_) => 0o777,
            Kind::File(file) => file.permissions(),
        };
        let ino = ControlIno(self.nodes.len() as u64);
        self.nodes.push(Node { parent, name: name.to_owned(), kind, permissions });
        ino
    }

    fn file(&mut self, parent: ControlIno, name: &str, file: File) {
        self.add(parent, name, Kind::File(file));
    }

    pub(super) fn node(&self, ino: ControlIno) -> Option<&Node> {
        self.nodes.get(usize::try_from(ino.0).ok()?)
    }

    pub(super) fn children(&self, parent: ControlIno) -> impl Iterator<Item = (ControlIno, &Node)> {
        let numbered = (0..).map(ControlIno).zip(&self.nodes).skip(1);
        numbered.filter(move |(_, node)| node.parent == parent)
    }

    pub(super) fn child(&self, parent: ControlIno, name: &[u8]) -> Option<ControlIno> {
        self.children(parent).find(|(_, node)| node.name.as_bytes() == name).map(|(ino, _)| ino)
    }

    /// Hard links as `stat(2)` counts them: a directory has its name, its `.` and each child's `..`.
    pub(super) fn links(&self, ino: ControlIno) -> u32 {
        match self.node(ino).map(|node| &node.kind) {
            Some(Kind::Directory) => {
                let children = self.children(ino).filter(|(_, node)| node.kind == Kind::Directory).count();
                2 + u32::try_from(children).unwrap_or(0)
            }
            Some(Kind::Link(_) | Kind::File(_)) | None => 1,
        }
    }

    /// The node at a path from the root, links followed. Links here lead to plain names beneath their directory.
    pub(super) fn resolve(&self, path: &str) -> Option<ControlIno> {
        self.walk(ControlIno::ROOT, path)
    }

    fn walk(&self, from: ControlIno, path: &str) -> Option<ControlIno> {
        let mut at = from;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let child = self.child(at, name.as_bytes())?;
            at = match &self.node(child)?.kind {
                Kind::Link(target) => self.walk(at, target)?,
                Kind::Directory | Kind::File(_) => child,
            };
        }
        Some(at)
    }
}
