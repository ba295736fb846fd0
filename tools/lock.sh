#!/usr/bin/env bash
# Makes the locks in requirements/ anew, hashes included, with a pinned resolver: dev.lock from
# pyproject.toml, rivals.lock for the lab tools that bench/ measures beside ours.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9
venv=build/lock-venv

python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check "uv==$UV_VERSION"
mkdir -p requirements
# --no-config and an empty UV_FIND_LINKS: a lock knows the public files only, not this machine.
compile() {
    env -u UV_FIND_LINKS -u UV_INDEX -u UV_EXTRA_INDEX_URL "$venv/bin/uv" pip compile --no-config --quiet \
        --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"
}

compile --group dev --group vm "$@" pyproject.toml --output-file requirements/dev.lock
compile "$@" - --output-file requirements/rivals.lock <<<"munet"
echo "requirements/dev.lock: $(grep -c '^[a-z]' requirements/dev.lock) packages"
