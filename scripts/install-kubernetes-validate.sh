#!/bin/sh
# Puts kubernetes-validate, which carries Kubernetes' published schemas, into target/tools/kubernetes-validate. The version
# is pinned by its hash; what it imports is Debian's (install-deps.sh). Says nothing when it is there.
set -eu
cd "$(dirname "$0")/.."
at=target/tools/kubernetes-validate
requirements=scripts/kubernetes-validate-requirements.txt
if cmp --silent "$requirements" "$at/installed.txt"; then
    exit 0
fi
echo "install-kubernetes-validate: installing in $at" >&2
rm -rf "$at"
/usr/bin/python3 -m venv --system-site-packages "$at"
"$at/bin/pip" install --quiet --no-deps --require-hashes --requirement "$requirements"
cp "$requirements" "$at/installed.txt"
