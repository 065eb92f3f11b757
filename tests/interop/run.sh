#!/usr/bin/env bash
# Runs public test suites of clients against a cluster of three nodes: run.sh [SUITE...]; README.md has the list.
# WARREN_BIN names the binary. Needs root: packages are installed, and the nodes get a network of their own, since the
# suites expect a broker on RabbitMQ's ports.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
CACHE=${WARREN_CACHE:-$HOME/.cache/warren}
SUITES=$CACHE/suites
: "${WARREN_BIN:=$CACHE/target/release/warren}"
export WARREN_BIN SUITES
ALL=(java amqplib amqp091-go py-amqp kombu rabbitmq-c)

die() { printf 'run.sh: %s\n' "$*" >&2; exit 1; }

need() { # the Debian packages that are missing
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || {
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    }
}

# The upstream archive of a Debian source package, unpacked in $SUITES/$1.
debian_source() {
    [ ! -d "$SUITES/$1" ] || return 0
    local lists=$SUITES/apt work
    mkdir -p "$lists/lists/partial"
    work=$(mktemp -d)
    printf 'Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\nSigned-By: %s\n' \
        /usr/share/keyrings/debian-archive-keyring.gpg >"$lists/src.sources"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$lists/src.sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$lists/lists")
    # Of several archives one may be missing: the first is the client itself.
    (cd "$work" && "${apt[@]}" update && { "${apt[@]}" source --tar-only --download-only "$1" || true; }) >/dev/null 2>&1
    local archive
    archive=$(find "$work" -name "${1}_*.orig.tar.*" | head -n 1)
    [ -n "$archive" ] || return 1
    mkdir "$SUITES/$1.part"
    tar -xf "$archive" -C "$SUITES/$1.part" --strip-components 1
    mv "$SUITES/$1.part" "$SUITES/$1"
    rm -rf "$work"
}

# An sdist of the Python package index: NAME VERSION.
sdist() {
    [ ! -d "$SUITES/$1" ] || return 0
    local work
    work=$(mktemp -d)
    "$SUITES/venv/bin/pip" download -q --no-deps --no-binary :all: -d "$work" "$1==$2" || return 1
    mkdir "$SUITES/$1.part"
    tar -xf "$work"/*.tar.gz -C "$SUITES/$1.part" --strip-components 1
    mv "$SUITES/$1.part" "$SUITES/$1"
    rm -rf "$work"
}

python_environment() {
    need python3-venv
    [ -x "$SUITES/venv/bin/pytest" ] || {
        python3 -m venv --clear "$SUITES/venv"
        "$SUITES/venv/bin/pip" install -q --disable-pip-version-check \
            pytest pytest-timeout pytest-rerunfailures amqp==5.4.2 kombu==5.7.0 vine pytz
    }
}

prepare() { # what one suite needs; fails if it cannot be had
    case $1 in
        java)
            need default-jdk-headless librabbitmq-client-java junit4 libhamcrest-java libmockito-java libassertj-core-java \
                libjackson2-databind-java libslf4j-java libbcpkix-java libcommons-cli-java libcommons-io-java
            debian_source rabbitmq-java-client ;;
        amqplib)
            command -v npm >/dev/null || need nodejs npm
            [ -d "$SUITES/amqplib" ] || {
                # The last release whose package holds its tests.
                (cd "$SUITES" && mkdir -p npm && npm pack --silent --pack-destination npm amqplib@0.10.9 >/dev/null \
                    && mkdir amqplib.part && tar -xf npm/amqplib-0.10.9.tgz -C amqplib.part --strip-components 1 \
                    && cd amqplib.part && npm install --silent --no-audit --no-fund --ignore-scripts --omit=dev \
                    && npm install --silent --no-save --no-audit --no-fund --ignore-scripts mocha@10 claire@0.4.1 \
                    && cd .. && mv amqplib.part amqplib) || return 1
            } ;;
        amqp091-go)
            need golang-go golang-uber-goleak-dev
            debian_source golang-github-rabbitmq-amqp091-go ;;
        py-amqp) python_environment && sdist amqp 5.4.2 ;;
        kombu) python_environment && sdist kombu 5.7.0 ;;
        rabbitmq-c)
            need gcc libc6-dev librabbitmq-dev
            debian_source librabbitmq ;;
        *) die "no suite '$1'; there are: ${ALL[*]}" ;;
    esac
}

if [ "${1:-}" = --within ]; then # in the network of its own
    shift
    ip link set lo up
    cd "$ROOT/tests"
    exec python3 "$HERE/suites.py" "$@"
fi

[ "$(id -u)" = 0 ] || die "needs root"
[ -x "$WARREN_BIN" ] || die "no binary '$WARREN_BIN': build one, or set WARREN_BIN"
mkdir -p "$SUITES"
need curl iproute2
[ $# -gt 0 ] || set -- "${ALL[@]}"
had=()
for suite in "$@"; do
    if prepare "$suite"; then had+=("$suite"); else had+=("$suite=missing"); fi
done
exec unshare --net "$HERE/run.sh" --within "${had[@]}"
