#!/usr/bin/env bash
# Warren beside RabbitMQ (Debian's rabbitmq-server) on this machine, in one run, with the same client program: three nodes each,
# runs alternating, medians and ratios. Usage: benches/compare.sh [RUNS]   (default 3)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${1:-3}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/warren/target}
warren=$CARGO_TARGET_DIR/release/warren
work=$(mktemp -d)
BROKER_NICE=0
warren_pids=()
fail() { echo "compare.sh: $*" >&2; exit 1; }
# shellcheck source=benches/rabbitmq.sh
. benches/rabbitmq.sh

warren_start() {
    local node seeds=127.0.0.1:35601,127.0.0.1:35602,127.0.0.1:35603
    for node in 1 2 3; do
        "$warren" server --data-dir "$work/warren/$node" --node-name "n$node" --amqp-listen "127.0.0.1:3550$node" \
            --cluster-listen "127.0.0.1:3560$node" --cluster-advertise "127.0.0.1:3560$node" \
            --http-listen "127.0.0.1:3570$node" --metrics-listen none --seeds "$seeds" --expect 3 \
            >"$work/warren-$node.log" 2>&1 </dev/null &
        warren_pids+=($!)
    done
    for node in 1 2 3; do
        for _ in $(seq 150); do
            curl -fs "http://127.0.0.1:3570$node/api/health/checks/ready-to-serve-clients" >/dev/null && continue 2
            sleep 0.2
        done
        fail "Warren's node $node is not ready: see $work/warren-$node.log"
    done
}

finish() {
    local pid
    for pid in "${warren_pids[@]}"; do kill "$pid" 2>/dev/null; done
    wait "${warren_pids[@]}" 2>/dev/null
    [ -z "${rabbitmq_epmd_pid:-}" ] || rabbitmq_stop
    rm -rf "$work"
}
trap finish EXIT

joined() { local IFS=,; echo "$*"; }

# one WHO NAME ARGUMENTS...: one run, a JSON line in $work/NAME.WHO
one() {
    local who=$1 name=$2 uris pids
    shift 2
    if [ "$who" = warren ]; then
        uris=amqp://guest:guest@127.0.0.1:35501,amqp://guest:guest@127.0.0.1:35502,amqp://guest:guest@127.0.0.1:35503
        pids=$(joined "${warren_pids[@]}")
    else
        uris=$(rabbitmq_uris)
        pids=$(joined "${rabbitmq_pids[@]}")
    fi
    timeout 120 "$warren" bench run -q --output json --uris "$uris" --pids "$pids" --queue-prefix "$name" "$@" >>"$work/$name.$who" ||
        echo "compare.sh: $name with $who ended with status $?" >&2
}

# both NAME WARREN_MESSAGES RABBITMQ_MESSAGES ARGUMENTS...
both() {
    local name=$1 ours=$2 theirs=$3 run
    shift 3
    for run in $(seq "$runs"); do
        echo "$name: run $run of $runs" >&2
        one warren "$name" --messages "$ours" "$@"
        one rabbitmq "$name" --messages "$theirs" "$@"
    done
    python3 - "$name" "$work/$name.warren" "$work/$name.rabbitmq" <<'P'
import json, statistics, sys
name, *files = sys.argv[1:]
def figures(path):
    rows = [json.loads(line) for line in open(path) if line.strip()]
    def find(tree, *path):
        for key in path: tree = tree.get(key) if isinstance(tree, dict) else None
        return tree
    median = lambda *path: statistics.median([v for r in rows if (v := find(r, *path)) is not None] or [float("nan")])
    return {"rate": median("rates", "delivered"), "cpu": median("broker", "cpu_us_per_message"), "confirm": median("confirm_ms", "p50")}
try:
    ours, theirs = map(figures, files)
    print(f"| {name} | {ours['rate']:,.0f} | {theirs['rate']:,.0f} | {ours['rate']/theirs['rate']:.1f} | {ours['cpu']:.0f} | {theirs['cpu']:.0f} | {theirs['cpu']/ours['cpu']:.1f} | {ours['confirm']:.1f} | {theirs['confirm']:.1f} |")
except (OSError, ValueError, ZeroDivisionError) as error:
    print(f"| {name} | no figures: {error} |")
P
}

cargo build --release --locked -q -p warren || fail "Warren does not build"
rabbitmq_install || fail "rabbitmq-server cannot be had"
warren_start
rabbitmq_start 3
echo "$(date -u +%F), $(nproc) cores, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | sed 's/^ *//'), load $(cut -d' ' -f1 /proc/loadavg)"
echo "| work | Warren msg/s | RabbitMQ msg/s | ratio | Warren CPU us/msg | RabbitMQ CPU us/msg | ratio | Warren confirm p50 ms | RabbitMQ confirm p50 ms |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
replicated=(--queue-type quorum --persistent --ack manual)
both r3-1KiB-window-1000 200000 40000 "${replicated[@]}" --size 1024 --confirm-window 1000
both r3-16B-window-1000 200000 40000 "${replicated[@]}" --size 16 --confirm-window 1000
both r3-1KiB-16-queues 200000 40000 "${replicated[@]}" --size 1024 --queues 16 --producers 4 --consumers 16 --confirm-window 1000
both r3-1KiB-window-1 2000 1000 "${replicated[@]}" --size 1024 --confirm-window 1
