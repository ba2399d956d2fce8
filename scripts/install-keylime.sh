#!/bin/sh
# Puts Keylime, whose parser of measurement lists a test holds against ours, into target/tools/keylime. The version is
# pinned by its hash. Debian has no package of it, but of all it imports (install-deps.sh). Says nothing when it is there.
set -eu
cd "$(dirname "$0")/.."
at=target/tools/keylime
if cmp --silent scripts/keylime-requirements.txt "$at/installed.txt"; then
    exit 0
fi
echo "install-keylime: installing Keylime in $at" >&2
rm -rf "$at"
/usr/bin/python3 -m venv --system-site-packages "$at"
"$at/bin/pip" install --quiet --no-deps --require-hashes --requirement scripts/keylime-requirements.txt
cp scripts/keylime-requirements.txt "$at/installed.txt"
