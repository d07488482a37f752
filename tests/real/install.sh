#!/usr/bin/env bash
# Installs the real bot libraries that the tests put through the proxy, and what drives a browser over the web
# pages, as pinned beside this script, into target/real (never into the source tree):
#   target/real/node            node_modules for tests/real/node/*.mjs
#   target/real/browser         node_modules for tests/real/browser/pages.mjs, which drives the system's Chromium
#   target/real/python/<name>   a virtual environment for each requirements-<name>.txt
# Each has a file `installed` that holds the checksum of what it was installed from: a second run does nothing.
# A missing runtime is a visible skip on a laptop and a failure where CI is set.
set -eu

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$(cd "$here/../.." && pwd)/target/real
mkdir -p "$target"

# Two test programs may ask for the libraries at the same moment.
if command -v flock >/dev/null; then
  exec 9>"$target/lock"
  flock 9
fi

missing() {
  echo "skipped: $1"
  if [ -n "${CI:-}" ]; then exit 1; fi
}

checksum() { cat "$@" | cksum; }

# What an npm lock file beside this script names.
install_npm() {
  local name=$1 what=$2 dir=$target/$1 from=$here/$1 stamp
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    missing "$what needs node 20 or newer and npm (Debian: apt-get install nodejs npm)"
    return
  fi
  if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
    missing "$what needs node 20 or newer, this is $(node --version)"
    return
  fi
  stamp="$(checksum "$from/package.json" "$from/package-lock.json" "$from/.npmrc") node $(node --version)"
  if [ "$(cat "$dir/installed" 2>/dev/null)" = "$stamp" ]; then return; fi
  rm -rf "$dir"
  mkdir -p "$dir"
  cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$dir"
  (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  echo "$stamp" >"$dir/installed"
  echo "installed: $dir"
}

install_browser() {
  if ! command -v chromium >/dev/null; then
    rm -f "$target/browser/installed"
    missing "the test of the web pages needs Chromium (Debian: apt-get install chromium)"
    return
  fi
  install_npm browser "the test of the web pages"
}

install_python() {
  local name=$1 dir=$target/python/$1 from=$here/python/requirements-$1.txt build=$here/python/requirements-build.txt stamp
  if ! command -v python3 >/dev/null; then
    missing "the Python bot libraries ($name) need python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
    return
  fi
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    missing "the Python bot libraries ($name) need python 3.11 or newer, this is $(python3 --version)"
    return
  fi
  if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    missing "the Python bot libraries ($name) need python's venv (Debian: apt-get install python3-venv)"
    return
  fi
  stamp="$(checksum "$build" "$from") $(python3 --version)"
  if [ "$(cat "$dir/installed" 2>/dev/null)" = "$stamp" ]; then return; fi
  rm -rf "$dir"
  python3 -m venv "$dir"
  local pip=("$dir/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes)
  "${pip[@]}" -r "$build"
  "${pip[@]}" --use-pep517 --no-build-isolation -r "$from"
  echo "$stamp" >"$dir/installed"
  echo "installed: $dir"
}

install_npm node "the Node bot libraries' test"
install_browser
install_python v4
install_python wavelink1
