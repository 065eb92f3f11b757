# shellcheck shell=bash
# shellcheck disable=SC2154 # work and fail are compare.sh's
# NATS with JetStream for a comparison: private servers with ports and directories of their own, from Debian's package
# without its service, all settings but those its defaults. Sourced by compare.sh; needs $work (a directory) and fail().

NATS_FIRST_PORT=${NATS_FIRST_PORT:-34220}
nats_pids=()

# Debian has it where only root looks.
nats_server() { command -v nats-server || { [ -x /usr/sbin/nats-server ] && echo /usr/sbin/nats-server; }; }

nats_install() {
    nats_server >/dev/null && return
    echo "installing nats-server" >&2
    # The package starts its service on its own; a policy script keeps it from doing so.
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && local made=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nats-server >&2
    local status=$?
    [ -n "${made:-}" ] && rm -f "$policy"
    return $status
}

nats_version() { "$(nats_server)" --version | sed 's/^nats-server: v/NATS /'; }

# nats_start COUNT: a cluster of COUNT servers; its processes are in nats_pids afterwards.
nats_start() {
    nats_launch "$1"
    nats_await "$1"
}

# nats_launch COUNT: starts the servers, with what their directories hold, and does not wait.
nats_launch() {
    local count=$1 node dir routes=
    nats_pids=()
    for node in $(seq "$count"); do
        routes+=", \"nats://127.0.0.1:$((NATS_FIRST_PORT + 100 + node))\""
    done
    for node in $(seq "$count"); do
        dir=$work/nats/$node
        mkdir -p "$dir"
        {
            echo "server_name: n$node"
            echo "listen: 127.0.0.1:$((NATS_FIRST_PORT + node))"
            echo "http: 127.0.0.1:$((NATS_FIRST_PORT + 200 + node))"
            echo "jetstream { store_dir: \"$dir/data\" }"
            # A server that names a cluster waits for others.
            [ "$count" = 1 ] ||
                echo "cluster { name: bench, listen: 127.0.0.1:$((NATS_FIRST_PORT + 100 + node)), routes: [${routes#, }] }"
        } >"$dir/nats.conf"
        nice -n "$BROKER_NICE" "$(nats_server)" -c "$dir/nats.conf" >"$dir/out.log" 2>&1 </dev/null &
        nats_pids+=($!)
    done
}

nats_await() {
    local node
    for node in $(seq "$1"); do
        nats_wait "$node" "$1" || fail "NATS's server $node is not ready: $(tail -n 3 "$work/nats/$node/out.log")"
    done
}

# nats_wait NODE COUNT: until it is in contact with the leader of all COUNT servers' metadata.
nats_wait() {
    local url=http://127.0.0.1:$((NATS_FIRST_PORT + 200 + $1))
    for _ in $(seq 150); do
        kill -0 "${nats_pids[$(($1 - 1))]}" 2>/dev/null || return 1
        python3 - "$url" "$2" <<'PYTHON' 2>/dev/null && return 0
import json, sys, urllib.request
url, count = sys.argv[1], int(sys.argv[2])
def ask(what):
    with urllib.request.urlopen(f"{url}/{what}", timeout=2) as answer:
        return json.load(answer)
if ask("healthz")["status"] != "ok":
    sys.exit(1)
cluster = ask("jsz").get("meta_cluster", {})
sys.exit(0 if count == 1 or cluster.get("leader") and cluster.get("cluster_size") == count else 1)
PYTHON
        sleep 0.2
    done
    return 1
}

# The servers' addresses, the first one first.
nats_uris() {
    local node uris=
    for node in $(seq "${#nats_pids[@]}"); do
        uris+=,nats://127.0.0.1:$((NATS_FIRST_PORT + node))
    done
    echo "${uris#,}"
}

nats_stop() {
    local pid
    for pid in "${nats_pids[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${nats_pids[@]}"; do
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    nats_pids=()
    rm -rf "$work/nats"
    return 0
}
