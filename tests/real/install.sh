#!/usr/bin/env bash
# Installs one environment that tests need, as pinned beside this script, into target/real (never into the source
# tree): tests/real/install.sh ENVIRONMENT
#   node            node_modules for tests/real/node/*.mjs, the Node bot libraries
#   browser         node_modules for tests/real/browser/pages.mjs, which drives the system's Chromium
#   python/<name>   a virtual environment for requirements-<name>.txt: the Python bot libraries, the schemas of Kubernetes
# Each has a file `installed` that holds the checksum of what it was installed from: a second run does nothing.
# Where the runtime is missing this says which on standard output, and exits with 3.
set -eu

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=$root/target/real
mkdir -p "$target"

# Several test programs may ask for an environment at the same moment.
if command -v flock >/dev/null; then
  exec 9>"$target/lock-${1//\//-}"
  flock 9
fi

missing() {
  echo "$1"
  exit 3
}

checksum() { cat "$@" | cksum; }

# What an npm lock file beside this script names.
install_npm() {
  local name=$1 what=$2 dir=$target/$1 from=$here/$1 stamp
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    missing "$what need node 20 or newer and npm (apt-get install nodejs npm)"
  fi
  if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
    missing "$what need node 20 or newer, this is $(node --version)"
  fi
  stamp="$(checksum "$from/package.json" "$from/package-lock.json" "$from/.npmrc") node $(node --version)"
  if [ "$(cat "$dir/installed" 2>/dev/null)" = "$stamp" ]; then return; fi
  rm -rf "$dir"
  mkdir -p "$dir"
  cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$dir"
  echo "installing $what into ${dir#"$root/"}, once" >&2
  (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
  echo "$stamp" >"$dir/installed"
}

install_browser() {
  if ! command -v chromium >/dev/null; then
    missing "the tests of the web pages need Chromium (apt-get install chromium)"
  fi
  install_npm browser "the tests of the web pages"
}

install_python() {
  local dir=$target/python/$1 from=$here/python/requirements-$1.txt stamp
  local build=$here/python/requirements-build.txt what="the Python packages ($1)"
  if ! command -v python3 >/dev/null; then
    missing "$what need python 3.11 or newer (apt-get install python3 python3-venv)"
  fi
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    missing "$what need python 3.11 or newer, this is $(python3 --version)"
  fi
  if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    missing "$what need python's venv (apt-get install python3-venv)"
  fi
  stamp="$(checksum "$build" "$from") $(python3 --version)"
  if [ "$(cat "$dir/installed" 2>/dev/null)" = "$stamp" ]; then return; fi
  rm -rf "$dir"
  echo "installing $what into ${dir#"$root/"}, once" >&2
  python3 -m venv "$dir"
  local pip=("$dir/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes)
  "${pip[@]}" -r "$build" >&2
  "${pip[@]}" --use-pep517 --no-build-isolation -r "$from" >&2
  echo "$stamp" >"$dir/installed"
}

case $1 in
  node) install_npm node "the Node bot libraries" ;;
  browser) install_browser ;;
  python/*) install_python "${1#python/}" ;;
  *)
    echo "no such environment: $1" >&2
    exit 2
    ;;
esac
