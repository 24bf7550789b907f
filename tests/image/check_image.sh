#!/usr/bin/env bash
# Builds the image and runs it as hardened as an operator would, on a Debian machine without Docker and without a registry.
#
# usage (as root): tests/image/check_image.sh [MODEL_REPOSITORY]
# podman comes from apt; debian:trixie-slim is made with mmdebstrap, so FROM resolves locally. Without a repository the
# embedded model's ONNX file is served. Takes minutes (it compiles everything), so it is not part of ./dev test.
# Images live in a scratch folder that is removed at the end; KEEP=1 keeps it and prints its path. CCACHE=FOLDER lets the build
# use a compiler cache (./dev's, say).
set -euo pipefail

SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
SCRATCH=$(mktemp -d)
NAME=octet-check-$$
MAX_OWN_MB=150  # of the image without its base
PORTS=(18000 18001 18002)  # HTTP, gRPC, metrics
# The host's runtime needs these where cgroups are hybrid or limits cannot be raised (CONTAINERS_CONF).
export CONTAINERS_CONF=$SCRATCH/containers.conf

say() { printf 'check_image: %s\n' "$*"; }

fail() {
  say "FAILED: $*" >&2
  ! pod container exists "$NAME" || pod logs --tail 30 "$NAME" >&2
  exit 1
}

pod() { podman --log-level fatal --root "$SCRATCH/root" --runroot "$SCRATCH/run" --storage-driver overlay "$@"; }

clean_up() {
  pod rm --force --time 1 "$NAME" >/dev/null 2>&1 || true
  if [ "${KEEP:-0}" = 1 ]; then
    say "kept: CONTAINERS_CONF=$CONTAINERS_CONF podman --root $SCRATCH/root --runroot $SCRATCH/run --storage-driver overlay"
  else
    umount -q "$SCRATCH/root/overlay" || true
    rm -rf --one-file-system "$SCRATCH"
  fi
}

