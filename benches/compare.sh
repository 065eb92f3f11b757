#!/usr/bin/env bash
# Warren beside RabbitMQ and NATS (Debian's rabbitmq-server and nats-server) on this machine, in one run, with the same load:
# first three nodes each, then one node each, runs alternating; then, each alone, how much they hold. Prints medians, their
# spread and ratios. See benches/README.md.
#
# Usage: benches/compare.sh [--runs N] [--seconds S] [--cases PATTERN] [--brokers "warren rabbitmq nats"] [--results DIR]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

usage() { sed -n '6s/^# //p' benches/compare.sh; }
fail() { echo "compare.sh: $*" >&2; exit 1; }

runs=3 seconds=10 cases='*' brokers=() results=
while [ $# -gt 0 ]; do
    case $1 in
    --runs) runs=$2 ;;
    --seconds) seconds=$2 ;;
    --cases) cases=$2 ;;
    --brokers) read -ra brokers <<<"$2" ;;
    --results) results=$2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift 2 || { usage >&2; exit 2; }
done

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/warren/target}
warren=${WARREN_BIN:-$CARGO_TARGET_DIR/release/warren}
# The load's own program, when it is to be another build than the broker.
bench=${WARREN_BENCH:-$warren}
# NATS has a program of its own, which is not part of the shipped one.
bench_nats=${WARREN_BENCH_NATS:-$CARGO_TARGET_DIR/release/warren-bench-nats}
BROKER_NICE=${BROKER_NICE:-0}
work=$(mktemp -d)
results=${results:-$work/results}
mkdir -p "$results"
# shellcheck source=benches/warren.sh
. benches/warren.sh
# shellcheck source=benches/rabbitmq.sh
. benches/rabbitmq.sh
# shellcheck source=benches/nats.sh
. benches/nats.sh
# shellcheck source=benches/scale.sh
. benches/scale.sh

finish() {
    trap - EXIT INT TERM
    warren_stop
    rabbitmq_stop
    nats_stop
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

joined() { local IFS=,; echo "$*"; }

# load_of BROKER ARRAY: the program that loads it, into ARRAY.
load_of() {
    local -n program=$2
    # shellcheck disable=SC2034 # the caller's
    case $1 in
    nats) program=("$bench_nats") ;;
    *) program=("$bench" bench) ;;
    esac
}

# one BROKER NAME ARGUMENTS...: one run, a line of JSON in $results/NAME.BROKER.
one() {
    local broker=$1 name=$2
    local -n pids=${broker}_pids
    shift 2
    # In $@, NODE1, NODE2, ... stand for one node's address.
    local uris argument arguments=() all
    local -a load
    load_of "$broker" load
    all=$("${broker}_uris")
    IFS=, read -ra uris <<<"$all"
    for argument in "$@"; do
        case $argument in
        NODE[0-9]) arguments+=("${uris[${argument#NODE} - 1]}") ;;
        *) arguments+=("$argument") ;;
        esac
    done
    [[ " $* " == *" --uris "* ]] || arguments+=(--uris "$all")
    local before after line=$work/line
    before=$(device_written)
    timeout $((seconds * 10 + 60)) "${load[@]}" run --quiet --output json --label "$name $broker" --pids "$(joined "${pids[@]}")" \
        --queue-prefix "compare-$name" --warmup 2 --patience 20 "${arguments[@]}" >"$line"
    local status=$?
    after=$(device_written)
    python3 benches/summarize.py device "$((after - before))" <"$line" >>"$results/$name.$broker"
    [ $status = 0 ] || echo "compare.sh: $name with $broker ended with status $status" >&2
}

# device_written: bytes that the disk under the nodes' directories has taken so far, once all that waited for it is there.
device_written() {
    local device written=0
    sync -f "$work"
    device=/sys/dev/block/$(stat -c '%Hd:%Ld' "$work")/stat
    # Where there is no such disk (a file system in memory) it stays at 0.
    [ -r "$device" ] && written=$(awk '{ printf "%.0f", $7 * 512 }' "$device")
    echo "$written"
}

