#!/usr/bin/env bash
# Runs one part of `make test`, tells how long it took, and at the end the minutes of each against its budget.
set -euo pipefail
target="${CARGO_TARGET_DIR:-target}"
mkdir -p "$target"
times="$target/parts.tsv"
declare -A budget=([install]=6 [format]=1 [build]=14 [clippy]=14 [lean]=3 [world]=4 [e2e]=12 [docs]=2)
case "$1" in
  start) : > "$times"; exit 0 ;;
  finish)
    printf '\n%-10s %8s %8s\n' part minutes budget
    while IFS=$'\t' read -r part seconds; do
      printf '%-10s %8s %8s\n' "$part" "$(awk "BEGIN { printf \"%.1f\", $seconds / 60 }")" "${budget[$part]:--}"
    done < "$times"
    awk -F'\t' '{ s += $2 } END { printf "%-10s %8.1f\n", "all", s / 60 }' "$times"
    exit 0 ;;
esac
part="$1"; shift
printf '── %s: %s\n' "$part" "$*"
begun=$(date +%s)
"$@"
printf '%s\t%s\n' "$part" "$(($(date +%s) - begun))" >> "$times"
