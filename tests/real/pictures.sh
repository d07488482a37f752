#!/usr/bin/env bash
# Runs the demo of the lavaproxy that the argument names on free ports, and takes the README's pictures of its pages.
set -eu

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bash "$root/tests/real/install.sh" browser

work=$(mktemp -d)
trap 'kill "$demo" 2>/dev/null || true; rm -rf "$work"' EXIT
env -i PROXY_HOST=127.0.0.1 PROXY_PORT=0 WEB_PORT=0 "$1" --demo >"$work/out" 2>/dev/null &
demo=$!
until grep -q '^Look at' "$work/out"; do
  kill -0 "$demo"
  sleep 0.1
done
# Until bots have come and gone.
sleep 60
BASE_URL=$(sed -n 's|^Look at *\(http://[^/]*/\).*|\1|p' "$work/out") \
  node "$root/tests/real/browser/pictures.mjs" "$root/.github"
du -ch "$root"/.github/*.webp
