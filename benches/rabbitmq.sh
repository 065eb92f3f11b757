# shellcheck shell=bash
# shellcheck disable=SC2154 # work and fail are compare.sh's
# RabbitMQ for a comparison: private nodes with names, ports, directories and a cookie of their own, started from the
# Debian package's files without its service. Sourced by compare.sh; needs $work (a directory) and fail().

RABBITMQ_BIN=/usr/lib/rabbitmq/bin
RABBITMQ_EPMD_PORT=${RABBITMQ_EPMD_PORT:-14369}
RABBITMQ_FIRST_PORT=${RABBITMQ_FIRST_PORT:-25672}
rabbitmq_pids=()
# Sessions that were started and may not have come as far as to tell their node's process.
rabbitmq_sessions=()
rabbitmq_epmd_pid=

rabbitmq_install() {
    [ -x "$RABBITMQ_BIN/rabbitmq-server" ] && return
    echo "installing rabbitmq-server" >&2
    # The package starts its service on its own; a policy script keeps it from doing so.
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && local made=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends rabbitmq-server >&2
    local status=$?
    [ -n "${made:-}" ] && rm -f "$policy"
    return $status
}

# rabbitmq_environment NUMBER: what every tool of node NUMBER needs to know.
rabbitmq_environment() {
    local dir=$work/rabbitmq/$1
    export HOME=$work/rabbitmq RABBITMQ_NODENAME=bench$1@localhost
    export ERL_EPMD_PORT=$RABBITMQ_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
    export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$((RABBITMQ_FIRST_PORT + $1 - 1))
    export RABBITMQ_DIST_PORT=$((RABBITMQ_FIRST_PORT + 100 + $1))
    export RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/log RABBITMQ_PID_FILE=$dir/pid
    export RABBITMQ_CONFIG_FILE=$dir/rabbitmq RABBITMQ_ENABLED_PLUGINS_FILE=$dir/plugins
    # Nothing of it listens beyond this machine.
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
    export RABBITMQ_CONF_ENV_FILE=$dir/none RABBITMQ_GENERATED_CONFIG_DIR=$dir/generated
}

rabbitmqctl() { (rabbitmq_environment "$1" && shift && "$RABBITMQ_BIN/rabbitmqctl" -q "$@"); }

# rabbitmq_start COUNT: a cluster of COUNT nodes; its processes are in rabbitmq_pids afterwards.
rabbitmq_start() {
    local count=$1 node
    mkdir -p "$work/rabbitmq"
    head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$work/rabbitmq/.erlang.cookie"
    chmod 600 "$work/rabbitmq/.erlang.cookie"
    ERL_EPMD_PORT=$RABBITMQ_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1 epmd >"$work/rabbitmq/epmd.log" 2>&1 &
    rabbitmq_epmd_pid=$!
    for node in $(seq "$count"); do
        local dir=$work/rabbitmq/$node
        mkdir -p "$dir/data" "$dir/log"
        echo '[].' >"$dir/plugins"
        printf 'disk_free_limit.absolute = 50MB\nlog.console = false\n' >"$dir/rabbitmq.conf"
    done
    rabbitmq_launch "$count"
    rabbitmq_await "$count"
    for node in $(seq 2 "$count"); do
        if ! { rabbitmqctl "$node" stop_app && rabbitmqctl "$node" join_cluster bench1@localhost &&
            rabbitmqctl "$node" start_app; } >>"$work/rabbitmq/$node/out.log" 2>&1; then
            fail "RabbitMQ's node $node does not join"
        fi
    done
}

# rabbitmq_launch COUNT: starts the nodes, with what their directories hold, and does not wait.
rabbitmq_launch() {
    local node dir
    rabbitmq_sessions=()
    for node in $(seq "$1"); do
        dir=$work/rabbitmq/$node
        rm -f "$dir/pid"
        (rabbitmq_environment "$node" && exec nice -n "$BROKER_NICE" setsid "$RABBITMQ_BIN/rabbitmq-server") \
            >>"$dir/out.log" 2>&1 </dev/null &
        rabbitmq_sessions+=($!)
    done
}

rabbitmq_await() {
    local node
    rabbitmq_pids=()
    for node in $(seq "$1"); do
        rabbitmq_wait "$node" || fail "RabbitMQ's node $node does not start: see $work/rabbitmq/$node/out.log"
        rabbitmq_pids+=("$(cat "$work/rabbitmq/$node/pid")")
    done
}

rabbitmq_wait() {
    for _ in $(seq 90); do
        if [ -s "$work/rabbitmq/$1/pid" ] && rabbitmqctl "$1" await_startup --timeout 60 >/dev/null 2>&1; then
            return 0
        fi
        sleep 1
    done
    return 1
}

# The nodes' addresses, the first one first.
rabbitmq_uris() {
    local node uris=
    for node in $(seq "${#rabbitmq_pids[@]}"); do
        uris+=,amqp://guest:guest@127.0.0.1:$((RABBITMQ_FIRST_PORT + node - 1))
    done
    echo "${uris#,}"
}

rabbitmq_stop() {
    local pid
    for pid in "${rabbitmq_pids[@]}"; do
        kill "$pid" 2>/dev/null
    done
    for pid in "${rabbitmq_pids[@]}"; do
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
        kill -9 "$pid" 2>/dev/null
    done
    for pid in "${rabbitmq_sessions[@]}"; do kill -9 -- "-$pid" 2>/dev/null; done
    rabbitmq_sessions=()
    [ -n "$rabbitmq_epmd_pid" ] && kill "$rabbitmq_epmd_pid" 2>/dev/null
    rabbitmq_pids=() rabbitmq_epmd_pid=
    rm -rf "$work/rabbitmq"
    return 0
}
