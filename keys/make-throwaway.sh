#!/bin/sh
# Makes a throwaway CA, a signing key and its certificate in a new directory, for demos and tests.
#
#   keys/make-throwaway.sh DIR [rsa|p256|p384]
#
# DIR/ca.key ca.pem             the authority: signs certificates, no files
# DIR/signing.key signing.pem   signs files; its certificate is signed by the authority
# DIR/signing.der               the same certificate as a kernel and evmctl take it
#
# Uses $IMAFS_SIGN, else imafs-sign beside this source tree (target/release, target/debug), else the
# one on PATH. Refuses a directory that holds anything. The keys protect nothing: delete the directory.
set -eu

dir=${1:?usage: make-throwaway.sh DIR [rsa|p256|p384]}
type=${2:-p256}
here=$(cd "$(dirname "$0")" && pwd)

sign=${IMAFS_SIGN:-}
for candidate in "$here/../target/release/imafs-sign" "$here/../target/debug/imafs-sign" "$(command -v imafs-sign || true)"; do
    if [ -z "$sign" ] && [ -n "$candidate" ] && [ -x "$candidate" ]; then
        sign=$candidate
    fi
done
if [ -z "$sign" ]; then
    echo "make-throwaway.sh: cannot find imafs-sign" >&2
    echo "  build it first: cargo build -p sign" >&2
    exit 2
fi
if [ -d "$dir" ] && [ -n "$(ls -A "$dir")" ]; then
    echo "make-throwaway.sh: $dir is not empty" >&2
    echo "  name a new directory, or remove that one" >&2
    exit 2
fi

umask 077
mkdir -p "$dir"
"$sign" keygen --type "$type" --ca --subject 'CN=imafs throwaway CA' --days 30 \
    --out-key "$dir/ca.key" --out-cert "$dir/ca.pem" >/dev/null
"$sign" keygen --type "$type" --subject 'CN=imafs throwaway signing key' --days 30 \
    --ca-key "$dir/ca.key" --ca-cert "$dir/ca.pem" \
    --out-key "$dir/signing.key" --out-cert "$dir/signing.der"

# The same certificate as text; base64 is the whole difference.
{
    echo '-----BEGIN CERTIFICATE-----'
    base64 -w 64 "$dir/signing.der"
    echo '-----END CERTIFICATE-----'
} >"$dir/signing.pem"
