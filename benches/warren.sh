# shellcheck shell=bash
# shellcheck disable=SC2154 # work, warren and fail are compare.sh's
# Warren for a comparison: private nodes with ports and directories of their own. Sourced by compare.sh; needs $warren (the
# binary), $work (a directory) and fail().

WARREN_FIRST_PORT=${WARREN_FIRST_PORT:-35500}
warren_pids=()

# warren_start COUNT: a cluster of COUNT nodes; its processes are in warren_pids afterwards.
warren_start() {
    warren_launch "$1"
    warren_await "$1"
}

# warren_launch COUNT: starts the nodes, with what their directories hold, and does not wait.
warren_launch() {
    local count=$1 node dir seeds=
    for node in $(seq "$count"); do
        seeds+=,127.0.0.1:$((WARREN_FIRST_PORT + 100 + node))
    done
    warren_pids=()
    for node in $(seq "$count"); do
        dir=$work/warren/$node
        mkdir -p "$dir"
        nice -n "$BROKER_NICE" "$warren" server --data-dir "$dir/data" --node-name "n$node" \
            --amqp-listen "127.0.0.1:$((WARREN_FIRST_PORT + node))" \
            --cluster-listen "127.0.0.1:$((WARREN_FIRST_PORT + 100 + node))" \
            --cluster-advertise "127.0.0.1:$((WARREN_FIRST_PORT + 100 + node))" \
            --http-listen "127.0.0.1:$((WARREN_FIRST_PORT + 200 + node))" --metrics-listen none \
            --seeds "${seeds#,}" --expect "$count" >"$dir/out.log" 2>&1 </dev/null &
        warren_pids+=($!)
    done
}

warren_await() {
    local node
    for node in $(seq "$1"); do
        warren_wait "$node" || fail "Warren's node $node is not ready: $(tail -n 3 "$work/warren/$node/out.log")"
    done
}

warren_wait() {
    for _ in $(seq 150); do
        kill -0 "${warren_pids[$(($1 - 1))]}" 2>/dev/null || return 1
        "$warren" check ready --node "http://127.0.0.1:$((WARREN_FIRST_PORT + 200 + $1))" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    return 1
}

# The nodes' addresses, the first one first.
warren_uris() {
    local node uris=
    for node in $(seq "${#warren_pids[@]}"); do
        uris+=,amqp://guest:guest@127.0.0.1:$((WARREN_FIRST_PORT + node))
    done
    echo "${uris#,}"
}

warren_stop() {
    local pid
    for pid in "${warren_pids[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${warren_pids[@]}"; do
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    warren_pids=()
    rm -rf "$work/warren"
    return 0
}
