#!/usr/bin/env bash
# Builds the image and runs it as hardened as an operator would, on a Debian machine without Docker and without a registry.
#
# usage (as root): tests/image/check_image.sh [MODEL_REPOSITORY]
# podman comes from apt; debian:trixie-slim is made with mmdebstrap, so FROM resolves locally. Without a repository the
# embedded model's ONNX file is served. Takes minutes (it compiles everything), so it is not part of ./dev test.
# Images live in a scratch folder that is removed at the end; KEEP=1 keeps it and prints its path.
set -euo pipefail

SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
SCRATCH=$(mktemp -d)
NAME=octet-check-$$
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
  for tool in podman buildah runc mmdebstrap curl; do
    command -v $tool >/dev/null || missing+=($tool)
  done
  if [ ${#missing[@]} != 0 ]; then
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 install -y --no-install-recommends \
      "${missing[@]}" netavark iptables catatonit
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
  pod build --network host --pull=never --format docker -t octet:check "$SRC" >"$SCRATCH/build.log" 2>&1 || {
    tail -n 40 "$SCRATCH/build.log" >&2
    fail "the Dockerfile does not build"
  }
  say "built: $(pod image inspect -f '{{.Size}}' octet:check | awk '{printf "%.0f MB", $1 / 1e6}')," \
    "of which base $(pod image inspect -f '{{.Size}}' debian:trixie-slim | awk '{printf "%.0f MB", $1 / 1e6}')"
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
  say "passed"
}

main "$@"
