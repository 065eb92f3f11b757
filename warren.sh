#!/usr/bin/env bash
# Everything a person types: see `./warren.sh help`.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${WARREN_CACHE:-$HOME/.cache/warren}
export WARREN_CACHE=$CACHE
# Outside the clone, so that a fresh clone does not build every dependency again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
RUN=$ROOT/.warren
NODES=3
SEEDS=127.0.0.1:25672,127.0.0.1:25673,127.0.0.1:25674
cd "$ROOT"

say() { printf '%s\n' "$*"; }
die() { printf 'warren.sh: %s\n' "$*" >&2; exit 1; }
amqp_port() { echo $((5671 + $1)); }
http_port() { echo $((15671 + $1)); }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs root (or sudo) for: $*"
    fi
}

# Installs what is missing of these Debian packages.
need_packages() {
    command -v dpkg-query >/dev/null || die "this script installs Debian packages; install these by hand: $*"
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

need_cargo() {
    [ -x "$HOME/.cargo/bin/cargo" ] && export PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null || die "cargo is missing: install a Rust toolchain (https://rustup.rs)"
    need_packages librocksdb-dev libclang-dev g++ pkg-config
}

# need_venv NAME REQUIREMENTS: a Python environment, made again when the requirements change.
need_venv() {
    local venv=$CACHE/$1 requirements=$ROOT/tests/$2
    cmp -s "$requirements" "$venv/installed.txt" && return 0
    local python=python3
    "$python" -c 'import venv, ensurepip' 2>/dev/null || need_packages python3 python3-venv
    say "making $venv"
    # Over one that another Python made, the two would be mixed.
    "$python" -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/installed.txt"
}

pid_of() {
    local pid
    pid=$(cat "$RUN/$1.pid" 2>/dev/null) || return 1
    # A pid can be given to another process later.
    grep -qz 'warren' "/proc/$pid/cmdline" 2>/dev/null || return 1
    echo "$pid"
}

ready() { curl -fs -m 2 "http://127.0.0.1:$(http_port "$1")/api/health/checks/ready-to-serve-clients" >/dev/null; }

start_node() {
    local node=$1 offset=$(($1 - 1))
    pid_of "$node" >/dev/null && return 0
    local port
    for port in $((5672 + offset)) $((25672 + offset)) $((15672 + offset)) $((15692 + offset)); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            die "port $port is in use by another program: stop that first"
        fi
    done
    mkdir -p "$RUN/$node"
    # What the nodes know each other by.
    [ -s "$RUN/cluster.secret" ] || (umask 077 && head -c 32 /dev/urandom | base64 >"$RUN/cluster.secret")
    nohup "$CARGO_TARGET_DIR/release/warren" server --data-dir "$RUN/$node" --node-name "warren-$node" \
        --amqp-listen "127.0.0.1:$((5672 + offset))" \
        --cluster-listen "127.0.0.1:$((25672 + offset))" --cluster-advertise "127.0.0.1:$((25672 + offset))" \
        --cluster-secret-file "$RUN/cluster.secret" \
        --http-listen "127.0.0.1:$((15672 + offset))" --metrics-listen "127.0.0.1:$((15692 + offset))" \
        --seeds "$SEEDS" --expect "$NODES" </dev/null >>"$RUN/$node.log" 2>&1 &
    echo $! >"$RUN/$node.pid"
}

up() {
    need_cargo
    need_packages curl
    need_venv venv requirements.txt
    say "building (the first time takes some minutes)"
    cargo build --release --locked -p warren
    local node waited
    for node in $(seq "$NODES"); do start_node "$node"; done
    for node in $(seq "$NODES"); do
        waited=0
        until ready "$node"; do
            pid_of "$node" >/dev/null || { tail -n 20 "$RUN/$node.log" >&2; die "node $node ended: see $RUN/$node.log"; }
            waited=$((waited + 1))
            [ "$waited" -lt 300 ] || die "node $node is not ready after a minute: see $RUN/$node.log"
            [ $((waited % 25)) -ne 0 ] || say "waiting for node $node"
            sleep 0.2
        done
    done
    "$CACHE/venv/bin/python" "$ROOT/tests/first_messages.py" "$(amqp_port 1)" "$(amqp_port 2)" "$(amqp_port 3)"
    say "Three nodes are running. Connect with amqp://guest:guest@127.0.0.1:PORT, any of the ports 5672, 5673, 5674."
    say "HTTP API: http://127.0.0.1:15672/api/overview (guest/guest). Logs and data: $RUN"
    say "Look: ./warren.sh status    Stop: ./warren.sh down"
}

down() {
    local node pid pids=()
    for node in $(seq "$NODES"); do
        pid=$(pid_of "$node") || continue
        pids[node]=$pid
        kill "$pid"
    done
    for node in "${!pids[@]}"; do
        pid=${pids[node]}
        for _ in $(seq 300); do
            [ -d "/proc/$pid" ] || break
            sleep 0.1
        done
        [ ! -d "/proc/$pid" ] || die "node $node (pid $pid) does not stop"
        say "node $node stopped"
        rm -f "$RUN/$node.pid"
    done
}

status() {
    local node up=0
    for node in $(seq "$NODES"); do
        if pid_of "$node" >/dev/null; then up=$((up + 1)); fi
    done
    say "$up of $NODES nodes are running"
    for node in $(seq "$NODES"); do
        if pid_of "$node" >/dev/null && ready "$node"; then
            exec "$CARGO_TARGET_DIR/release/warren" status --node "http://127.0.0.1:$(http_port "$node")"
        fi
    done
    [ "$up" = "$NODES" ]
}

FAILED=()
SUMMARY=()
# step NAME COMMAND...: runs it, remembers how it ended.
step() {
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        SUMMARY+=("ok      $((SECONDS - began)) s  $name")
    else
        SUMMARY+=("FAILED  $((SECONDS - began)) s  $name")
        FAILED+=("$name")
    fi
}

suites() {
    WARREN_BIN=$CARGO_TARGET_DIR/debug/warren "$CACHE/venv/bin/python" -m pytest -c "$ROOT/tests/pytest.ini" --rootdir "$ROOT/tests" -q "$@"
}

need_node_client() {
    command -v node >/dev/null || need_packages nodejs npm
    command -v npm >/dev/null || need_packages npm
    local folder=$CACHE/amqplib
    mkdir -p "$folder"
    cmp -s "$ROOT/tests/interop/amqplib/package-lock.json" "$folder/package-lock.json" && [ -d "$folder/node_modules" ] && return 0
    cp "$ROOT/tests/interop/amqplib/package.json" "$ROOT/tests/interop/amqplib/package-lock.json" "$folder/"
    (cd "$folder" && npm ci --silent --no-audit --no-fund)
}

run_tests() {
    need_cargo
    need_packages curl amqp-tools openssl
    need_venv venv requirements.txt
    need_venv venv-pika-0.13 requirements-pika-0.13.txt
    need_venv venv-pika-0.10 requirements-pika-0.10.txt
    need_node_client
    step "formatting" cargo fmt --all --check
    step "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
    step "the crates' tests" cargo test --locked --workspace --no-fail-fast
    step "the binary" cargo build --locked -p warren
    step "the checker of tests/chaos" suites "tests/chaos"
    step "the sums of benches" suites "benches"
    local suite
    for suite in conformance tutorials interop cluster; do
        step "tests/$suite" suites "tests/$suite"
    done
    printf '\n== summary\n'
    printf '%s\n' "${SUMMARY[@]}"
    printf '%s passed, %s failed\n' "$((${#SUMMARY[@]} - ${#FAILED[@]}))" "${#FAILED[@]}"
    [ ${#FAILED[@]} -eq 0 ]
}

check() {
    need_cargo
    step "formatting" cargo fmt --all --check
    step "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
    [ ${#FAILED[@]} -eq 0 ]
}

clean() {
    down
    rm -rf "$RUN"
    say "removed $RUN"
}

bench() {
    need_cargo
    cargo build --release --locked -p warren
    exec "$CARGO_TARGET_DIR/release/warren" bench "$@"
}

# chaos [SCENARIO...] [--seconds N] [--seed N]: breaks clusters on purpose and judges what clients saw.
chaos() {
    need_cargo
    need_packages curl iproute2 nftables e2fsprogs gcc libc6-dev
    [ -n "$(ls /usr/lib/*/faketime/libfaketimeMT.so.1 2>/dev/null)" ] || need_packages libfaketime
    need_venv venv requirements.txt
    [ -n "${WARREN_BIN:-}" ] || cargo build --locked -p warren
    ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
    cd "$ROOT/tests"
    # Namespaces and loop devices need root.
    local run=()
    [ "$(id -u)" = 0 ] || ! command -v sudo >/dev/null || run=(sudo)
    "${run[@]}" env WARREN_BIN="${WARREN_BIN:-$CARGO_TARGET_DIR/debug/warren}" WARREN_OLD_BIN="${WARREN_OLD_BIN:-}" \
        "$CACHE/venv/bin/python" -m chaos "$@"
}

# overload [--full] [-k NAME]: floods, hoards and hostile octets.
overload() {
    need_cargo
    need_packages curl openssl
    need_venv venv requirements.txt
    [ -n "${WARREN_BIN:-}" ] || cargo build --locked -p warren
    ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
    WARREN_BIN=${WARREN_BIN:-$CARGO_TARGET_DIR/debug/warren} "$CACHE/venv/bin/python" -m pytest -c "$ROOT/tests/pytest.ini" \
        --rootdir "$ROOT/tests" -q tests/overload "$@"
}

fuzz() {
    need_cargo
    cargo build --locked -p warren-fuzz
    exec "$CARGO_TARGET_DIR/debug/warren-fuzz" "$@"
}

# simulate [--seconds N] [--seed N] [--jobs N]: whole clusters in one thread, from seeds; `simulate run --seed N --trace` is one again.
simulate() {
    need_cargo
    cargo build --locked -p warren-simulation
    exec "$CARGO_TARGET_DIR/debug/warren-simulation" "$@"
}

usage() {
    cat <<'TEXT'
./warren.sh up       install what is missing, build, start three nodes here, send and receive first messages
./warren.sh status   how the three nodes are
./warren.sh down     stop them
./warren.sh clean    stop them and remove their data
./warren.sh test     all tests (formatting, clippy, crates, real clients against real clusters)
./warren.sh check    formatting and clippy only
./warren.sh chaos    break clusters on purpose and judge what clients saw: ./warren.sh chaos --list (needs root)
./warren.sh overload floods, hoards and hostile octets against clusters: ./warren.sh overload [--full] [-k NAME]
./warren.sh fuzz     hostile octets for all decoders: ./warren.sh fuzz --seconds 60
./warren.sh simulate whole clusters in one thread, each from a seed: ./warren.sh simulate --seconds 300 [--seed N]
./warren.sh bench    the load generator: ./warren.sh bench run --help
TEXT
}

case ${1:-help} in
    up) up ;;
    down) down ;;
    status) status ;;
    test) run_tests ;;
    check) check ;;
    clean) clean ;;
    bench) shift; bench "$@" ;;
    chaos) shift; chaos "$@" ;;
    overload) shift; overload "$@" ;;
    fuzz) shift; fuzz "$@" ;;
    simulate) shift; simulate "$@" ;;
    help | -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
