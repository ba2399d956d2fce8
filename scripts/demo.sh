#!/bin/bash
# The main job of imafs, told as a story: a Debian root filesystem is signed, mounted, run, tampered with, refused,
# explained and mended. `make demo` builds first. Needs root. Leaves nothing behind but the root filesystem's tar,
# which the next run uses again.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
bin=$(realpath "${IMAFS_BIN_DIR:-$here/target/debug}")
fixtures=${IMAFS_FIXTURES:-$here/target/fixtures}
work=
export PATH=$bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

# A heading, and what it is about.
chapter() {
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
    shift
    [ $# -eq 0 ] || printf '%s\n' "$@"
}
# A sentence between two commands.
say() { printf '\n  %s\n' "$1"; }
# Shows a command line, then runs it; its output is indented.
run() {
    printf '\n  $ %s\n' "$1"
    bash -o pipefail -c "$1" 2>&1 | sed 's/^/    /'
}
# The same for a command that has to be refused.
refused() {
    printf '\n  $ %s\n' "$1"
    if bash -c "$1" > "$work/out" 2>&1; then
        echo "demo: this should have been refused" >&2
        exit 1
    fi
    sed 's/^/    /' "$work/out"
    grep --quiet 'Permission denied' "$work/out" || {
        echo "demo: refused for another reason than it should be" >&2
        exit 1
    }
}

# The last audit record, the fields that matter here.
show_record() {
    run "tail --lines=1 audit.log | grep -oE '\"(op|cause|comm|name|rule|digest)\":\"[^\"]*\"'"
}

clean_up() {
    status=$?
    trap - EXIT INT TERM
    cd /
    [ -n "$work" ] || exit "$status"
    if mountpoint --quiet "$work/root"; then
        imafs umount "$work/root" > /dev/null 2>&1 || umount --lazy "$work/root" || true
    fi
    # Never through a mount: if one is still there, the directory stays and is named.
    if mountpoint --quiet "$work/root"; then
        echo "demo: $work/root is still mounted; left in place" >&2
    else
        rm -rf "$work"
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ "$(id -u)" != 0 ]; then
    echo "demo: mounting needs root: run \`sudo make demo\`" >&2
    exit 2
fi
if [ ! -e /dev/fuse ]; then
    echo "demo: there is no /dev/fuse: try \`modprobe fuse\`" >&2
    exit 2
fi

work=$(mktemp -d /var/tmp/imafs-demo.XXXXXX)
chmod 755 "$work"
mkdir "$work/debian" "$work/root" "$work/keys" "$work/run"
export IMAFS_RUN_DIR=$work/run
victim=usr/bin/sha256sum

chapter "1. A root filesystem" \
    "An image builder makes a small Debian with Python. (Half a minute; the next run finds it again.)"
"$here/scripts/make-rootfs.sh" "$fixtures/debian.tar"
cd "$work"
tar --extract --preserve-permissions --numeric-owner --xattrs --xattrs-include='*' \
    --file "$fixtures/debian.tar" --directory debian
run 'find debian -type f | wc -l'

chapter "2. A key, and a signature for every file" \
    "The key is made now and thrown away at the end. Each file's signature goes into its security.ima attribute."
run 'imafs-sign keygen --subject "demo signing key" --out-key keys/demo.key --out-cert keys/demo.pem'
run 'imafs-sign sign --key keys/demo.key --cert keys/demo.pem debian'
run "imafs-sign show --cert keys/demo.pem debian/$victim"

chapter "3. The mount" \
    "imafs stands between the container and its files and checks each open. The policy \`exec\` lets only signed code run."
run 'imafs mount --policy exec --key keys/demo.pem --cache shared --audit file:audit.log debian root'
run 'imafs ps'

chapter "4. It runs" \
    "A shell and Python, inside, unchanged and unaware."
run "chroot root sh -c 'echo hello from Debian \$(cat /etc/debian_version); ls -m /'"
run "chroot root python3 -c 'import hashlib; print(hashlib.sha256(b\"imafs\").hexdigest())'"
run "chroot root sha256sum /etc/debian_version"

chapter "5. Somebody changes one byte" \
    "Not in the container: on the disk beneath it, in one program. Size and time are put back."
cp --archive "debian/$victim" before
offset=$(($(stat --format=%s "debian/$victim") - 9))
run "printf X | dd of=debian/$victim bs=1 seek=$offset conv=notrunc status=none
    touch --reference=before debian/$victim; cmp before debian/$victim || true"
say "In the container:"
# By its path: a bare name would be tried in /usr/bin and then in /bin, which is the same, and refused twice.
refused 'chroot root /usr/bin/sha256sum /etc/debian_version'
say "Everything else goes on:"
run "chroot root sh -c 'echo still here'"
say "Why was it refused? The audit record says:"
show_record
say "What was run is in the measurement list, the refused program with the digest it really had:"
run "tail --lines=4 root/.imafs/measurements | cut --delimiter=' ' --fields=1,3-5"

chapter "6. Somebody brings a program in" \
    "From inside this time, as root in the container: a copy of Python with one more byte."
run "chroot root sh -c 'cp /usr/bin/python3 /usr/local/bin/tool && echo >> /usr/local/bin/tool; ls -l /usr/local/bin'"
refused "chroot root tool -c 'print(\"I am in\")'"
show_record

chapter "7. The owner looks at both" \
    "The new program is wanted: it is signed on the host and runs at the next try. The tampered one is put back."
run 'imafs-sign sign --key keys/demo.key --cert keys/demo.pem debian/usr/local/bin/tool'
run "chroot root tool -c 'print(\"signed, so I may run\")'"
run "cp --archive before debian/$victim"
run 'chroot root sha256sum /etc/debian_version'

chapter "8. The list, before a judge" \
    "evmctl knows nothing of imafs. It replays the list and compares the result with the PCR values."
for bank in sha1 sha256; do
    # evmctl wants PCR-00 to PCR-23 in order; only the measured one was extended, the others are zero.
    awk -v bank=$bank '
        $1 == bank { value[$2 + 0] = $3; width = length($3) }
        END { zeros = sprintf("%0" width "d", 0)
              for (i = 0; i < 24; i++) printf "PCR-%02d: %s\n", i, (i in value) ? value[i] : zeros }
    ' root/.imafs/pcrs > "pcrs-$bank"
done
cat root/.imafs/integrity/ima/binary_runtime_measurements > list
run 'evmctl -v ima_measurement --pcrs sha1,pcrs-sha1 --pcrs sha256,pcrs-sha256 list 2>&1 | grep -E "PCR-10|Matched"'
run 'cat root/.imafs/integrity/ima/runtime_measurements_count root/.imafs/integrity/ima/violations'

chapter "9. The end"
run 'imafs umount root'
say "Unmounted. The key, the tree and the records are thrown away; nothing is left."
