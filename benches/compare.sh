#!/usr/bin/env bash
# Warren beside RabbitMQ (Debian's rabbitmq-server) on this machine, in one run, with the same client: first three nodes each,
# then one node each, runs alternating; prints medians, their spread and ratios. See benches/README.md.
#
# Usage: benches/compare.sh [--runs N] [--seconds S] [--cases PATTERN] [--brokers "warren rabbitmq"] [--results DIR]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

usage() { sed -n '5s/^# //p' benches/compare.sh; }
fail() { echo "compare.sh: $*" >&2; exit 1; }

runs=3 seconds=8 cases='*' brokers=(warren rabbitmq) results=
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
BROKER_NICE=${BROKER_NICE:-0}
work=$(mktemp -d)
results=${results:-$work/results}
mkdir -p "$results"
# shellcheck source=benches/warren.sh
. benches/warren.sh
# shellcheck source=benches/rabbitmq.sh
. benches/rabbitmq.sh

finish() {
    trap - EXIT INT TERM
    warren_stop
    rabbitmq_stop
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

joined() { local IFS=,; echo "$*"; }

# one BROKER NAME ARGUMENTS...: one run, a line of JSON in $results/NAME.BROKER.
one() {
    local broker=$1 name=$2
    local -n pids=${broker}_pids
    shift 2
    # In $@, NODE1, NODE2, ... stand for one node's address.
    local uris argument arguments=() all
    all=$("${broker}_uris")
    IFS=, read -ra uris <<<"$all"
    for argument in "$@"; do
        case $argument in
        NODE[0-9]) arguments+=("${uris[${argument#NODE} - 1]}") ;;
        *) arguments+=("$argument") ;;
        esac
    done
    [[ " $* " == *" --uris "* ]] || arguments+=(--uris "$all")
    timeout $((seconds * 10 + 60)) "$bench" bench run --quiet --output json --label "$name $broker" --pids "$(joined "${pids[@]}")" \
        --queue-prefix "compare-$name" --warmup 2 --patience 20 "${arguments[@]}" >>"$results/$name.$broker"
    local status=$?
    [ $status = 0 ] || echo "compare.sh: $name with $broker ended with status $status" >&2
}

# case_ NAME ARGUMENTS...: all runs of one row of the table, the brokers in turn.
case_() {
    local name=$1 run broker
    shift
    # shellcheck disable=SC2053
    [[ $name == $cases ]] || return 0
    for run in $(seq "$runs"); do
        for broker in "${brokers[@]}"; do
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

if [ ! -x "$bench" ] || [ -z "${WARREN_BIN:-}${WARREN_BENCH:-}" ]; then
    cargo build --release --locked -q -p warren || fail "Warren does not build"
fi
command -v python3 >/dev/null || fail "python3 is needed to add up"
for broker in "${brokers[@]}"; do
    case $broker in
    warren) ;;
    rabbitmq) rabbitmq_install || fail "rabbitmq-server cannot be had (apt-get install, as root)" ;;
    *) fail "no broker is called $broker" ;;
    esac
done

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

if any r3-{1KiB,1KiB-clients-elsewhere,16B,100KiB,16-queues,window-1,window-1-100-publishers,1000-a-second,fanout-10}; then
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
    case_ r3-fanout-10 "${quorum[@]}" --uris NODE1 --exchange fanout --queues 10 --consumers 10
    stop
fi
if any one-{1KiB,16B,window-1,transient-automatic}; then
    start 1
    case_ one-1KiB "${confirmed[@]}"
    case_ one-16B "${confirmed[@]}" --size 16
    case_ one-window-1 "${confirmed[@]}" --confirm-window 1
    case_ one-transient-automatic --seconds "$seconds" --no-confirms --ack auto --prefetch 0
    stop
fi
