//! Walks every source file of the workspace and fails if anything outside the monitor can build a grant, or anything
//! in imafs can answer an open without giving one up.
//!
//! The compiler already keeps the grant's fields private; this test keeps the arrangement itself from being taken
//! apart quietly: a second constructor, a wider visibility, a derive, an alias, a macro, a reply built elsewhere.

use anyhow::{Context, Result, ensure};
use integration::process::repository;
use syn::visit::{self, Visit};
use walkdir::WalkDir;

/// The file that may build a grant.
const MINT: &str = "crates/monitor/src/grant.rs";
/// The crate whose code may call the one function that does.
const MONITOR: &str = "crates/monitor/src/";
/// The one crate with `unsafe`, which could build anything.
const UNSAFE: &str = "crates/sys/";
/// The program, and the part of it that may speak the kernel's protocol.
const PROGRAM: &str = "imafs/src/";
/// The transport: the only directory that answers the kernel.
const ADAPTER: &str = "imafs/src/fuse/";
/// The only file that takes over a request, and so says which kind of answer it gets.
const OWES: &str = "imafs/src/fuse/pending.rs";
/// The only file that writes to the connection.
const DEVICE: &str = "imafs/src/fuse/device.rs";
/// What lets a file be read or written: the filesystem's answers, and the encoder of `struct fuse_open_out`.
const REPLIES: [&str; 3] = ["opened", "created", "open_out"];
/// Functions of the adapter that answer an open without a grant, and why they may.
const WITHOUT_GRANT: [(&str, &str); 2] = [
    ("opened_directory", "a directory's entries are names, not content"),
    ("opened_control", "files of the control directory are made by imafs and hold no file of the container"),
];

/// What is wrong in one source file, a line each.
fn findings(file: &str, source: &str) -> Result<Vec<String>> {
    let syntax = syn::parse_file(source).with_context(|| format!("cannot parse {file}"))?;
    let mut walk = Walk { file, functions: Vec::new(), findings: Vec::new() };
    walk.visit_file(&syntax);
    Ok(walk.findings)
}

/// One enclosing function.
struct Function {
    name: String,
    takes_grant: bool,
}

struct Walk<'a> {
    file: &'a str,
    functions: Vec<Function>,
    findings: Vec<String>,
}

impl Walk<'_> {
    fn find(&mut self, what: &str) {
        let place =
            self.functions.last().map_or_else(|| "the file itself".to_owned(), |f| format!("fn {}", f.name));
        self.findings.push(format!("{}, {place}: {what}", self.file));
    }

    fn is_mint(&self) -> bool {
        self.file == MINT
    }

    /// Whether a reply may be built here: the innermost function takes a grant by value or is a named exception.
    fn may_reply(&self) -> bool {
        let exception = |name: &str| WITHOUT_GRANT.iter().any(|(known, _)| *known == name);
        self.functions.last().is_some_and(|f| f.takes_grant || exception(&f.name))
    }

    fn enter(&mut self, signature: &syn::Signature) {
        let by_value = |input: &syn::FnArg| match input {
            syn::FnArg::Typed(typed) => names_grant(&typed.ty),
            syn::FnArg::Receiver(_) => false,
        };
        let takes_grant = signature.inputs.iter().any(by_value);
        self.functions.push(Function { name: signature.ident.to_string(), takes_grant });
        if signature.unsafety.is_some() {
            self.unsafe_code();
        }
    }

    /// Whether this names an answer's own type as a value, outside the file that may make one. What an answer is
    /// answered with is chosen by the request's opcode, there and nowhere else.
    fn owes(&self, path: &syn::Path) -> bool {
        let kind = ends_with(path, "Pending") || ends_with(path, "Opening");
        kind && self.file.starts_with(ADAPTER) && self.file != OWES && path.segments.len() == 1
    }

    fn unsafe_code(&mut self) {
        if !self.file.starts_with(UNSAFE) {
            self.find("unsafe code, which could build a grant from bytes");
        }
    }
}

/// Whether a type is the grant itself, not a reference to it.
fn names_grant(ty: &syn::Type) -> bool {
    matches!(ty, syn::Type::Path(path) if ends_with(&path.path, "Grant"))
}

