#!/usr/bin/env python3
"""Makes the manifests of this directory anew, by docs/manifest.md and openssl; nothing of imafs is used.

The keys are thrown away, so each run makes others. Run from this directory.
"""

import hashlib
import pathlib
import struct
import subprocess
import tempfile

ENTRIES = [
    (b"/bin/sh", b"\x04\x04" + hashlib.sha256(b"a shell").digest()),
    (b"/bin/a name\nwith \xff\xfe", b"\x01" + hashlib.sha1(b"odd").digest()),
    (b"/etc/.hidden", b"nonsense is kept as it is"),
    (b"/bin/bash", b"\x04\x04" + hashlib.sha256(b"a shell").digest()),
]
ALGORITHMS = {"sha256": 4, "sha384": 5, "sha512": 6}


def body(image, serial, entries):
    packed = b"".join(struct.pack("<HH", len(path), len(label)) + path + label for path, label in sorted(entries))
    length = 32 + len(image) + len(packed)
    return struct.pack("<8sHHIQQ", b"imafsMAN", 1, len(image), len(entries), length, serial) + image + packed


def run(*words, **rest):
    return subprocess.run(words, check=True, capture_output=True, **rest).stdout


def make(name, algorithm, genpkey):
    with tempfile.TemporaryDirectory() as scratch:
        key, digest, signature = (f"{scratch}/{part}" for part in ("key", "digest", "signature"))
        run("openssl", "genpkey", "-algorithm", *genpkey, "-out", key)
        run("openssl", "req", "-x509", "-key", key, "-days", "36500", "-subj", f"/CN=imafs manifest {name}", "-addext",
            "keyUsage=critical,digitalSignature", "-addext", "basicConstraints=critical,CA:FALSE", "-out", f"{name}.pem")
        text = run("openssl", "x509", "-in", f"{name}.pem", "-noout", "-ext", "subjectKeyIdentifier").decode()
        keyid = bytes.fromhex(text.split()[-1].replace(":", ""))[-4:]
        content = body(b"registry.example/web:1", 1700000000, ENTRIES)
        plain = hashlib.new(algorithm, content).digest()
        inverted = bytes(byte ^ 0xff for byte in plain)
        for to_sign, out in ((inverted, f"{name}.manifest"), (plain, f"{name}-signed-as-a-file.manifest")):
            pathlib.Path(digest).write_bytes(to_sign)
            run("openssl", "pkeyutl", "-sign", "-inkey", key, "-in", digest, "-pkeyopt", f"digest:{algorithm}",
                "-out", signature)
            signed = pathlib.Path(signature).read_bytes()
            header = struct.pack(">BBB4sH", 3, 2, ALGORITHMS[algorithm], keyid, len(signed))
            pathlib.Path(out).write_bytes(content + header + signed)


make("ec", "sha256", ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
make("rsa", "sha512", ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
