#!/usr/bin/env bash
# Checks everything in deploy/ as far as this machine can: what cannot be had is skipped aloud.
#
#   deploy/check.sh                 the files' form
#   deploy/check.sh --image WARREN  also builds an image around the program WARREN and runs it (root, podman, debootstrap)
set -euo pipefail
cd "$(dirname "$0")"

failed=0
skipped=0
ok() { printf 'ok      %s\n' "$1"; }
bad() { printf 'FAILED  %s\n' "$1"; failed=$((failed + 1)); }
skip() { printf 'SKIPPED %s: %s\n' "$1" "$2"; skipped=$((skipped + 1)); }
has() { command -v "$1" >/dev/null 2>&1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The program whose settings the files use: the newest that was built here, unless WARREN_BIN names one.
program=${WARREN_BIN:-}
for candidate in "${CARGO_TARGET_DIR:-../target}"/{release,debug}/warren; do
  if [[ -z $program && -x $candidate ]]; then program=$candidate; fi
done

# --- YAML -------------------------------------------------------------------------------------------------------------
if has python3 && python3 -c 'import yaml' 2>/dev/null; then
  if python3 - kustomize compose <<'PYTHON'; then ok 'YAML parses, and says what it must'; else bad 'YAML'; fi
import pathlib, sys, yaml

wrong = []
def must(true, text):
    if not true:
        wrong.append(text)

documents = {}
for folder in sys.argv[1:]:
    for path in sorted(pathlib.Path(folder).rglob("*.yaml")):
        documents[str(path)] = [d for d in yaml.safe_load_all(path.read_text()) if d]

compose = documents["compose/compose.yaml"][0]
nodes = compose["services"]
must(len(nodes) == 3, "compose: three nodes")
seeds = {seed for node in nodes.values() for seed in node["environment"]["WARREN_SEEDS"].split(",")}
must(seeds == {node["environment"]["WARREN_CLUSTER_ADVERTISE"] for node in nodes.values()}, "compose: seeds are the advertised addresses")
must(all(node["environment"]["WARREN_CLUSTER_SECRET"].startswith("${WARREN_CLUSTER_SECRET:?") for node in nodes.values()), "compose: the secret is the user's")
must(len({node["environment"]["WARREN_NODE_NAME"] for node in nodes.values()}) == 3, "compose: node names differ")
ports = [port for node in nodes.values() for port in node["ports"]]
must(all(port.startswith("127.0.0.1:") for port in ports), "compose: ports on this machine only")
must(len({port.split(":")[1] for port in ports}) == len(ports), "compose: no port twice")
volumes = [node["volumes"][0].split(":")[0] for node in nodes.values()]
must(sorted(volumes) == sorted(compose["volumes"]), "compose: a volume for each node")
must(not any("depends_on" in node for node in nodes.values()), "compose: no node waits for another to start")

objects = {d["kind"] + "/" + d["metadata"]["name"]: d for ds in documents.values() for d in ds if "metadata" in d}
headless = objects["Service/warren-nodes"]["spec"]
must(headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"] is True, "headless service finds nodes that are not ready")
stateful = objects["StatefulSet/warren"]["spec"]
must(stateful["podManagementPolicy"] == "Parallel", "StatefulSet starts its pods together")
must(stateful["serviceName"] == "warren-nodes", "StatefulSet names the headless service")
pod = stateful["template"]["spec"]
must(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 999, "pods do not run as root")
must(pod["terminationGracePeriodSeconds"] > 60, "pods may drain")
must(pod["automountServiceAccountToken"] is False, "pods have no service account's token")
container = pod["containers"][0]
probes = {kind: container[kind + "Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
must(probes == {"startup": "/health/startup", "liveness": "/health/live", "readiness": "/health/ready"}, "probes")
must(container["securityContext"]["readOnlyRootFilesystem"], "root file system is read-only")
mounts = {mount["name"] for mount in container["volumeMounts"]}
offered = {volume["name"] for volume in pod["volumes"]} | {c["metadata"]["name"] for c in stateful["volumeClaimTemplates"]}
must(mounts == offered, "every mount has its volume")
named = {port["name"] for port in container["ports"]}
for name in ("Service/warren", "Service/warren-nodes"):
    must({port["targetPort"] for port in objects[name]["spec"]["ports"]} <= named, name + " names ports of the pods")
# An empty selector takes every pod of the namespace.
must(objects["PodDisruptionBudget/warren"]["spec"]["selector"], "the disruption budget selects its own pods")
must(objects["NetworkPolicy/warren"]["spec"]["podSelector"], "the network policy selects its own pods")
for text in wrong:
    print("        must be true:", text)
sys.exit(bool(wrong))
PYTHON
else
  skip 'YAML' 'python3 with the module yaml is not installed'
fi

# --- Kustomize --------------------------------------------------------------------------------------------------------
render=
if has kustomize; then render='kustomize build'; elif has kubectl; then render='kubectl kustomize'; fi
if [[ -n $render ]]; then
  for folder in base dev tls; do
    if $render "kustomize/$folder" >"$scratch/$folder.yaml" 2>"$scratch/error"; then
      ok "kustomize/$folder renders"
    else
      bad "kustomize/$folder: $(tail -1 "$scratch/error")"
    fi
  done
  # A claim that stays in the overlay without volumes would wait for a disk for ever.
  if grep -q volumeClaimTemplates "$scratch/dev.yaml"; then bad 'kustomize/dev still claims volumes'; fi
else
  skip 'kustomize' 'neither kustomize nor kubectl is installed'
fi

# --- Settings ---------------------------------------------------------------------------------------------------------
if [[ -n $program ]]; then
  head -c 32 /dev/urandom | base64 >"$scratch/secret"
  for file in kustomize/base/warren.toml kustomize/dev/warren.toml; do
    if WARREN_CLUSTER_SECRET_FILE=$scratch/secret "$program" server --config "$file" --check-config >/dev/null 2>"$scratch/error"; then
      ok "$file is a configuration"
    else
      bad "$file: $(cat "$scratch/error")"
    fi
  done
  "$program" server --help >"$scratch/help"
  grep -rhoE 'WARREN_[A-Z_]+[A-Z]' compose kustomize docker systemd | grep -v '^WARREN_IMAGE$' | sort -u >"$scratch/used"
  unknown=$(while read -r name; do grep -q "variable: ${name%_FILE}\]" "$scratch/help" || echo "$name"; done <"$scratch/used")
  if [[ -z $unknown ]]; then ok 'every WARREN_ variable is a setting'; else bad "no settings: $unknown"; fi
else
  skip 'settings' 'no warren program was built (set WARREN_BIN)'
fi

# --- systemd ----------------------------------------------------------------------------------------------------------
if has systemd-analyze; then
  # The program may not be installed here: another that is stands for it.
  sed -E 's#^(ExecStart(Pre)?=)/usr/bin/warren.*#\1/bin/true#; /^Documentation=/d' systemd/warren.service >"$scratch/warren.service"
  if systemd-analyze verify --man=no "$scratch/warren.service" 2>"$scratch/error" && [[ ! -s $scratch/error ]]; then
    ok 'systemd/warren.service verifies'
  else
    bad "systemd/warren.service: $(cat "$scratch/error")"
  fi
else
  skip 'systemd' 'systemd-analyze is not installed'
fi

# --- Shell ------------------------------------------------------------------------------------------------------------
if has shellcheck; then
  if shellcheck check.sh; then ok 'check.sh passes shellcheck'; else bad 'shellcheck'; fi
else
  skip 'shellcheck' 'it is not installed'
fi

# --- Image ------------------------------------------------------------------------------------------------------------
# Built around a finished program, on a base made with debootstrap: neither a registry nor a compiler is needed.
# BUILDAH_ISOLATION=chroot helps where containers cannot be started (no cgroups, limits that may not be raised).
image=localhost/warren-check
base=localhost/warren-check-base

build_image() {
  install -D "$1" "$scratch/context/warren"
  if ! podman image exists "$base"; then
    debootstrap --variant=minbase bookworm "$scratch/root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$scratch/log" 2>&1 ||
      { bad "debootstrap: $(tail -1 "$scratch/log")"; return 1; }
    tar -C "$scratch/root" -c . | podman import --quiet - "$base" >/dev/null
  fi
  if ! podman build --isolation "${BUILDAH_ISOLATION:-oci}" --target prebuilt --format docker \
    --build-arg "RUN_IMAGE=$base" --build-arg "BUILD_IMAGE=$base" \
    -f docker/Dockerfile -t "$image" "$scratch/context" >"$scratch/log" 2>&1; then
    bad "docker/Dockerfile: $(tail -3 "$scratch/log")"
    return 1
  fi
  ok "docker/Dockerfile builds, $(($(podman image inspect --format '{{.Size}}' "$image") / 1048576)) MiB with its base"
  [[ $(podman image inspect --format '{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Cmd}}' "$image") == \
    '999:999 [/usr/bin/warren] [server]' ]] || bad 'the image is not "warren server" as 999'
}

# Waits until the log at $1 says that the node is ready.
await_ready() {
  for _ in $(seq 60); do
    if grep -q 'Server startup complete' "$1"; then return 0; fi
    sleep 1
  done
  return 1
}

run_image() {
  local name=warren-check-$$
  if ! podman run --rm --network none "$image" --version >"$scratch/log" 2>&1; then
    skip 'podman run' "no container starts here: $(tail -1 "$scratch/log")"
    run_in_root
    return
  fi
  podman run --detach --name "$name" --network none --read-only --cap-drop all --security-opt no-new-privileges \
    --volume "$name:/var/lib/warren" "$image" >/dev/null
  podman logs --follow "$name" >"$scratch/log" 2>&1 &
  if await_ready "$scratch/log"; then
    ok 'the image runs as 999 on a read-only root and gets ready'
  else
    bad "the image does not get ready: $(tail -3 "$scratch/log")"
  fi
  podman stop --time 60 "$name" >/dev/null
  if [[ $(podman inspect --format '{{.State.ExitCode}}' "$name") == 0 ]]; then
    ok 'the image stops with status 0'
  else
    bad 'the image does not stop with status 0'
  fi
  podman rm --volumes "$name" >/dev/null
  podman volume rm "$name" >/dev/null 2>&1 || true
}

# Second best: the image's own files and user, without a container around them.
run_in_root() {
  local container root pid
  container=$(podman create "$image")
  root=$(podman mount "$container")
  chroot --userspec=999:999 "$root" /usr/bin/warren server --data-dir /var/lib/warren --node-name warren@check \
    --amqp-listen 127.0.0.1:0 --cluster-listen 127.0.0.1:0 --http-listen none --metrics-listen none \
    >"$scratch/log" 2>&1 &
  pid=$!
  if await_ready "$scratch/log"; then
    ok "the image's files run as 999 and get ready"
  else
    bad "the image's files do not get ready: $(tail -3 "$scratch/log")"
  fi
  kill -TERM "$pid" 2>/dev/null || true
  if wait "$pid"; then ok 'and stop with status 0'; else bad 'but do not stop with status 0'; fi
  podman umount "$container" >/dev/null
  podman rm "$container" >/dev/null
}

if [[ ${1:-} == --image ]]; then
  if has podman && has debootstrap && [[ $(id -u) == 0 ]]; then
    if build_image "${2:?name the program}"; then run_image; fi
  else
    skip 'image' 'podman and debootstrap are needed, and root'
  fi
else
  skip 'image' 'not asked for (--image WARREN)'
fi

echo "$failed failed, $skipped skipped"
exit $((failed > 0))