fn ends_with(path: &syn::Path, name: &str) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == name)
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.enter(&node.sig);
        visit::visit_item_fn(self, node);
        self.functions.pop();
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.enter(&node.sig);
        visit::visit_impl_item_fn(self, node);
        self.functions.pop();
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        if ends_with(&node.path, "Grant") && !self.is_mint() {
            self.find("builds a Grant");
        }
        if self.owes(&node.path) {
            self.find("takes over a request by itself");
        }
        visit::visit_expr_struct(self, node);
    }

    fn visit_expr_path(&mut self, node: &'ast syn::ExprPath) {
        if ends_with(&node.path, "Grant") && !self.is_mint() {
            self.find("uses Grant as a value, which is a way to build one");
        }
        if ends_with(&node.path, "mint") && !self.file.starts_with(MONITOR) {
            self.find("calls mint");
        }
        if self.owes(&node.path) {
            self.find("takes over a request by itself");
        }
        if ends_with(&node.path, "writev") && self.file.starts_with(PROGRAM) && self.file != DEVICE {
            self.find("writes to the connection past the device");
        }
        visit::visit_expr_path(self, node);
    }

    fn visit_item_struct(&mut self, node: &'ast syn::ItemStruct) {
        if node.ident == "Grant" && !self.is_mint() {
            self.find("declares another Grant");
        }
        visit::visit_item_struct(self, node);
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        if names_grant(&node.self_ty) && !self.is_mint() {
            self.find("implements something for Grant");
        }
        if node.unsafety.is_some() {
            self.unsafe_code();
        }
        visit::visit_item_impl(self, node);
    }

    fn visit_item_type(&mut self, node: &'ast syn::ItemType) {
        if names_grant(&node.ty) {
            self.find("gives Grant another name");
        }
        visit::visit_item_type(self, node);
    }

    fn visit_use_rename(&mut self, node: &'ast syn::UseRename) {
        if node.ident == "Grant" {
            self.find("imports Grant under another name");
        }
    }

    fn visit_use_path(&mut self, node: &'ast syn::UsePath) {
        if node.ident == "fuser" {
            self.find("speaks fuser, whose replies open files without a grant");
        }
        visit::visit_use_path(self, node);
    }

    fn visit_path(&mut self, node: &'ast syn::Path) {
        if node.segments.first().is_some_and(|segment| segment.ident == "fuser") {
            self.find("speaks fuser, whose replies open files without a grant");
        }
        visit::visit_path(self, node);
    }

    fn visit_expr_method_call(&mut self, node: &'ast syn::ExprMethodCall) {
        let reply = REPLIES.iter().any(|reply| node.method == reply);
        if reply && self.file.starts_with(ADAPTER) && !self.may_reply() {
            self.find(&format!("answers with {} and gives up no grant", node.method));
        }
        let raw = node.method == "reply" && self.file.starts_with(ADAPTER);
        if raw && self.file != OWES && self.file != DEVICE {
            self.find("answers past the kinds of answers");
        }
        visit::visit_expr_method_call(self, node);
    }

    fn visit_expr_unsafe(&mut self, node: &'ast syn::ExprUnsafe) {
        self.unsafe_code();
        visit::visit_expr_unsafe(self, node);
    }

    fn visit_macro(&mut self, node: &'ast syn::Macro) {
        let text = node.tokens.to_string();
        if !self.is_mint() && (text.contains("Grant {") || text.contains("Grant :: mint")) {
            self.find("a macro builds a Grant");
        }
        visit::visit_macro(self, node);
    }
}

/// Every source file of the workspace, by its path from the root.
fn sources() -> Result<Vec<(String, String)>> {
    let root = repository();
    let hidden = |name: &str| name == "target" || name.starts_with('.');
    let walk = WalkDir::new(&root)
        .into_iter()
        .filter_entry(|e| e.depth() == 0 || !hidden(&e.file_name().to_string_lossy()));
    let mut sources = Vec::new();
    for entry in walk {
        let entry = entry.context("cannot walk the sources")?;
        if entry.path().extension().is_some_and(|extension| extension == "rs") {
            let name = entry.path().strip_prefix(&root)?.to_string_lossy().into_owned();
            sources.push((name, std::fs::read_to_string(entry.path())?));
        }
    }
    Ok(sources)
}

