#!/usr/bin/env bash
# Prints call events without a broker, from the edge's admin port: sse_calls.sh [http://127.0.0.1:8060] [position file]
# It goes on where it ended: the position of the last event done with is kept in the file.
set -euo pipefail
url="${1:-http://127.0.0.1:8060}" place="${2:-sse_calls.position}"
while :; do # an edge that restarts, or a slow reader, ends the connection: connect again
  curl -sSN -H "Last-Event-ID: $(cat "$place" 2>/dev/null)" "$url/events?domain=call" | {
    id='' notice=''
    while IFS= read -r line; do
      case "$line" in
        'id: '*) id=${line#id: } ;;
        'event: '*) notice=${line#event: } ;; # reset, gap or slow: not an event of a call
        'data: '*) [ -z "$notice" ] && jq -r '[.id, .type, .tenantid, .subject] | join(" ")' <<<"${line#data: }" || echo "$line" >&2 ;;
        '') # the end of a block; its position may also come without an event
          [ -n "$id" ] && printf '%s' "$id" > "$place.new" && mv "$place.new" "$place"
          notice='' ;;
      esac
    done
  } || true
  sleep 1
done
