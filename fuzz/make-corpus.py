#!/usr/bin/env python3
"""Makes fuzz/corpus/ anew, from the recordings of a real kernel and from certificates made by openssl.

Run from the repository's root. Without --certificates the certificates stay, and without --quotes what TPMs have signed
(swtpm and tpm2-tools are needed): the private keys are thrown away, so each run makes others.
"""

import hashlib
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

GOLDEN = pathlib.Path("integration/golden")
CORPUS = pathlib.Path("fuzz/corpus")


def put(target, name, data):
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)


def labels():
    """One of each length and type that the recordings have, and the signatures of keyring's vectors."""
    seen = set()
    for tree in sorted(GOLDEN.glob("*/kernel/tree")):
        for match in re.finditer(r"security\.ima=0x([0-9a-f]*)", tree.read_text("latin-1")):
            label = bytes.fromhex(match.group(1))
            kind = (len(label), label[:1] if label[:1] == b"\x01" else label[:2])
            if kind in seen or len(label) > 300:
                continue
            seen.add(kind)
            put("label", f"{len(label):03}-{label[:2].hex() or 'empty'}", label)
    for vector in sorted(pathlib.Path("crates/keyring/testdata").glob("*.label")):
        put("label", vector.stem, bytes.fromhex(vector.read_text().strip()))


def policies():
    for policy in sorted(GOLDEN.glob("*/policy")) + sorted(GOLDEN.glob("policy-load-errors/*.policy")):
        put("policy", f"{policy.parent.name}-{policy.name}", policy.read_bytes())
    for policy in sorted(pathlib.Path("policy").glob("[a-z]*")):
        if "." not in policy.name:
            put("policy", policy.name, policy.read_bytes())
    lines = []
    for row in (GOLDEN / "policy-syntax/kernel/ops.tsv").read_text().splitlines():
        line = row.split("\t")[1].removeprefix('0 rule "').removesuffix('"')
        lines.append(re.sub(r"\\(x..|.)", lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else m[1], line))
    for start in range(0, len(lines), 10):
        put("policy", f"policy-syntax-{start:03}", "\n".join(lines[start:start + 10]).encode("latin-1"))
    digest = hashlib.sha256(b"").hexdigest()
    ours = ["measure path=/usr/{bin,sbin}/**/[!a-c]?*", "appraise appraise_type=deny path=/tmp/**",
            f"dont_appraise func=BPRM_CHECK digest=sha256:{digest},sha256:{'0' * 64}",
            "appraise digest_type=verity appraise_type=sigv3 fowner>4000000000"]
    put("policy", "imafs-additions", ("\n".join(ours) + "\n").encode())


def templates():
    """A template by its name or format, then pieces for an event: name, label, security.evm, buffer."""
    label = (CORPUS / "label/vector-ec").read_bytes()
    for template in ("ima", "ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2", "ima-buf", "ima-modsig", "evm-sig",
                     "d|n", "d-ng|n-ng|iuid|igid|imode", "n-ng|xattrnames|xattrlengths|xattrvalues", "d-modsig|modsig"):
        pieces = b"".join(bytes([len(piece)]) + piece
                          for piece in (b"/usr/bin/a name", label, b"\x05" + label[1:], b"root=/dev/vda1"))
        put("template", template.replace("|", "+"), template.encode() + b"\n" + pieces)


def lists():
    for scenario in ("template-ima-ng-sha1", "template-fmt-inode-fields", "template-and-pcr-per-rule", "boot-no-tpm",
                     "appraise-signature", "violations-open-writers-tomtou", "verity-measure"):
        kernel = GOLDEN / scenario / "kernel"
        ascii_list = (kernel / "ascii_runtime_measurements").read_bytes().splitlines(keepends=True)
        put("list_ascii", scenario, b"".join(ascii_list[:12]))
        put("list_binary", scenario, first_records((kernel / "binary_runtime_measurements").read_bytes(), 12))
    put("list_ascii", "public-log", pathlib.Path("crates/ima/tests/data/public-log.ascii").read_bytes())


def host_lists():
    """Those entries as lines of a host list (docs/host-list.md): of one mount, then of three in turn."""
    for binary in sorted((CORPUS / "list_binary").iterdir()):
        for mounts in (1, 3):
            put("host", f"{binary.name}-{mounts}", b"".join(host_lines(binary.read_bytes(), mounts)))


