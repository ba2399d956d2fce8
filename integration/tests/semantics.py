"""What a program sees of a filesystem: run in an empty directory as root, it prints one line per question.

The same program on the backing filesystem is the oracle: line by line the answers have to be equal.
Inode numbers, times of now and addresses are never printed, only whether they agree with each other.
"""
import ctypes, errno, fcntl, mmap, os, socket, stat, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
ME = (1000, 1000, [1000, 60])


def ask(name, call, *args, **kw):
    try:
        answer = call(*args, **kw)
    except OSError as e:
        answer = errno.errorcode.get(e.errno, e.errno)
    print(f"{name}: {answer!r}")


def c(name, *args):
    """A call of the C library; its errno becomes an OSError."""
    result = getattr(libc, name)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def look(path, follow=False):
    s = os.stat(path, follow_symlinks=follow)
    size = None if stat.S_ISDIR(s.st_mode) else s.st_size
    return oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, size, s.st_rdev


def as_me(call, ids=ME, umask=0o022):
    """Runs `call` in a child of an ordinary user, and prints what it prints."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        uid, gid, groups = ids
        os.umask(umask)
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        code = 1
        try:
            call()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    print("  child:", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def write(path, data=b"data", mode=0o666, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    fd = os.open(path, flags, mode)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def section(title):
    print(f"== {title}")
    os.mkdir(title)
    os.chmod(title, 0o777)
    os.chdir(title)


def creating():
    section("creating")
    for mask in (0, 0o022, 0o077, 0o777):
        os.umask(mask)
        ask(f"file {mask:o}", write, f"file-{mask:o}")
        ask(f"dir {mask:o}", os.mkdir, f"dir-{mask:o}", 0o777)
        ask(f"fifo {mask:o}", os.mkfifo, f"fifo-{mask:o}", 0o666)
        for kind in ("file", "dir", "fifo"):
            ask(f"look {kind} {mask:o}", look, f"{kind}-{mask:o}")
    os.umask(0o022)
    ask("device", os.mknod, "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    ask("look device", look, "null")
    ask("use device", read, "null")
    ask("plain by mknod", os.mknod, "plain", 0o640 | stat.S_IFREG)
    ask("look plain", look, "plain")
    s = socket.socket(socket.AF_UNIX)
    ask("socket", s.bind, "socket")
    ask("look socket", look, "socket")
    ask("excl", os.open, "plain", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    ask("excl on a dangling link", lambda: (os.symlink("nowhere", "dangling"), os.open("dangling", os.O_CREAT | os.O_EXCL)))
    ask("through a dangling link", lambda: (write("dangling"), look("nowhere")))
    ask("nofollow", os.open, "dangling", os.O_RDONLY | os.O_NOFOLLOW)
    ask("a directory for writing", os.open, ".", os.O_WRONLY)
    ask("O_DIRECTORY of a file", os.open, "plain", os.O_DIRECTORY)
    ask("long name", os.mkdir, "n" * 255)
    ask("longer name", os.mkdir, "n" * 256)
    ask("not utf-8", lambda: (write(b"\xff\xfe"), b"\xff\xfe" in os.listdir(b".")))
    ask("newline", lambda: (write("a\nb"), "a\nb" in os.listdir()))
    ask("missing parent", write, "no/such/file")
    ask("file as parent", write, "plain/file")
    os.chdir("..")


def owners():
    section("owners")

    def child():
        ask("mine", lambda: (write("mine"), look("mine")))
        ask("my dir", lambda: (os.mkdir("my-dir"), look("my-dir")))
        ask("in a setgid dir", lambda: (write("setgid/file"), look("setgid/file")))
        ask("dir in a setgid dir", lambda: (os.mkdir("setgid/dir"), look("setgid/dir")))
        ask("setgid file in a foreign group's setgid dir", lambda: (write("foreign/file", mode=0o2775), look("foreign/file")))
        ask("chown", os.chown, "mine", 0, -1)
        ask("chgrp to my group", lambda: (os.chown("mine", -1, 60), look("mine")))
        ask("chgrp to another", os.chown, "mine", -1, 61)
        ask("chmod of root's", os.chmod, "root", 0o777)
        ask("open root's", read, "root")
        ask("write root's", write, "root")
        ask("unlink in sticky", os.unlink, "sticky/root")
        ask("rename in sticky", os.rename, "sticky/root", "sticky/other")
        ask("no search", os.stat, "closed/file")
        ask("by supplementary group", read, "group-60")
        ask("by a foreign group", read, "group-61")
        ask("create in a group-60 dir", lambda: (write("dir-60/file"), look("dir-60/file")))
        ask("access R", os.access, "root", os.R_OK)
        ask("access W", os.access, "root", os.W_OK)
        ask("access X", os.access, "root", os.X_OK)
        ask("mknod", os.mknod, "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        ask("trusted", os.setxattr, "mine", "trusted.x", b"y")
        ask("security.ima", os.setxattr, "mine", "security.ima", b"\x04\x04" + 32 * b"x")
        ask("user xattr of root's", os.setxattr, "root", "user.x", b"y")
        ask("sgid kept by chmod", lambda: (os.chmod("mine", 0o2755), look("mine")))
        ask("link root's", os.link, "root", "linked")
        ask("create in root's", write, "shut/file")

    os.mkdir("setgid"); os.chown("setgid", 0, 60); os.chmod("setgid", 0o2777)
    os.mkdir("foreign"); os.chown("foreign", 0, 61); os.chmod("foreign", 0o2777)
    os.mkdir("sticky"); os.chmod("sticky", 0o1777); write("sticky/root")
    os.mkdir("closed"); write("closed/file"); os.chmod("closed", 0o600)
    os.mkdir("dir-60"); os.chown("dir-60", 0, 60); os.chmod("dir-60", 0o770)
    os.mkdir("shut"); os.chmod("shut", 0o755)
    write("root"); os.chmod("root", 0o644)
    for g in (60, 61):
        write(f"group-{g}"); os.chown(f"group-{g}", 0, g); os.chmod(f"group-{g}", 0o640)
    as_me(child)
    as_me(lambda: ask("umask 077", lambda: (write("masked"), look("masked"))), umask=0o077)
    as_me(lambda: ask("uid 1000 gid 0", lambda: (write("gid-0"), look("gid-0"))), ids=(1000, 0, []))
    as_me(lambda: ask("uid 0 gid 1000", lambda: (write("uid-0"), look("uid-0"))), ids=(0, 1000, []))
    os.chdir("..")


def set_id_bits():
    section("set-id-bits")
    capability = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)

    def make(name, mode=0o6777, caps=False):
        write(name); os.chown(name, 1000, 1000); os.chmod(name, mode)
        if caps:
            os.setxattr(name, "security.capability", capability)

    def caps(name):
        return len(os.getxattr(name, "security.capability"))

    for who, run in (("root", lambda f: f()), ("me", as_me)):
        for mode in (0o6777, 0o2767, 0o4777):
            n = f"{who}-{mode:o}"
            make(f"{n}-write", mode)
            run(lambda: ask(f"{n} write", lambda: (write(f"{n}-write", b"x", flags=os.O_WRONLY), look(f"{n}-write"))))
            make(f"{n}-trunc", mode)
            run(lambda: ask(f"{n} truncate", lambda: (os.truncate(f"{n}-trunc", 1), look(f"{n}-trunc"))))
            make(f"{n}-otrunc", mode)
            run(lambda: ask(f"{n} O_TRUNC", lambda: (write(f"{n}-otrunc", b""), look(f"{n}-otrunc"))))
            make(f"{n}-chown", mode)
            run(lambda: ask(f"{n} chown", lambda: (os.chown(f"{n}-chown", -1, 1000), look(f"{n}-chown"))))
        make(f"{who}-caps", 0o777, caps=True)
        run(lambda: ask(f"{who} write drops capabilities", lambda: (write(f"{who}-caps", flags=os.O_WRONLY), caps(f"{who}-caps"))))
        make(f"{who}-caps2", 0o777, caps=True)
        run(lambda: ask(f"{who} chown drops capabilities", lambda: (os.chown(f"{who}-caps2", -1, 1000), caps(f"{who}-caps2"))))
    os.chdir("..")


def renaming():
    section("renaming")

    def renameat2(a, b, flags):
        return c("renameat2", -100, a.encode(), -100, b.encode(), flags)

    write("a", b"a"); write("b", b"b"); os.mkdir("d"); os.mkdir("e"); write("e/in")
    ask("noreplace", renameat2, "a", "b", 1)
    ask("noreplace free", lambda: (renameat2("a", "new", 1), read("new")))
    ask("exchange", lambda: (renameat2("new", "b", 2), read("new"), read("b")))
    ask("exchange file and dir", lambda: (renameat2("new", "d", 2), look("new")[0], look("d")[0]))
    ask("exchange with none", renameat2, "b", "none", 2)
    ask("both flags", renameat2, "b", "none", 3)
    ask("dir over full dir", os.rename, "new", "e")
    ask("dir over file", os.rename, "e", "b")
    ask("file over dir", os.rename, "b", "e")
    ask("dir into itself", os.rename, "e", "e/in-itself")
    ask("over", lambda: (write("x", b"x"), write("y", b"y"), os.rename("x", "y"), read("y"), os.path.exists("x")))
    ask("over a hard link of itself", lambda: (os.link("y", "z"), os.rename("y", "z"), os.path.exists("y"), look("z")))

    def open_across():
        fd = os.open("z", os.O_RDWR)
        os.rename("z", "moved")
        write("z", b"other")
        os.unlink("moved")
        os.write(fd, b"still")
        s = os.fstat(fd)
        return os.pread(fd, 9, 0), s.st_nlink, s.st_size, read("z")

    ask("open across rename and unlink", open_across)

    def cwd_removed():
        os.mkdir("gone")
        fd = os.open("gone", os.O_RDONLY)
        os.rmdir("gone")
        out = [os.fstat(fd).st_nlink, os.listdir(fd)]
        try:
            os.stat("x", dir_fd=fd)
        except OSError as e:
            out.append(errno.errorcode[e.errno])
        try:
            os.mkdir("x", dir_fd=fd)
        except OSError as e:
            out.append(errno.errorcode[e.errno])
        return out

    ask("a removed directory", cwd_removed)
    ask("rmdir full", os.rmdir, "e")
    ask("unlink dir", os.unlink, "e")
    ask("rmdir file", os.rmdir, "z")
    ask("rmdir dot", os.rmdir, "e/.")
    ask("link dir", os.link, "e", "e2")
    ask("nlink of dirs", lambda: (os.makedirs("p/q/r"), look("p")[3], look("p/q")[3]))
    os.chdir("..")


def content():
    section("content")

    def append():
        fds = [os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2)]
        for i in range(6):
            os.write(fds[i % 2], b"%d" % i)
        os.pwrite(fds[0], b"x", 0)
        return read("log")

    ask("append", append)

    def holes():
        fd = os.open("hole", os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 1 << 20)
        os.pwrite(fd, b"x", 500_000)
        out = [os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE)]
        out.append(os.lseek(fd, out[0], os.SEEK_HOLE))
        try:
            os.lseek(fd, 600_000, os.SEEK_DATA)
        except OSError as e:
            out.append(errno.errorcode[e.errno])
        return out, os.fstat(fd).st_blocks

    ask("holes", holes)

    def allocate(mode, offset, length):
        fd = os.open("alloc", os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, b"d" * 16384, 0)
        c("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
        return os.fstat(fd).st_size, os.pread(fd, 16384, 0).count(b"d")

    for name, mode in (("allocate", 0), ("keep size", 1), ("punch", 3), ("zero", 0x10), ("collapse", 8)):
        ask(f"fallocate {name}", allocate, mode, 4096, 8192)
        os.truncate("alloc", 0)
    ask("fallocate beyond", allocate, 0, 0, 40000)

    def copied():
        write("from", b"0123456789" * 1000)
        a, b = os.open("from", os.O_RDONLY), os.open("to", os.O_RDWR | os.O_CREAT)
        return os.copy_file_range(a, b, 5000, 10, 0), os.pread(b, 20, 0), os.fstat(b).st_size

    ask("copy_file_range", copied)

    def shared_map():
        write("map", b"\0" * 8192)
        fd = os.open("map", os.O_RDWR)
        with mmap.mmap(fd, 8192) as m:
            m[4096:4100] = b"here"
            seen = os.pread(fd, 4, 4096)
            os.pwrite(fd, b"there", 0)
            return seen, m[0:5], read("map")[4096:4100]

    ask("a shared map", shared_map)

    def truncated_map():
        write("map2", b"x" * 10000)
        os.truncate("map2", 5000)
        os.truncate("map2", 10000)
        data = read("map2")
        return data.count(b"x"), data.count(b"\0")

    ask("truncate and grow", truncated_map)
    ask("truncate a directory", os.truncate, ".", 0)
    ask("read a directory", lambda: os.read(os.open(".", os.O_RDONLY), 1))
    ask("write read-only", lambda: os.write(os.open("map", os.O_RDONLY), b"x"))
    ask("read write-only", lambda: os.read(os.open("map", os.O_WRONLY), 1))
    ask("trunc read-only open", lambda: (os.close(os.open("map", os.O_RDONLY | os.O_TRUNC)), look("map")[4]))
    ask("direct", lambda: os.close(os.open("from", os.O_RDONLY | os.O_DIRECT)))
    ask("tmpfile", lambda: os.close(os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)))
    ask("fsync", lambda: (os.fsync(os.open("from", os.O_RDWR)), os.fdatasync(os.open("from", os.O_RDWR))))
    ask("fsync directory", lambda: os.fsync(os.open(".", os.O_RDONLY)))
    ask("big", lambda: (write("big", b"b" * 3_000_000), look("big")[4], read("big").count(b"b")))
    ask("reopen read while writing", lambda: (os.write(os.open("big", os.O_WRONLY), b"Z"), read("big")[:2]))
    os.chdir("..")


def locks():
    section("locks")
    write("lock")

    def in_child(call):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                call()
                os.write(w, b"got")
            except OSError as e:
                os.write(w, errno.errorcode[e.errno].encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return os.read(r, 20)

    fd = os.open("lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    ask("flock held", in_child, lambda: fcntl.flock(os.open("lock", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))
    fcntl.flock(fd, fcntl.LOCK_UN)
    ask("flock free", in_child, lambda: fcntl.flock(os.open("lock", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)
    ask("range held", in_child, lambda: fcntl.lockf(os.open("lock", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5))
    ask("range beside", in_child, lambda: fcntl.lockf(os.open("lock", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 20))
    os.close(os.open("lock", os.O_RDONLY))
    ask("range after another close", in_child, lambda: fcntl.lockf(os.open("lock", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5))
    os.close(fd)
    os.chdir("..")


def attributes():
    section("attributes")
    write("f"); os.mkdir("d"); os.symlink("f", "l")
    for name in ("user.a", "trusted.a", "security.other", "user.", "nonsense", "system.other"):
        ask(f"set {name}", os.setxattr, "f", name, b"value")
        ask(f"get {name}", os.getxattr, "f", name)
    ask("create existing", os.setxattr, "f", "user.a", b"x", os.XATTR_CREATE)
    ask("replace missing", os.setxattr, "f", "user.none", b"x", os.XATTR_REPLACE)
    ask("replace", lambda: (os.setxattr("f", "user.a", b"second", os.XATTR_REPLACE), os.getxattr("f", "user.a")))
    ask("empty value", lambda: (os.setxattr("f", "user.e", b""), os.getxattr("f", "user.e")))
    ask("too big", os.setxattr, "f", "user.big", b"x" * 65537)
    ask("list", lambda: sorted(os.listxattr("f")))
    ask("remove", lambda: (os.removexattr("f", "user.a"), sorted(os.listxattr("f"))))
    ask("remove missing", os.removexattr, "f", "user.a")
    ask("user of a symlink", os.setxattr, "l", "user.a", b"x", follow_symlinks=False)
    ask("trusted of a symlink", lambda: (os.setxattr("l", "trusted.a", b"x", follow_symlinks=False), os.getxattr("l", "trusted.a", follow_symlinks=False)))
    ask("of a directory", lambda: (os.setxattr("d", "user.a", b"x"), os.listxattr("d")))
    ask("small buffer", lambda: c("getxattr", b"f", b"user.e", ctypes.create_string_buffer(1), 1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in (
        (1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)))
    ask("acl", lambda: (os.setxattr("f", "system.posix_acl_access", acl), os.getxattr("f", "system.posix_acl_access").hex(), look("f")))
    ask("acl, chmod", lambda: (os.chmod("f", 0o640), os.getxattr("f", "system.posix_acl_access").hex(), look("f")))
    as_me(lambda: ask("acl lets me read", read, "f"))
    as_me(lambda: ask("acl keeps me from writing", write, "f", b"x", flags=os.O_WRONLY))
    as_me(lambda: ask("acl keeps another out", read, "f"), ids=(1001, 1001, []))
    ask("default acl", lambda: os.setxattr("d", "system.posix_acl_default", acl))
    for mask in (0o022, 0o077):
        os.umask(mask)
        ask(f"inherits {mask:o}", lambda: (write(f"d/f-{mask:o}"), look(f"d/f-{mask:o}"), sorted(os.listxattr(f"d/f-{mask:o}"))))
        ask(f"dir inherits {mask:o}", lambda: (os.mkdir(f"d/d-{mask:o}"), look(f"d/d-{mask:o}"), sorted(os.listxattr(f"d/d-{mask:o}"))))
    os.umask(0o022)
    ask("bad acl", os.setxattr, "f", "system.posix_acl_access", b"xx")
    os.chdir("..")


def times():
    section("times")
    write("f")
    ask("set", lambda: (os.utime("f", ns=(123456789_987654321, -5_000000001)), os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns))
    ask("of a symlink", lambda: (os.symlink("f", "l"), os.utime("l", ns=(1, 2), follow_symlinks=False), os.stat("l", follow_symlinks=False).st_mtime_ns))

    def moves(call):
        before = os.stat("f")
        call()
        after = os.stat("f")
        return before.st_mtime_ns != after.st_mtime_ns, before.st_ctime_ns != after.st_ctime_ns

    import time
    for name, call in (("write", lambda: write("f", b"x", flags=os.O_WRONLY)), ("chmod", lambda: os.chmod("f", 0o600)),
                       ("link", lambda: os.link("f", "f2")), ("rename", lambda: os.rename("f2", "f3")), ("unlink", lambda: os.unlink("f3")),
                       ("truncate", lambda: os.truncate("f", 0)), ("read", lambda: read("f")), ("xattr", lambda: os.setxattr("f", "user.x", b"y"))):
        time.sleep(0.02)
        ask(f"{name} moves mtime, ctime", moves, call)
    time.sleep(0.02)
    before = os.stat(".").st_mtime_ns
    write("new")
    ask("creating moves the directory's mtime", lambda: os.stat(".").st_mtime_ns != before)
    os.chdir("..")


def directories():
    section("directories")
    for i in range(3000):
        os.close(os.open(f"entry-{i:05}", os.O_CREAT | os.O_WRONLY))
    ask("all listed", lambda: (len(os.listdir()), len(set(os.listdir()))))

    def while_removing():
        seen = []
        with os.scandir() as it:
            for e in it:
                seen.append(e.name)
                os.unlink(e.name)
        return len(seen) == len(set(seen)), os.listdir()

    ask("removing while listing", while_removing)
    ask("types", lambda: (os.mkdir("d"), os.symlink("d", "l"), sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in os.scandir())))
    ask("inode numbers agree", lambda: all(e.inode() == os.lstat(e.name).st_ino for e in os.scandir()))
    ask("dot and dotdot", lambda: (os.stat("d/..").st_ino == os.stat(".").st_ino, os.stat("d/.").st_ino == os.stat("d").st_ino))
    ask("hard links share a number", lambda: (write("h"), os.link("h", "h2"), os.stat("h").st_ino == os.stat("h2").st_ino, look("h2")))
    ask("symlink loop", lambda: (os.symlink("loop", "loop"), os.stat("loop")))
    ask("long link target", lambda: (os.symlink("t" * 4095, "long"), len(os.readlink("long"))))
    ask("statvfs", lambda: (os.statvfs(".").f_bsize, os.statvfs(".").f_namemax))
    os.chdir("..")


os.umask(0o022)
for part in (creating, owners, set_id_bits, renaming, content, locks, attributes, times, directories):
    part()
