#!/usr/bin/env bash
# requirements/setup.sh cpu|cuda: makes .venv from the lock files. What `make setup` runs; PYTHON names an interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
venv=.venv
supported='import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '       %s\n' "$@" >&2
    exit 1
}

# An interpreter is asked and not only looked for: a name on the path may be a shim of a version that is not there.
python_for_venv() {
    local name
    if [[ -n ${PYTHON:-} ]]; then
        "$PYTHON" -c "$supported" 2>/dev/null ||
            fail "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13 ($("$PYTHON" --version 2>&1 || true))." \
                "Leave PYTHON out to have one looked for, or name another."
        echo "$PYTHON"
        return
    fi
    for name in python3.11 python3.12 python3.13 python3 python; do
        if "$name" -c "$supported" 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "noisefold needs Python 3.11, 3.12 or 3.13, and none is on the path ($(python3 --version 2>&1 || true))." \
        "Install one (uv python install 3.11, pyenv, or the system's package), then run this again." \
        "One that is not on the path is named by PYTHON: make setup PYTHON=/path/to/python3.11"
}

install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@"
}

# The one package that PyPI does not have, so it comes first: what is missing shows within seconds.
install_torch() {
    local said status=0
    # To pip 2.13.0+cpu is as good as 2.13.0, so it would stay.
    [[ $build == cpu ]] || "$venv/bin/python" -m pip uninstall --quiet --yes torch 2>/dev/null
    said=$(install --require-hashes -r "requirements/torch-$build.lock" 2>&1) || status=$?
    ((status == 0)) && return
    if [[ $build != cpu || $said != *"No matching distribution found for torch"* ]]; then
        printf '%s\n' "$said" >&2
        exit "$status"
    fi
    fail "pip has no source for torch's CPU build ($(sed -n 's/^\(torch==[^ ]*+cpu\) .*/\1/p' requirements/torch-cpu.lock),\
 $("$venv/bin/python" --version), $(uname -sm))." \
        "That build is not on PyPI. Do one of these:" \
        "- name PyTorch's own package index for CPU builds. PyTorch's install page shows its address behind --index-url" \
        "  (Stable, Linux, Pip, Python, CPU):     PIP_EXTRA_INDEX_URL=<that address> make setup" \
        "- name a folder that holds the wheel:    PIP_FIND_LINKS=<folder> make setup" \
        "- take the CUDA build from PyPI, several gigabytes larger; it runs on a CPU too:    TORCH=cuda make setup" \
        "There are builds for Linux with glibc 2.28 or later (x86-64, aarch64) and for macOS 14 or later (Apple silicon)."
}

case $(uname -s) in
    Linux | Darwin) ;;
    *) fail "noisefold runs on Linux and macOS, and this is $(uname -s)." "On Windows, use WSL 2." ;;
esac
[[ $(uname -s) == Darwin ]] && build=cpu # there is no CUDA
echo "Installing the locked dependencies into $venv (torch: $build); this takes a few minutes once."
if [[ -x $venv/bin/python ]]; then
    "$venv/bin/python" -c "$supported" ||
        fail "$venv was made with $("$venv/bin/python" --version), and noisefold needs Python 3.11, 3.12 or 3.13." \
            "Remove $venv, then run this again."
else
    python=$(python_for_venv)
    "$python" -m venv "$venv"
fi
install_torch
# --no-deps: the locks name every package. Left to resolve, pip looks past the pin of a package that another one wants
# with an extra (coverage[toml]), and refuses the lock from the day that package has a newer release.
install --require-hashes -r requirements/base.lock
install --no-build-isolation --no-index -e .
"$venv/bin/python" -m pip check