def host_lines(entries, mounts):
    for number, entry in enumerate(records(entries)):
        data = b"".join(struct.pack("<I", len(field)) + field for field in (
            f"web-{number % mounts}".encode() + b"\0", struct.pack("<Q", number // mounts), entry))
        yield struct.pack("<I", 10) + hashlib.sha1(data).digest() + b"\6\0\0\0ima-ns" + struct.pack("<I", len(data)) + data


def first_records(data, count):
    return b"".join(record for _, record in zip(range(count), records(data)))


def records(data):
    at = 0
    while at < len(data):
        start = at
        name_length, = struct.unpack_from("<I", data, at + 24)
        name = data[at + 28:at + 28 + name_length]
        at += 28 + name_length + (20 if name == b"ima" else 0)
        length, = struct.unpack_from("<I", data, at)
        at += 4 + length
        yield data[start:at]


def manifests():
    """Whole ones, and entries behind a byte that says how many they are."""
    for vector in sorted(pathlib.Path("crates/manifest/testdata").glob("*.manifest")):
        put("manifest", vector.stem, vector.read_bytes())
    entry = lambda path, label: struct.pack("<HH", len(path), len(label)) + path + label
    a, b = entry(b"/bin/a", b"\x04\x04" + bytes(32)), entry(b"/bin/b\xff", b"x")
    put("manifest", "entries", b"\x02" + a + b)
    put("manifest", "entries-none", b"\x00")
    put("manifest", "entries-twice", b"\x02" + a + a)
    put("manifest", "entries-behind", b"\x01" + a + b)
    put("manifest", "entries-climbing", b"\x01" + entry(b"/../a", b"x"))


def certificates():
    put("certificate", "golden-trusted.der", (GOLDEN / "appraise-signature/keys/trusted.der").read_bytes())
    put("certificate", "ima-ec.der", pathlib.Path("crates/ima/tests/data/ec-certificate.der").read_bytes())
    for name in ("vector-ec", "vector-rsa", "expired"):
        put("certificate", f"{name}.pem", pathlib.Path(f"crates/keyring/testdata/{name}.pem").read_bytes())
    if "--certificates" not in sys.argv:
        return
    pss = ["rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"]
    for name, algorithm in {
        "rsa4096": ["rsa", "-pkeyopt", "rsa_keygen_bits:4096"],
        "p384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        "p521": ["ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
        "ed25519": ["ed25519"],
        "pss": pss,
    }.items():
        with tempfile.TemporaryDirectory() as scratch:
            key = f"{scratch}/key"
            subprocess.run(["openssl", "genpkey", "-algorithm", *algorithm, "-out", key], check=True,
                           stderr=subprocess.DEVNULL)
            request = ["openssl", "req", "-x509", "-key", key, "-days", "36500", "-subj",
                       f"/C=XX/O=imafs/CN=fuzz corpus {name}", "-addext", "keyUsage=critical,digitalSignature",
                       "-addext", "subjectAltName=URI:urn:imafs", "-addext", "basicConstraints=critical,CA:FALSE"]
            put("certificate", f"{name}.der", subprocess.check_output([*request, "-outform", "DER"]))
            spki = subprocess.check_output(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"])
            put("certificate", f"{name}.spki", spki)
            if name == "p384":
                both = subprocess.check_output(request) + (CORPUS / "certificate/vector-ec.pem").read_bytes()
                put("certificate", "two.pem", both)


BANKS = {"sha1": 4, "sha256": 11, "sha384": 12, "sha512": 13}


def evidence():
    """Quotes by keys of three kinds: each part by itself, and as evidence of a list (docs/attestation.md)."""
    if "--quotes" not in sys.argv:
        return
    with tempfile.TemporaryDirectory() as directory:
        here = pathlib.Path(directory)
        (here / "state").mkdir()
        swtpm = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={here}/state", "--flags",
                                  "not-need-init,startup-clear", "--server", f"type=unixio,path={here}/tpm",
                                  "--ctrl", f"type=unixio,path={here}/tpm.ctrl"])
        try:
            while not (here / "tpm").exists() or not (here / "tpm.ctrl").exists():
                pass
            for scheme, key, hashed, banks in [("rsassa", "rsa2048:rsassa-sha256:null", "sha256", ["sha256"]),
                                               ("rsapss", "rsa2048:rsapss-sha512:null", "sha512", list(BANKS)),
                                               ("ecdsa", "ecc384:ecdsa-sha384:null", "sha384", ["sha1", "sha384"])]:
                quote(here, scheme, key, hashed, banks)
        finally:
            swtpm.terminate()
            swtpm.wait()


def quote(here, scheme, key, hashed, banks):
    def run(tool, *arguments):
        subprocess.run([f"tpm2_{tool}", "--tcti", f"swtpm:path={here}/tpm", *arguments], check=True, cwd=here,
                       stdout=subprocess.DEVNULL)

    def section(tag, content):
        return struct.pack("<IQ", tag, len(content)) + content

    run("createprimary", "-C", "e", "-g", "sha256", "-G", key, "-c", "key",
        "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign")
    run("readpublic", "-c", "key", "-o", "public")
    selection = "+".join(f"{bank}:0,10" for bank in banks)
    run("quote", "-c", "key", "--scheme", scheme, "-g", hashed, "-l", selection, "-q", "00" * 16, "-m", "attest",
        "-s", "signature", "-o", "registers")
    run("flushcontext", "-t")
    attest, signature = (here / "attest").read_bytes(), (here / "signature").read_bytes()
    # Behind the length.
    public = (here / "public").read_bytes()[2:]
    for name, part in [("attest", attest), ("signature", signature), ("public", public)]:
        put("evidence", f"{name}-{scheme}", part)
    registers = b"".join(struct.pack("<HB", BANKS[bank], pcr) + bytes(hashlib.new(bank).digest_size)
                         for bank in banks for pcr in (0, 10))
    entries = (CORPUS / "list_binary" / "appraise-signature").read_bytes()
    put("evidence", "host-list", (CORPUS / "host" / "template-and-pcr-per-rule-3").read_bytes())
    sections = [attest, signature, public, registers, b"", entries]
    put("evidence", f"whole-{scheme}", b"imafs-ev" + struct.pack("<I", 1)
        + b"".join(section(tag, content) for tag, content in enumerate(sections, 1)))


if __name__ == "__main__":
    labels()
    policies()
    templates()
    lists()
    manifests()
    host_lists()
    certificates()
    evidence()
