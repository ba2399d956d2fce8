#!/bin/sh
# make-rootfs.sh OUT.tar: a small Debian root filesystem with Python, as a tar with owners and attributes.
#
# Does nothing when OUT.tar is there already. Several of these may run at once: one makes it, the others wait.
# IMAFS_SUITE names another suite than bookworm, IMAFS_MIRROR another mirror than Debian's own. Needs root.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: make-rootfs.sh OUT.tar" >&2
    exit 2
fi
out=$1
suite=${IMAFS_SUITE:-bookworm}
mirror=${IMAFS_MIRROR:-}

mkdir -p "$(dirname "$out")"
exec 9> "$out.lock"
flock 9
[ ! -s "$out" ] || exit 0

if ! command -v mmdebstrap > /dev/null; then
    echo "make-rootfs: mmdebstrap is not installed: run scripts/install-deps.sh" >&2
    exit 2
fi
# 9>&-: what it starts must not keep the lock.
mmdebstrap --quiet --format=tar --variant=minbase --include=acl,attr,python3-minimal \
    "$suite" "$out.part" ${mirror:+"$mirror"} 9>&- >&2
mv "$out.part" "$out"
