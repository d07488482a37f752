#!/usr/bin/env bash
# A fleet on this machine, to look around: three pretend Lavalinks, three lavaproxies before them, HAProxy before those,
# without TLS. `make fleet` runs it. Ctrl-C stops all of them.
#   deploy/fleet/try.sh [LAVAPROXY]
set -eu
here=$(dirname "${BASH_SOURCE[0]}")
lavaproxy=${1:-$here/../../target/release/lavaproxy}
haproxy=$(PATH="$PATH:/usr/sbin" command -v haproxy) || { echo "there is no haproxy: apt-get install haproxy"; exit 1; }

started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait' EXIT
trap exit INT TERM

export LOG_LEVEL=warn
for number in 1 2 3; do
  # --demo is a Lavalink to whoever connects to it.
  PROXY_HOST=127.0.0.2$number PROXY_PORT=2333 WEB_HOST=127.0.0.2$number DEFAULT_VERSION=v4 \
    PROXY_PASSWORD=youshallnotpass "$lavaproxy" --demo >/dev/null &
  started+=($!)
  PROXY_HOST=127.0.0.1$number WEB_HOST=127.0.0.1$number "$lavaproxy" --env-file "$here/lavaproxy.env" &
  started+=($!)
  echo "lavaproxy$number: pid=$! pages=http://127.0.0.1$number:6980/"
done
"$haproxy" -db -f <(sed 's|bind :443 ssl .*|bind 127.0.0.1:6923|' "$here/haproxy.cfg") &
started+=($!)
echo "Bots connect to 127.0.0.1:6923. Try curl -s -H 'Authorization: what bots send' http://127.0.0.1:6923/v4/info"
wait
