#!/usr/bin/env bash
# Runs one part of `make test`, tells how long it took, and at the end the minutes of each row against its budget.
set -euo pipefail
target="${CARGO_TARGET_DIR:-target}"
mkdir -p "$target"
times="$target/parts.tsv"
case "$1" in
  start) : > "$times"; exit 0 ;;
  finish)
    awk -F'\t' '
      BEGIN {
        split("build clippy lean", together, " ")
        for (i in together) row[together[i]] = "build and clippy"
        budget["install"] = 6; budget["format"] = 1; budget["build and clippy"] = 14
        budget["world"] = 4; budget["e2e"] = 12; budget["docs"] = 2
        printf "\n%-16s %8s %8s\n", "part", "minutes", "budget"
      }
      { name = $1 in row ? row[$1] : $1; if (!(name in seconds)) order[++rows] = name; seconds[name] += $2; all += $2 }
      END {
        for (i = 1; i <= rows; i++) {
          name = order[i]; minutes = seconds[name] / 60; over = name in budget && minutes > budget[name]
          printf "%-16s %8.1f %8s%s\n", name, minutes, name in budget ? budget[name] : "-", over ? "  OVER" : ""
        }
        printf "%-16s %8.1f\n", "all", all / 60
      }' "$times"
    exit 0 ;;
esac
part="$1"; shift
printf '── %s: %s\n' "$part" "$*"
begun=$(date +%s)
"$@"
printf '%s\t%s\n' "$part" "$(($(date +%s) - begun))" >> "$times"
