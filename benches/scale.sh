# shellcheck shell=bash
# shellcheck disable=SC2154 # work, results and the brokers' functions are compare.sh's
# How much a broker holds: a backlog, many queues, many connections; and how soon it is back when all of its nodes were
# killed. Sourced by compare.sh. Each broker has the machine for itself, once, with a number that it ends with in bounded
# time; the figures are for each message, queue or connection, so they compare all the same.

BACKLOG_WARREN=${BACKLOG_WARREN:-1000000} BACKLOG_RABBITMQ=${BACKLOG_RABBITMQ:-100000} BACKLOG_NATS=${BACKLOG_NATS:-200000}
QUEUES_WARREN=${QUEUES_WARREN:-100000} QUEUES_RABBITMQ=${QUEUES_RABBITMQ:-500}
CONNECTIONS_WARREN=${CONNECTIONS_WARREN:-10000} CONNECTIONS_RABBITMQ=${CONNECTIONS_RABBITMQ:-10000} CONNECTIONS_NATS=${CONNECTIONS_NATS:-10000}

NODES=3
BODY=1024
# Clients that declare queues at once.
DECLARERS=8

# scale NAME BROKER...: the case NAME, in clusters of its own, with the brokers that it knows how to ask.
scale() {
    local name=$1 broker
    shift
    # shellcheck disable=SC2053
    [[ $name == $cases ]] || return 0
    for broker in "${brokers[@]}"; do
        [[ " $* " == *" $broker "* ]] || continue
        echo "$name: $broker" >&2
        "${broker}_start" "$NODES"
        sleep 2
        "${name//-/_}" "$broker" >"$results/$name.$broker" || echo "compare.sh: $name with $broker did not end well" >&2
        "${broker}_stop"
    done
    python3 benches/summarize.py row "$name" "$results" "${brokers[@]}"
}

# number NAME BROKER: how many of NAME (BACKLOG, QUEUES, CONNECTIONS) a broker gets.
number() { local variable=${1}_${2^^}; echo "${!variable}"; }

# rss BROKER: bytes of memory of all its processes.
rss() {
    local -n processes=${1}_pids
    local pid kib=0
    for pid in "${processes[@]}"; do kib=$((kib + $(awk '/^VmRSS:/ { print $2 }' "/proc/$pid/status"))); done
    echo $((kib * 1024))
}

now() { date +%s.%N; }
pids_of() { local -n processes=${1}_pids; joined "${processes[@]}"; }

# restart BROKER OUTPUT COMMAND...: kills all nodes at once, starts them, and runs COMMAND until it has found its broker.
# Afterwards `tried_s` is when the attempt that did began, and `done_s` when it ended, in seconds from the start.
restart() {
    local broker=$1 output=$2 pid began trying status
    local -n processes=${broker}_pids
    shift 2
    { kill -9 "${processes[@]}" && wait "${processes[@]}"; } 2>/dev/null
    for pid in "${processes[@]}"; do
        while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    done
    began=$(now)
    "${broker}_launch" "$NODES"
    for _ in $(seq 600); do
        trying=$(now)
        timeout 400 "$@" >"$output" 2>"$work/restart.log"
        status=$?
        # 3, 6 and 7: not there, or not ready yet.
        if [[ ! $status =~ ^[367]$ ]]; then
            [ "$status" = 0 ] || cat "$work/restart.log" >&2
            tried_s=$(difference "$began" "$trying") done_s=$(difference "$began" "$(now)")
            return "$status"
        fi
        sleep 0.1
    done
    return 1
}

difference() { echo "$1 $2" | awk '{ printf "%.3f", $2 - $1 }'; }

# The processes of the nodes change in here, so nothing of it may run in a subshell.
r3_backlog() {
    local broker=$1 count first directory=$work/scale tried_s= done_s= status=0
    local -a load
    load_of "$broker" load
    count=$(number BACKLOG "$broker")
    first=$("${broker}_uris") first=${first%%,*}
    mkdir -p "$directory"
    local run=("${load[@]}" run --quiet --output json --queue-prefix compare-backlog --queue-type quorum --durable --persistent
        --size "$BODY" --messages "$count" --uris "$first" --patience 40 --deadline 300)
    "${run[@]}" --pids "$(pids_of "$broker")" --publish-only >"$directory/fill" || return
    sleep 2
    rss "$broker" >"$directory/rss"
    du -s --block-size=1 "$work/$broker" >"$directory/kept"
    restart "$broker" "$directory/drain" "${run[@]}" --consume-only || status=$?
    # Finds the new processes.
    "${broker}_await" "$NODES" >&2
    python3 - "$directory" "$count" "$NODES" "$BODY" "$tried_s" <<'PYTHON' || return
import json, sys
from pathlib import Path
directory, (count, nodes, body), tried_s = Path(sys.argv[1]), map(int, sys.argv[2:5]), float(sys.argv[5])
fill, drain = (json.loads((directory / name).read_text()) for name in ("fill", "drain"))
def first_word(name):
    return int((directory / name).read_text().split()[0])
written = (fill["broker"] or {}).get("written_bytes")
delivered, delivering_s = drain["counts"]["delivered"], drain["delivering_s"]
print(json.dumps({"backlog": {
    "messages": count,
    "fill": fill,
    "drain": drain,
    "drained_per_second": delivered / delivering_s if delivering_s else None,
    "memory_bytes_a_node": first_word("rss") / nodes,
    "memory_peak_bytes_a_node": (fill["broker"] or {}).get("rss_peak_bytes", 0) / nodes,
    "written_bytes_a_byte": None if written is None else written / count / body,
    "kept_bytes_a_byte": first_word("kept") / count / body,
    "ready_s": tried_s + drain["first_delivery_s"] if delivered else None,
    "missing": drain["undelivered"],
}}))
PYTHON
    rm -rf "$directory"
    return $status
}

r3_queues() {
    local broker=$1 count share first before after began ended tried_s= done_s= client pid clients=()
    count=$(number QUEUES "$broker")
    share=$((count / DECLARERS))
    local uris
    IFS=, read -ra uris <<<"$("${broker}_uris")"
    first=${uris[0]}
    local declare=("$bench" bench declare --quiet --output json --durable --queue-type quorum --keep)
    before=$(rss "$broker")
    began=$(now)
    for client in $(seq "$DECLARERS"); do
        "${declare[@]}" --count "$share" --pipeline 100 --queue-prefix "compare-queues-$client" \
            --uris "${uris[client % ${#uris[@]}]}" >/dev/null &
        clients+=($!)
    done
    for pid in "${clients[@]}"; do wait "$pid" || return; done
    ended=$(now)
    sleep 2
    after=$(rss "$broker")
    # One that is there already.
    restart "$broker" /dev/null "${declare[@]}" --count 1 --queue-prefix compare-queues-1 --uris "$first" || return
    "${broker}_await" "$NODES" >&2
    echo "$((share * DECLARERS)) $began $ended $before $after $done_s $NODES" |
        awk '{ printf "{\"queues\": {\"count\": %d, \"per_second\": %.1f, \"memory_bytes_each\": %.0f, \"ready_s\": %s}}\n",
            $1, $1 / ($3 - $2), ($5 - $4) / $1 / $7, $6 }'
}

r3_connections() {
    local broker=$1
    local -a load
    load_of "$broker" load
    "${load[@]}" connections --quiet --output json --count "$(number CONNECTIONS "$broker")" --workers 8 --hold 2 \
        --uris "$("${broker}_uris")" --pids "$(pids_of "$broker")"
}
