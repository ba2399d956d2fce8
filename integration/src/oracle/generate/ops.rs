//! Operations: short stories of one or two actors about one file, several of them going on at once.

use crate::oracle::draft::{Kind, Label, Node, Op};
use crate::oracle::generate::labels::MALFORMED;
use crate::oracle::generate::{ACTORS, Theme};
use crate::oracle::rng::Rng;
use std::collections::VecDeque;
use std::fmt::Write as _;

/// How many stories go on at once where files are shared. The player has 64 names for open files in each actor.
const AT_ONCE: usize = 4;

/// Draws about as many operations.
pub fn draw(rng: &mut Rng, theme: Theme, nodes: &[Node], wanted: usize) -> Vec<Op> {
    let mut teller = Teller::new(theme, nodes);
    let mut ops = Vec::new();
    let mut going: Vec<VecDeque<Op>> = Vec::new();
    let at_once = if theme.sharing { AT_ONCE } else { 1 };
    while ops.len() < wanted || !going.is_empty() {
        if ops.len() < wanted && going.len() < at_once {
            going.push(teller.story(rng));
            continue;
        }
        let place = rng.below(going.len());
        let Some(story) = going.get_mut(place) else { break };
        ops.extend(story.pop_front());
        if story.is_empty() {
            going.swap_remove(place);
        }
    }
    ops
}

/// Tells stories about files, of which it knows the names.
struct Teller {
    theme: Theme,
    files: Vec<String>,
    programs: Vec<String>,
    labelled: Vec<String>,
    /// Numbers names of open files and of new files.
    next: usize,
}

