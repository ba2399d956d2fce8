#!/bin/sh
# Installs the Debian packages that building, testing and the demo need, if any is missing; with the argument
# `oracle`, `engines` or `semantics` also those of `make oracle`, `make test-engines` or `make semantics`. Says nothing
# when all are there. Rust itself is not installed: see rustup.rs.
set -eu

packages='
acl
attr
build-essential
ca-certificates
chromium
chromium-driver
diffutils
e2fsprogs
fio
fsverity
git
ima-evm-utils
libacl1-dev
libtss2-dev
libtss2-tcti-device0
libtss2-tcti-swtpm0
make
mmdebstrap
openssl
pkg-config
python3
python3-cryptography
python3-gpg
python3-jsonschema
python3-lark
python3-packaging
python3-pyasn1
python3-pyasn1-modules
python3-venv
python3-yaml
sqlite3
swtpm
swtpm-tools
tpm2-tools
util-linux
'

# A kernel with IMA, and what boots it.
oracle_packages='
busybox-static
cpio
kmod
linux-image-amd64
qemu-system-x86
swtpm
'
# Container engines, with the runtime they all come down to.
engine_packages='
buildah
catatonit
containerd
docker-compose
docker.io
fuse-overlayfs
podman
runc
skopeo
systemd
uidmap
'
# The filesystems that suites are run on.
semantics_packages='
btrfs-progs
xfsprogs
'
case "${1:-}" in
    '') ;;
    semantics) packages="$packages $semantics_packages" ;;
    oracle) packages="$packages $oracle_packages" ;;
    engines) packages="$packages $engine_packages" ;;
    *)
        echo "usage: install-deps.sh [oracle|engines|semantics]" >&2
        exit 2
        ;;
esac

missing=
for package in $packages; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get > /dev/null; then
    echo "install-deps: this is no Debian; install by your own means:$missing" >&2
    exit 2
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo > /dev/null; then
        echo "install-deps: as root, run: apt-get install$missing" >&2
        exit 2
    fi
    as_root=sudo
fi
echo "install-deps: installing$missing" >&2
$as_root apt-get update -qq
# The word splitting is wanted: each package is an argument.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq --yes --no-install-recommends $missing > /dev/null
