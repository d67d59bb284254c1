#!/usr/bin/env bash
# Prints call events from NATS JetStream with nothing but bash and jq: nats_calls.sh [host] [port] [how many]
set -euo pipefail
exec 3<>"/dev/tcp/${1:-127.0.0.1}/${2:-4222}"
inbox="_INBOX.shell$$"
wanted=$(printf '{"stream_name":"SIGNALBOX_CALL","config":{"deliver_subject":"%s.events","ack_policy":"none",
"deliver_policy":"all","filter_subject":"signalbox.v1.call.>","inactive_threshold":30000000000}}' "$inbox" | tr -d '\n')
say() { printf '%s\r\n' "$@" >&3; }
say 'CONNECT {"verbose":false,"headers":true,"no_responders":true}' "SUB $inbox.events 1" "SUB $inbox.created 2" \
  "PUB \$JS.API.CONSUMER.CREATE.SIGNALBOX_CALL $inbox.created ${#wanted}" "$wanted"
left="${3:-0}"
while IFS= read -r line <&3; do
  line=${line%$'\r'}
  case "$line" in
    PING) say PONG ;;
    '{"specversion"'*) # an event is one line of JSON; it may come twice: (source, sequence) is its identity
      jq -r '[.id, .type, .tenantid, .subject] | join(" ")' <<<"$line"
      [ $((--left)) = 0 ] && break ;;
    -ERR* | *'"error":'*) echo "$line" >&2; exit 1 ;;
  esac
done