# case_ NAME ARGUMENTS...: all runs of one case, the brokers in turn, except one that is called $without.
case_() {
    local name=$1 run broker
    shift
    # shellcheck disable=SC2053
    [[ $name == $cases ]] || return 0
    for run in $(seq "$runs"); do
        for broker in "${brokers[@]}"; do
            [ "$broker" != "${without:-}" ] || continue
            echo "$name: $broker, run $run of $runs" >&2
            one "$broker" "$name" "$@"
            sleep 0.5
        done
    done
    python3 benches/summarize.py row "$name" "$results" "${brokers[@]}"
}

start() {
    local broker
    for broker in "${brokers[@]}"; do "${broker}_start" "$1"; done
    sleep 2
}

stop() {
    local broker
    for broker in "${brokers[@]}"; do "${broker}_stop"; done
}

command -v python3 >/dev/null || fail "python3 is needed to add up"
if [ ${#brokers[@]} = 0 ]; then
    brokers=(warren rabbitmq nats)
    nats_install || { echo "compare.sh: without NATS: nats-server cannot be had (apt-get install, as root)" >&2; brokers=(warren rabbitmq); }
fi
missing=()
[ -x "$bench" ] && [ -n "${WARREN_BIN:-}${WARREN_BENCH:-}" ] || missing+=(-p warren)
for broker in "${brokers[@]}"; do
    case $broker in
    warren) ;;
    rabbitmq) rabbitmq_install || fail "rabbitmq-server cannot be had (apt-get install, as root)" ;;
    nats)
        nats_install || fail "nats-server cannot be had (apt-get install, as root)"
        [ -n "${WARREN_BENCH_NATS:-}" ] || missing+=(-p warren-bench)
        ;;
    *) fail "no broker is called $broker" ;;
    esac
done
[ ${#missing[@]} = 0 ] || cargo build --release --locked -q "${missing[@]}" || fail "Warren does not build"
# Ten thousand connections need as many files at either end.
ulimit -n "$(ulimit -Hn)" 2>/dev/null

echo "$(date -u +%F), $(nproc) cores, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | sed 's/^ *//'), Linux $(uname -r)," \
    "load before $(cut -d' ' -f1 /proc/loadavg), $runs runs of $seconds s"
python3 benches/summarize.py head "${brokers[@]}"

# The last of a repeated option counts.
confirmed=(--persistent --durable --confirm-window 1000 --ack manual --seconds "$seconds")

# any NAME...: whether one of these cases was asked for.
any() {
    local name
    # shellcheck disable=SC2053
    for name in "$@"; do [[ $name == $cases ]] && return 0; done
    return 1
}

if any r3-{1KiB,1KiB-clients-elsewhere,16B,100KiB,16-queues,window-1,window-1-100-publishers,1000-a-second,10000-a-second,fanout-10}; then
    start 3
    quorum=(--queue-type quorum "${confirmed[@]}")
    case_ r3-1KiB "${quorum[@]}" --uris NODE1
    case_ r3-1KiB-clients-elsewhere "${quorum[@]}" --declare-uri NODE1 --uris NODE2 --consumer-uris NODE3
    case_ r3-16B "${quorum[@]}" --uris NODE1 --size 16
    case_ r3-100KiB "${quorum[@]}" --uris NODE1 --size 102400 --confirm-window 100 --prefetch 50
    case_ r3-16-queues "${quorum[@]}" --queues 16 --producers 4 --consumers 16
    case_ r3-window-1 "${quorum[@]}" --uris NODE1 --confirm-window 1
    case_ r3-window-1-100-publishers "${quorum[@]}" --uris NODE1 --confirm-window 1 --producers 100
    case_ r3-1000-a-second "${quorum[@]}" --uris NODE1 --rate 1000
    case_ r3-10000-a-second "${quorum[@]}" --uris NODE1 --rate 10000
    case_ r3-fanout-10 "${quorum[@]}" --uris NODE1 --exchange fanout --queues 10 --consumers 10
    stop
fi
if any one-{1KiB,16B,window-1,transient-automatic}; then
    start 1
    case_ one-1KiB "${confirmed[@]}"
    case_ one-16B "${confirmed[@]}" --size 16
    case_ one-window-1 "${confirmed[@]}" --confirm-window 1
    # NATS would lose such messages without saying so, or store them: neither is what a transient queue does.
    without=nats case_ one-transient-automatic --seconds "$seconds" --no-confirms --ack auto --prefetch 0
    stop
fi
scale r3-backlog warren rabbitmq nats
scale r3-queues warren rabbitmq
scale r3-connections warren rabbitmq nats
