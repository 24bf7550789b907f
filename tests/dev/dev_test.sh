#!/usr/bin/env bash
# Checks what ./dev decides without making a root: mirrors from apt's files, package lists, keys, what makes a root
# usable, which variables pass, and its refusals. Needs no network and no root.
set -uo pipefail

DEV=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/dev
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
FAILED=0

# check NAME EXPECTED ACTUAL
check() {
  if [ "$2" = "$3" ]; then
    echo "ok    $1"
  else
    printf 'FAIL  %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
    FAILED=1
  fi
}

# in_dev CODE: runs CODE with the functions of ./dev.
in_dev() { bash -c 'source "$1"; set +eu; eval "$2"' dev_test "$DEV" "$1"; }

# apt_folder: an empty apt configuration in $WORK/apt.
apt_folder() {
  rm -rf "$WORK/apt"
  mkdir -p "$WORK/apt/sources.list.d"
}

candidates() { in_dev "mirror_candidates '$WORK/apt'" | paste -sd' '; }

test_one_line_sources() {
  apt_folder
  cat >"$WORK/apt/sources.list" <<'END'
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/x.gpg] http://third.example/node_20.x bookworm main
deb http://pg.example/apt bookworm-pgdg main
deb http://docker.example/linux/debian bookworm stable
deb http://security.example/debian-security bookworm-security main
deb	[ trusted=yes ]  http://archive.example/debian/ bookworm main contrib # the archive
deb http://archive.example/debian bookworm-updates main
END
  check "one-line format: the archive first, third parties after, the rest never" \
    "http://archive.example/debian http://third.example/node_20.x" "$(candidates)"
}

test_deb822_sources() {
  apt_folder
  cat >"$WORK/apt/sources.list.d/debian.sources" <<'END'
Types: deb
# a comment inside a stanza
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main

Types: deb deb-src
URIs: http://archive.example/debian/
 http://second.example/debian
Suites: bookworm bookworm-updates
Components: main non-free
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
END
  check "deb822: several URIs and continuation lines; disabled, source and security stanzas skipped" \
    "http://archive.example/debian http://second.example/debian" "$(candidates)"
}

test_mirror_file() {
  apt_folder
  printf '# list\nhttps://cloud.example/debian\tpriority:1\n' >"$WORK/mirrors.list"
  echo "deb mirror+file:$WORK/mirrors.list bookworm main" >"$WORK/apt/sources.list"
  check "mirror+file is replaced by its addresses" "https://cloud.example/debian" "$(candidates)"
}

test_lists() {
  local all
  all=$(in_dev 'packages build test runtime train lint')
  check "package lists hold only package names" "" "$(grep -vE '^[a-z0-9][a-z0-9+.-]+$' <<<"$all")"
  check "the key does not change between calls" "$(in_dev root_key)" "$(in_dev root_key)"
  check "one more package makes another key" different \
    "$([ "$(in_dev 'root_key')" != "$(in_dev 'packages() { echo one-more; }; root_key')" ] && echo different)"
}

test_root_usable() {
  mkdir -p "$WORK/root/etc"
  check "a root without a stamp is refused" 1 "$(in_dev "root_usable '$WORK/root'; echo \$?")"
  echo other >"$WORK/root/etc/octet-root"
  check "a root with another key is refused" 1 "$(in_dev "root_usable '$WORK/root'; echo \$?")"
  in_dev root_key >"$WORK/root/etc/octet-root"
  check "a stamped root whose tools do not start is refused" refused \
    "$(in_dev "root_usable '$WORK/root' || echo refused")"
}

test_environment() {
  local seen
  seen=$(CI=true OCTET_A='x y' ONEDNN_VERBOSE=1 DNNL_VERBOSE=1 SECRET=1 LD_PRELOAD= MAKEFLAGS=-k in_dev \
    'set_environment; printf "%s\n" "${ENVIRONMENT[@]}"' | grep -E '^(CI|OCTET|ONEDNN|DNNL|SECRET|LD_|MAKE)' | sort | paste -sd,)
  check "CI, OCTET_*, DNNL_* and ONEDNN_* pass and nothing else" \
    "CI=true,DNNL_VERBOSE=1,OCTET_A=x y,ONEDNN_VERBOSE=1" "$seen"
}

test_refusals() {
  local text
  printf 'ID=fedora\nPRETTY_NAME="Fedora 42"\nVERSION_CODENAME=""\n' >"$WORK/os-release"
  text=$(OS_RELEASE=$WORK/os-release "$DEV" setup 2>&1)
  check "another system is refused" 1 $?
  check "the refusal names the system and Docker" 2 "$(grep -cE 'Fedora 42|docker run' <<<"$text")"
  text=$("$DEV" frobnicate 2>&1)
  check "an unknown command is refused" 1 $?
  check "the refusal names the command" 1 "$(grep -c "no command 'frobnicate'" <<<"$text")"
}

# A stand-in program checks that the way inside is exec only: exit code, arguments, start folder.
test_inside() {
  local tree=$WORK/tree
  mkdir -p "$tree/build/release/cli" "$tree/sub"
  cp "$DEV" "$tree/dev"
  printf '#!/bin/sh\necho "$(pwd)|$#|$2"\nexit 7\n' >"$tree/build/release/cli/octet"
  chmod +x "$tree/build/release/cli/octet"
  local out
  out=$(bash -c 'source "$1/dev"; build() { :; }; inside "$1/sub" octet infer "a  b"' x "$tree")
  check "the program's exit code comes out" 7 $?
  check "arguments and start folder go in unchanged" "$tree/sub|2|a  b" "$out"
}

test_one_line_sources
test_deb822_sources
test_mirror_file
test_lists
test_root_usable
test_environment
test_refusals
test_inside
exit $FAILED
