#!/usr/bin/env bash
# Prints call events from Kafka: kafka_calls.sh [127.0.0.1:9092] [how many]     (apt install kcat jq)
set -euo pipefail
kcat -C -q -J -b "${1:-127.0.0.1:9092}" -t signalbox.call.v1 -o beginning ${2:+-c "$2"} |
  jq -r --unbuffered '
    [.headers | _nwise(2) | { (.[0]): .[1] }] | add |
    [.ce_id, .ce_type, .ce_tenantid, .ce_subject] | join(" ")'