#[test]
fn nothing_outside_the_monitor_builds_a_grant_or_answers_an_open_without_one() -> Result<()> {
    let sources = sources()?;
    ensure!(sources.iter().any(|(name, _)| name == MINT), "{MINT} is gone: this test has to follow it");
    ensure!(
        sources.iter().any(|(name, _)| name.starts_with(ADAPTER)),
        "{ADAPTER} is gone: this test has to follow it"
    );
    let mut wrong = Vec::new();
    for (name, source) in &sources {
        wrong.extend(findings(name, source)?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn the_grant_is_made_in_one_place_that_only_the_monitor_sees() -> Result<()> {
    let source = std::fs::read_to_string(repository().join(MINT))?;
    let syntax = syn::parse_file(&source)?;
    let mut shape = Shape::default();
    shape.visit_file(&syntax);
    ensure!(shape.structs == 1, "{} declarations of Grant", shape.structs);
    ensure!(shape.open_fields == 0, "a field of Grant can be seen from outside");
    ensure!(shape.derives.iter().all(|d| d == "Debug"), "Grant derives {:?}", shape.derives);
    ensure!(shape.literals == 1, "{} places build a Grant", shape.literals);
    ensure!(shape.makers == ["mint"], "functions that give a Grant away: {:?}", shape.makers);
    ensure!(shape.traits.iter().all(|t| t == "Debug"), "Grant implements {:?}", shape.traits);
    Ok(())
}

/// What there is of the grant in its own file.
#[derive(Default)]
struct Shape {
    structs: usize,
    open_fields: usize,
    derives: Vec<String>,
    literals: usize,
    makers: Vec<String>,
    traits: Vec<String>,
}

impl<'ast> Visit<'ast> for Shape {
    fn visit_item_struct(&mut self, node: &'ast syn::ItemStruct) {
        if node.ident != "Grant" {
            return;
        }
        self.structs += 1;
        self.open_fields +=
            node.fields.iter().filter(|f| !matches!(f.vis, syn::Visibility::Inherited)).count();
        for attribute in node.attrs.iter().filter(|a| a.path().is_ident("derive")) {
            // An argument that does not parse would be the compiler's to refuse.
            let parsed = attribute.parse_nested_meta(|meta| {
                self.derives.extend(meta.path.get_ident().map(ToString::to_string));
                Ok(())
            });
            self.derives.extend(parsed.err().map(|e| e.to_string()));
        }
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        self.literals += usize::from(ends_with(&node.path, "Grant") || ends_with(&node.path, "Self"));
        visit::visit_expr_struct(self, node);
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        if names_grant(&node.self_ty) {
            let name = node.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
            self.traits.extend(name.map(|segment| segment.ident.to_string()));
        }
        visit::visit_item_impl(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        if let syn::ReturnType::Type(_, ty) = &node.sig.output
            && matches!(&**ty, syn::Type::Path(p) if ends_with(&p.path, "Self") || ends_with(&p.path, "Grant"))
        {
            let public = matches!(node.vis, syn::Visibility::Public(_));
            self.makers.push(if public {
                format!("pub {}", node.sig.ident)
            } else {
                node.sig.ident.to_string()
            });
        }
        visit::visit_impl_item_fn(self, node);
    }
}

/// What somebody might plant, where, and what the walk has to say of it.
const PLANTED: [(&str, &str, &str); 16] = [
    ("imafs/src/fs/open.rs", "fn f() { let g = Grant { object, version, flags }; }", "builds a Grant"),
    ("crates/monitor/src/begin.rs", "fn f() { let g = monitor::Grant { ..old }; }", "builds a Grant"),
    ("imafs/src/fs/open.rs", "fn f() { let g = monitor::grant::Grant::mint(o, v, 0); }", "calls mint"),
    ("imafs/src/fs/open.rs", "fn f() { let make = Grant; }", "uses Grant as a value"),
    ("imafs/src/fs/open.rs", "use monitor::Grant as Permit;", "under another name"),
    ("imafs/src/fs/open.rs", "type Permit = monitor::Grant;", "another name"),
    (
        "crates/monitor/src/state.rs",
        "impl Clone for Grant { fn clone(&self) -> Self { todo() } }",
        "implements something",
    ),
    ("imafs/src/fs/open.rs", "fn f() { make!(Grant { flags: 0 }); }", "a macro builds a Grant"),
    ("imafs/src/fs/open.rs", "fn f() { unsafe { core::mem::zeroed() } }", "unsafe code"),
    ("imafs/src/fuse/adapter.rs", "use fuser::ReplyOpen;", "speaks fuser"),
    ("imafs/src/fuse/adapter.rs", "fn f() { Pending { device, unique }.send(&[]) }", "takes over a request"),
    ("imafs/src/fuse/adapter.rs", "fn f() { rustix::io::writev(fd, &[]) }", "past the device"),
    (
        "imafs/src/fuse/adapter.rs",
        "fn f() { self.device.reply(unique, 0, [&[0; 16], &[]]) }",
        "past the kinds",
    ),
    (
        "imafs/src/fuse/open.rs",
        "fn send(message: &mut Message) { message.open_out(0, 0, 1) }",
        "gives up no grant",
    ),
    ("imafs/src/fuse/open.rs", "fn open(reply: Opening) { reply.opened(fh, flags) }", "gives up no grant"),
    (
        "imafs/src/fuse/open.rs",
        "fn open(grant: &Grant, m: &mut Message) { m.open_out(f, l, b) }",
        "gives up no grant",
    ),
];

#[test]
fn the_walk_finds_what_is_planted() -> Result<()> {
    for (file, source, words) in PLANTED {
        let found = findings(file, source)?;
        ensure!(found.iter().any(|finding| finding.contains(words)), "{file}: {source}: found {found:?}");
    }
    Ok(())
}

#[test]
fn the_walk_lets_the_right_places_be() -> Result<()> {
    let fine = [
        (MINT, "impl Grant { pub(crate) fn mint(f: i32) -> Self { Grant { flags: f } } }"),
        ("crates/monitor/src/begin.rs", "fn f() -> Grant { Grant::mint(0) }"),
        (
            "imafs/src/fs/open.rs",
            "fn f(reply: Box<dyn OpenReply>, grant: Grant) { reply.opened(grant, how) }",
        ),
        ("imafs/src/fuse/reply.rs", "fn f(grant: Grant, m: &mut Message) { m.open_out(fh, flags, 0) }"),
        ("imafs/src/fuse/ops.rs", "fn opened_directory(m: &mut Message) { m.open_out(fh, flags, 0) }"),
        (OWES, "fn to(header: &Header) -> Pending { Pending { unique: header.unique } }"),
    ];
    for (file, source) in fine {
        let found = findings(file, source)?;
        ensure!(found.is_empty(), "{file}: {source}: found {found:?}");
    }
    Ok(())
}
