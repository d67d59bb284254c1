#!/usr/bin/env bash
# Makes the secrets of a variant, once: compose/make-secrets.sh journal|nats|kafka|edges. What is there already stays.
# The directory is the owner's only; the files in it can be read by the containers' users, to whom they are mounted alone.
set -euo pipefail
umask 077
variant="${1:?usage: make-secrets.sh journal|nats|kafka|edges}"
dir="$(dirname "$0")/$variant/secrets"
[ -e "$(dirname "$0")/$variant/compose.yaml" ] || { echo "no variant is called $variant" >&2; exit 2; }
mkdir -p "$dir"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { # a file and its text
  [ -e "$dir/$1" ] || { printf '%s' "$2" > "$dir/$1"; chmod 0444 "$dir/$1"; echo "made $dir/$1"; }
}

keep grafana_password "$(random)"
case "$variant" in
  journal) ;;
  kafka) keep postgres_password "$(random)" ;;
  nats|edges)
    [ "$variant" = nats ] || keep cluster_key "$(random)"
    keep postgres_password "$(random)"
    keep nats_password "$(random)"
    keep nats_users.conf "users: [ { user: signalbox, password: \"$(cat "$dir/nats_password")\" } ]
"
    ;;
esac