impl Teller {
    fn new(theme: Theme, nodes: &[Node]) -> Self {
        let paths = |wanted: fn(&Node) -> bool| -> Vec<String> {
            nodes.iter().filter(|node| wanted(node)).map(|node| node.path.clone()).collect()
        };
        Self {
            theme,
            files: paths(|node| !matches!(node.kind, Kind::Directory | Kind::Fifo)),
            programs: paths(|node| matches!(node.kind, Kind::Elf(_) | Kind::Script(_))),
            labelled: paths(|node| node.kind.is_file() && node.label != Label::None),
            next: 0,
        }
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn file(&self, rng: &mut Rng) -> String {
        // Few files are more interesting than many: what was done before matters.
        let few = (self.files.len() / 2).max(1);
        let among = if rng.chance(60) { self.files.get(..few).unwrap_or(&self.files) } else { &self.files };
        rng.pick(among).cloned().unwrap_or_default()
    }

    fn program(&self, rng: &mut Rng) -> Option<String> {
        rng.pick(&self.programs).cloned()
    }

    fn story(&mut self, rng: &mut Rng) -> VecDeque<Op> {
        let actor = if rng.chance(40) { "0" } else { rng.one(&ACTORS) };
        let theme = self.theme;
        let words = match rng.below(100) {
            0..26 => self.glance(rng),
            26..40 => self.reading(rng),
            40..56 => self.writing(rng),
            56..62 => self.creating(rng),
            62..72 if theme.exec => self.running(rng),
            72..76 if theme.mmap => self.mapping(rng),
            76..79 if theme.shared_mappings => self.sharing_memory(rng),
            79..88 if theme.labels => self.labelling(rng),
            88..91 if theme.truncate => self.shortening(rng),
            91..96 => self.naming(rng),
            96..98 => self.copying(rng),
            _ => self.attributes(rng),
        };
        words.into_iter().map(|words| Op { actor, words }).collect()
    }

    /// A file read, or written, in one go.
    fn glance(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let file = self.file(rng);
        match rng.below(10) {
            0..7 => vec![words(&["cat", &file])],
            7 => vec![words(&["put", &file, "new content"]), words(&["cat", &file])],
            8 => vec![words(&["append", &file, "more"]), words(&["cat", &file])],
            _ => vec![words(&["append", &file, "more"])],
        }
    }

    fn reading(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let (name, file) = (format!("r{}", self.number()), self.file(rng));
        let direct = if self.theme.direct && rng.chance(40) { "r+direct" } else { "r" };
        let mut story = vec![words(&["open", &name, direct, &file])];
        for _ in 0..rng.below(3) {
            story.push(match rng.below(3) {
                0 => words(&["seek", &name, "0"]),
                1 => words(&["stat", &file]),
                _ => words(&["read", &name]),
            });
        }
        story.push(words(&["close", &name]));
        story
    }

    fn writing(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let (name, file) = (format!("w{}", self.number()), self.file(rng));
        let flags = rng.one(&["w", "rw", "w+append", "rw+append", "w+trunc", "rw+trunc", "w+creat"]);
        let mut story = vec![words(&["open", &name, flags, &file])];
        for _ in 0..rng.below(4) {
            story.push(match rng.below(9) {
                0..4 => words(&["write", &name, rng.one(&["x", "written", "0123456789"])]),
                4 => words(&["ftruncate", &name, rng.one(&["0", "3", "5000"])]),
                5 => words(&["fsync", &name]),
                6 => words(&["fallocate", &name, "0", "0", rng.one(&["10", "4096"])]),
                7 => words(&["cat", &file]),
                _ => words(&["read", &name]),
            });
        }
        story.push(words(&["close", &name]));
        if rng.chance(60) {
            story.push(words(&["cat", &file]));
        }
        story
    }

    fn creating(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let number = self.number();
        let (name, file) = (format!("n{number}"), format!("{}new{number}", rng.one(&["", "pub/", "home/"])));
        self.files.push(file.clone());
        let mut story = match rng.below(4) {
            0 => vec![words(&["put", &file, "fresh"])],
            1 => vec![words(&["mknod", &file])],
            2 => vec![words(&["open", &name, "r+creat", &file]), words(&["close", &name])],
            _ => {
                let flags = rng.one(&["w+creat", "rw+creat+excl", "w+creat+excl+append"]);
                let mut story = vec![words(&["open", &name, flags, &file, rng.one(&["644", "600", "666"])])];
                if rng.chance(60) {
                    story.push(words(&["write", &name, "fresh"]));
                }
                if rng.chance(30) {
                    story.push(words(&["cat", &file]));
                }
                if rng.chance(15) {
                    story.push(words(&["chmod", "640", &file]));
                }
                story.push(words(&["close", &name]));
                story
            }
        };
        for _ in 0..rng.below(3) {
            story.push(words(&["cat", &file]));
        }
        if rng.chance(30) {
            story.push(words(&["append", &file, "more"]));
        }
        story
    }

    fn running(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let Some(program) = self.program(rng) else { return self.glance(rng) };
        let path = format!("/t/{program}");
        match rng.below(10) {
            0..7 => vec![words(&["exec", &path])],
            7 => vec![words(&["exec", &path]), words(&["exec", &path])],
            8 => {
                let name = format!("x{}", self.number());
                let flags = rng.one(&["r", "path"]);
                let open = words(&["open", &name, flags, &program]);
                vec![open, words(&["execfd", &name, &path]), words(&["close", &name])]
            }
            // A program that somebody writes is not started.
            _ => {
                let name = format!("x{}", self.number());
                let open = words(&["open", &name, "w+append", &program]);
                vec![open, words(&["exec", &path]), words(&["close", &name]), words(&["exec", &path])]
            }
        }
    }

    fn mapping(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let file = if rng.chance(70) { self.program(rng) } else { None };
        let (name, file) = (format!("m{}", self.number()), file.unwrap_or_else(|| self.file(rng)));
        let access = rng.one(&["rx", "rx", "r"]);
        let mut story = vec![words(&["open", &name, "r", &file]), words(&["mmap", &name, access, "private"])];
        if access == "r" && rng.chance(50) {
            story.push(words(&["mprotect", &name, "rx"]));
        }
        story.push(words(&["munmap", &name]));
        story.push(words(&["close", &name]));
        story
    }

    fn sharing_memory(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let (name, file) = (format!("s{}", self.number()), self.file(rng));
        let (munmap, close) = (words(&["munmap", &name]), words(&["close", &name]));
        let mut story = vec![
            words(&["open", &name, "rw", &file]),
            words(&["mmap", &name, "rw", "shared"]),
            words(&["poke", &name, "poked"]),
        ];
        story.extend(if rng.chance(50) { [munmap, close] } else { [close, munmap] });
        story.push(words(&["cat", &file]));
        story
    }

    /// Labels set by hand. `@hash` and `@signature` stand for those of the content at the start.
    fn labelling(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let known = if rng.chance(60) { rng.pick(&self.labelled).cloned() } else { None };
        let file = known.unwrap_or_else(|| self.file(rng));
        let attribute = if rng.chance(90) { "security.ima" } else { rng.one(&["user.note", "security.evm"]) };
        let flags = rng.one(&["", "", "", "", "create", "replace"]);
        let set = |value: &str| {
            let mut set = words(&["setxattr", &file, attribute, value]);
            set.extend((!flags.is_empty()).then(|| flags.to_owned()));
            set
        };
        let first = match rng.below(10) {
            0..2 => words(&["removexattr", &file, attribute]),
            2 => words(&["getxattr", &file, attribute]),
            3 => words(&["listxattr", &file]),
            4..6 => set(&malformed(rng)),
            6..8 => set(&format!("@hash:{}:{file}", rng.one(&["sha256", "sha512", "sha1"]))),
            8 => set(&format!("0x0404{}", "5a".repeat(32))),
            _ => set(&format!("@signature:sha256:{file}")),
        };
        let mut story = vec![first];
        if rng.chance(70) {
            story.push(words(&["cat", &file]));
        }
        story
    }

    fn shortening(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let file = self.file(rng);
        vec![
            words(&["cat", &file]),
            words(&["truncate", &file, rng.one(&["0", "2", "5000"])]),
            words(&["cat", &file]),
        ]
    }

    fn naming(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let (file, number) = (self.file(rng), self.number());
        let other = format!("{}name{number}", rng.one(&["", "pub/", "d/"]));
        let first = match rng.below(7) {
            0 => words(&["rename", &file, &other]),
            1 => words(&["rename", &file, &self.file(rng)]),
            2 => words(&["link", &file, &other]),
            3 => words(&["symlink", &format!("/t/{file}"), &other]),
            4 => words(&["unlink", &file]),
            5 => words(&["exchange", &file, &self.file(rng)]),
            _ => words(&["mkdir", &format!("dir{number}")]),
        };
        let mut story = vec![first];
        if matches!(
            story.first().and_then(|op| op.first()).map(String::as_str),
            Some("rename" | "link" | "symlink")
        ) {
            story.push(words(&["cat", &other]));
            self.files.push(other);
        }
        story.push(words(&["cat", &file]));
        story
    }

    fn copying(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let number = self.number();
        let (from, to) = (format!("c{number}"), format!("t{number}"));
        let (source, target) = (self.file(rng), self.file(rng));
        vec![
            words(&["open", &from, "r", &source]),
            words(&["open", &to, "rw", &target]),
            words(&["copyrange", &from, &to, "4096"]),
            words(&["close", &to]),
            words(&["close", &from]),
            words(&["cat", &target]),
        ]
    }

    fn attributes(&mut self, rng: &mut Rng) -> Vec<Vec<String>> {
        let file = self.file(rng);
        let owner = rng.one(&["0", "1000", "1001"]);
        let first = match rng.below(5) {
            0..2 => words(&["chmod", rng.one(&["644", "666", "600", "755"]), &file]),
            2..4 => words(&["chown", owner, owner, &file]),
            _ => words(&["touch", &file]),
        };
        vec![first, words(&["cat", &file])]
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn malformed(rng: &mut Rng) -> String {
    let mut text = "0x".to_owned();
    for byte in rng.one(&MALFORMED) {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}
