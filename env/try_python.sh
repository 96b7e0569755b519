#!/usr/bin/env bash
# README's two commands and the quick tests with another Python: a clean clone of HEAD, a fresh venv.
#
#   env/try_python.sh [PYTHON]      the newest that pyproject.toml allows, where none is named
#
# PIP_CONSTRAINT=env/constraints.txt takes the versions that were tried; else the newest that are allowed. KEEP=1 leaves
# the folder. The exit code is that of the first command that fails.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)

runs() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

python=${1:-}
if [ -z "$python" ]; then
    # A pyenv shim of a version that is not chosen is there and does not run, so each is tried.
    for minor in 13 12 11; do
        for found in "$(command -v "python3.$minor" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
            if [ -x "$found" ] && runs "$found"; then python=$found && break 2; fi
        done
    done
    [ -n "$python" ] || { echo "error: no Python 3.11 to 3.13 is here; name one: env/try_python.sh PYTHON" >&2; exit 1; }
fi
python=$(command -v "$python" || echo "$python")
case $python in /*) ;; *) python=$PWD/$python ;; esac
runs "$python" || { echo "error: $python: does not run, or is no Python 3.11 to 3.13" >&2; exit 1; }
case ${PIP_CONSTRAINT:-/} in /*) ;; *) export PIP_CONSTRAINT=$top/$PIP_CONSTRAINT ;; esac

folder=$(mktemp -d)
[ -n "${KEEP:-}" ] || trap 'rm -rf "$folder"' EXIT
git clone -q "$top" "$folder/vtg"
[ ! -d "$top/../shared" ] || ln -s "$(cd "$top/../shared" && pwd)" "$folder/shared" # videos that some tests read
cd "$folder/vtg"
mkdir bin # a link would make a venv that looks for its library beside the link
printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" > bin/python3 && chmod +x bin/python3
export PATH=$PWD/bin:$PATH
unset PYTHONPATH VIRTUAL_ENV

readme() { grep -m 1 -e "^python3 -m venv .*$1" README.md; }

step() {
    echo "== $("$python" --version), in $PWD: $1"
    bash -euo pipefail -c "$1"
}

step "$(readme train_sft.py)"
step "$(readme pytest) -m 'not slow and not soak'"