need_tools() {
  local missing=() tool
  for tool in podman buildah runc mmdebstrap curl python3; do
    command -v $tool >/dev/null || missing+=($tool)
  done
  if [ ${#missing[@]} != 0 ]; then
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 install -y --no-install-recommends \
      "${missing[@]}" netavark iptables catatonit python3-yaml
  fi >/dev/null
  cat >"$CONTAINERS_CONF" <<END
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
}

# debian:trixie-slim as Docker Hub has it: minbase without documentation and translations.
make_base() {
  local mirror
  mirror=$(bash -c 'source "$1/dev"; find_mirror' _ "$SRC")
  mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' trixie - "$mirror" |
    pod import - docker.io/library/debian:trixie-slim >/dev/null
}

build_image() {
  local cache=()
  if [ -n "${CCACHE:-}" ]; then
    printf 'base_dir = /src\nhash_dir = false\nsloppiness = pch_defines,time_macros,include_file_mtime,%s\n' \
      'include_file_ctime' >"$SCRATCH/ccache.conf"
    cache=(-v "$CCACHE:/root/.cache/ccache" -v "$SCRATCH/ccache.conf:/etc/ccache.conf:ro")
  fi
  pod build --network host --pull=never --format docker "${cache[@]}" -t octet:check "$SRC" \
    >"$SCRATCH/build.log" 2>&1 || {
    tail -n 40 "$SCRATCH/build.log" >&2
    fail "the Dockerfile does not build"
  }
  local base own
  base=$(pod image inspect -f '{{.Size}}' debian:trixie-slim)
  own=$(($(pod image inspect -f '{{.Size}}' octet:check) - base))
  say "built: $((own / 1000000)) MB beside the base's $((base / 1000000)) MB"
  [ $((own / 1000000)) -le $MAX_OWN_MB ] || fail "the image has more than $MAX_OWN_MB MB beside its base"
}

# Runs a command in the image in place of the program.
in_image() {
  local program=$1
  shift
  pod run --rm --network none --entrypoint "$program" octet:check "$@"
}

# Only what serving needs: every library found, every listed library used, no tool chain.
check_contents() {
  local linked tool
  linked=$(in_image /usr/bin/ldd /usr/local/bin/octet)
  ! grep 'not found' <<<"$linked" || fail "libraries are missing in the image; add them to runtime.list"
  for tool in gcc g++ cc cmake ninja protoc python3 git make; do
    ! in_image /bin/sh -c "command -v $tool" || fail "$tool is in the image"
  done
  [ "$(in_image /bin/sh -c 'ls /usr/include | wc -l')" = 0 ] || fail "headers are in the image"
  local unused="" package file used
  for package in $(bash -c 'source "$1/dev"; packages runtime' _ "$SRC"); do
    used=0
    for file in $(in_image /usr/bin/dpkg -L "$package" | grep -E '\.so\.[0-9.]+$' | xargs -rn1 basename); do
      ! grep -qF "$file" <<<"$linked" || used=1
    done
    [ $used = 1 ] || unused+=" $package"
  done
  [ -z "$unused" ] || fail "runtime.list names what octet does not load:$unused"
  say "contents: $(grep -c '=>' <<<"$linked") libraries, all found, no tool chain"
}

default_repository() {
  mkdir -p "$SCRATCH/models/fashion-mnist/1"
  cp "$SRC/models/fashion-mnist/model.onnx" "$SCRATCH/models/fashion-mnist/1/model.onnx"
  echo "$SCRATCH/models"
}

start_hardened() {
  pod run --detach --name "$NAME" --network host --read-only --read-only-tmpfs=false --cap-drop ALL \
    --security-opt no-new-privileges --memory 512m --pids-limit 128 -v "$1:/models:ro" \
    octet:check serve --model-repository /models --host 127.0.0.1 --http-port "${PORTS[0]}" \
    --grpc-port "${PORTS[1]}" --metrics-port "${PORTS[2]}" >/dev/null
}

check_running() {
  local tries=0 status
  until pod exec "$NAME" octet probe --address "127.0.0.1:${PORTS[1]}" >/dev/null 2>&1; do
    [ $((tries += 1)) -lt 120 ] || fail "not ready after 60 s"
    [ "$(pod inspect -f '{{.State.Running}}' "$NAME")" = true ] || fail "the server stopped"
    sleep 0.5
  done
  curl -fsS "http://127.0.0.1:${PORTS[0]}/v2/health/ready" >/dev/null || fail "/v2/health/ready"
  curl -fsS "http://127.0.0.1:${PORTS[2]}/metrics" | grep -q '^octet_' || fail "/metrics shows no octet series"
  status=$(pod exec "$NAME" cat /proc/1/status)
  grep -q '^Uid:[[:space:]]10001' <<<"$status" || fail "not user 10001"
  grep -q '^CapEff:[[:space:]]0*$' <<<"$status" || fail "capabilities are left"
  ! pod exec "$NAME" /bin/sh -c ': >/tmp/x' 2>/dev/null || fail "the root is writable"
  pod inspect -f '{{.Config.Healthcheck.Test}}' "$NAME" | grep -q 'octet probe' || fail "no health check in the image"
  say "running: ready, metrics, user 10001, no capabilities, read-only root, 512 MB limit"
}

# Server and health check with every shell hidden under an empty file.
check_no_shell() {
  local tries=0 hidden=()
  : >"$SCRATCH/nothing"
  for shell in /bin/sh /bin/bash /bin/dash /usr/bin/sh /usr/bin/bash /usr/bin/dash; do
    hidden+=(-v "$SCRATCH/nothing:$shell:ro")
  done
  pod run --detach --name "$NAME" --network none --read-only --cap-drop ALL "${hidden[@]}" -v "$1:/models:ro" \
    octet:check >/dev/null
  ! pod exec "$NAME" /bin/sh -c true 2>/dev/null || fail "the shell is still there"
  until pod healthcheck run "$NAME" >/dev/null 2>&1; do
    [ $((tries += 1)) -lt 120 ] || fail "without a shell it does not become healthy"
    sleep 0.5
  done
  pod rm --force --time 5 "$NAME" >/dev/null
  say "no shell needed: healthy with all shells hidden"
}

# A model of 256 MB in a container of 400: refused, while the small one beside it answers and nothing is killed. Told of no
# limit, the server is killed for the same files, which shows that refusing is what saves it.
check_memory_limit() {
  local models=$SCRATCH/large tries=0 killed
  mkdir -p "$models/large/1"
  cp -r "$1/." "$models/"
  python3 "$SRC/tests/image/large_model.py" "$models/large/1/model.onnx"
  pod run --detach --name "$NAME" --network none --read-only --cap-drop ALL --memory 400m -v "$models:/models:ro" \
    octet:check >/dev/null
  until pod exec "$NAME" octet probe >/dev/null 2>&1; do
    [ $((tries += 1)) -lt 120 ] || fail "not ready beside a model that does not fit"
    [ "$(pod inspect -f '{{.State.Running}}' "$NAME")" = true ] || fail "killed by a model that does not fit"
    sleep 0.5
  done
  pod logs "$NAME" 2>&1 | grep -q 'memory_limit.*large/1/model.onnx takes up to' || fail "the log does not say what was refused"
  pod logs "$NAME" 2>&1 | grep -q '"variant loaded"' || fail "the small model was not loaded"
  pod rm --force --time 5 "$NAME" >/dev/null
  pod run --detach --name "$NAME" --network none --read-only --cap-drop ALL --memory 400m --memory-swap 400m \
    -v "$models:/models:ro" octet:check serve --model-repository /models --memory-limit-bytes 1000000000000 >/dev/null
  killed=$(timeout 120 podman --root "$SCRATCH/root" --runroot "$SCRATCH/run" --storage-driver overlay wait "$NAME") || killed=0
  [ "$killed" = 137 ] || fail "without the limit the large model should have been the end of it: exit code $killed"
  pod rm --force --time 1 "$NAME" >/dev/null
  rm -rf "$models"
  say "memory: 400 MB limit honoured, a 256 MB model refused, the other served (without the check: killed)"
}

# The pod of the Kubernetes overlay as podman understands it: its arguments, user, read-only root, capabilities, limits. A folder
# of this machine stands in for the volume; probes and services need a cluster.
check_kubernetes_pod() {
  local yaml=$SCRATCH/pod.yaml pod_name=octet-pod-0-octet tries=0
  if ! command -v kubectl >/dev/null; then
    say "kubernetes: skipped, kubectl is absent"
    return
  fi
  kubectl kustomize "$SRC/deploy/kubernetes/overlays/volume-cpu" | /usr/bin/python3 "$SRC/tests/image/local_pod.py" octet:check "$1" >"$yaml"
  pod kube play --network none "$yaml" >/dev/null || fail "podman does not play the Deployment"
  until pod exec "$pod_name" octet probe >/dev/null 2>&1; do
    [ $((tries += 1)) -lt 120 ] || fail "the Deployment's pod does not become ready"
    sleep 0.5
  done
  grep -q '^Uid:[[:space:]]10001' <<<"$(pod exec "$pod_name" cat /proc/1/status)" || fail "the pod's user is not 10001"
  ! pod exec "$pod_name" /bin/sh -c ': >/tmp/x' 2>/dev/null || fail "the pod's root is writable"
  [ "$(pod inspect -f '{{.HostConfig.Memory}}' "$pod_name")" = 1073741824 ] || fail "the pod has no memory limit of 1 GiB"
  pod kube down "$yaml" >/dev/null
  say "kubernetes: the overlay's Deployment runs, hardened and limited"
}

# The health check as the image states it, on its own default ports.
check_healthcheck() {
  pod run --detach --name "$NAME" --network none --read-only --cap-drop ALL -v "$1:/models:ro" octet:check >/dev/null
  local tries=0
  until pod healthcheck run "$NAME" >/dev/null 2>&1; do
    [ $((tries += 1)) -lt 120 ] || fail "the health check does not become healthy"
    sleep 0.5
  done
  pod rm --force --time 5 "$NAME" >/dev/null
  say "health check: healthy with the image's own command and ports"
}

check_stop() {
  pod stop --time 40 "$NAME" >/dev/null
  [ "$(pod inspect -f '{{.State.ExitCode}}' "$NAME")" = 0 ] || fail "SIGTERM did not end it with exit code 0"
  pod rm "$NAME" >/dev/null
  say "stop: SIGTERM drained it, exit code 0"
}

main() {
  [ "$(id -u)" = 0 ] || fail "root is needed"
  trap clean_up EXIT
  need_tools
  make_base
  build_image
  check_contents
  local repository
  repository=$(realpath "${1:-$(default_repository)}")
  start_hardened "$repository"
  check_running
  check_stop
  check_healthcheck "$repository"
  check_no_shell "$repository"
  check_memory_limit "$repository"
  check_kubernetes_pod "$repository"
  say "passed"
}

main "$@"
