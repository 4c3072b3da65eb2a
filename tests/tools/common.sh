# shellcheck shell=bash
# Sourced by tests/run and by the helpers beside this file: paths, and how to get what is missing.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034
TOOLS=$ROOT/tests/tools
# What is slow to make and does not depend on the source tree lives outside it.
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/virtside
mkdir -p "$CACHE"
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export DEBIAN_FRONTEND=noninteractive

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo -n "$@"
  else die "needs root: $*"; fi
}

# A new machine knows no package until its lists are read; once an hour is enough.
apt_update() {
  command -v apt-get >/dev/null || die "no apt-get here, so nothing can be installed"
  [ -n "$(find "$CACHE/apt-updated" -mmin -60 2>/dev/null)" ] && return
  # A source that this project does not need may be out of reach: what matters is the install.
  as_root apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 || say "apt-get update: not every list was read"
  touch "$CACHE/apt-updated"
}

# need_package PACKAGE...: installs those that are not.
need_package() {
  local p missing=()
  for p; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
  [ ${#missing[@]} = 0 ] && return
  apt_update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 install "${missing[@]}" >&2
}

# need_tool COMMAND PACKAGE: the command may also come from elsewhere than its package.
need_tool() { command -v "$1" >/dev/null || need_package "$2"; }

# need_component COMPONENT: a part of the Rust toolchain, such as clippy.
need_component() {
  local command=${1%-preview}
  [ "$command" = rustfmt ] && command=fmt
  cargo "$command" --version >/dev/null 2>&1 || rustup component add "$1" >&2
}

# need_crate CRATE VERSION: a command from the package registry; reinstalled if the version does not match.
need_crate() {
  # Not grep -q: it would end cargo early, and pipefail would take that for an error.
  cargo install --list | grep "^$1 v$2:" >/dev/null || cargo install --locked --quiet "$1" --version "$2" >&2
}

rust_release() { "$1" -vV | sed -n 's/^release: //p'; }
rust_host() { "$1" -vV | sed -n 's/^host: //p'; }

# core_features: the names in the [features] table of core, one a line, without `default`.
core_features() {
  awk '/^\[/ { on = ($0 == "[features]") } on && /^[A-Za-z0-9_-]+ *=/ { sub(/ *=.*/, ""); if ($0 != "default") print }' \
    "$ROOT/core/Cargo.toml"
}

# msrv DIRECTORY: the package's rust-version, or the workspace's.
msrv() {
  local v
  v=$(sed -nE 's/^rust-version *= *"([^"]*)".*/\1/p' "$ROOT/$1/Cargo.toml")
  [ -n "$v" ] || v=$(sed -nE 's/^rust-version *= *"([^"]*)".*/\1/p' "$ROOT/Cargo.toml")
  [ -n "$v" ] || die "no rust-version for $1"
  echo "$v"
}

# same_rustc RUSTC FOLDER...: empties build folders that another rustc was used for last. Cargo tells
# compilers apart by version only, and cross-std has several ways to the libraries of one.
same_rustc() {
  local rustc=$1 folder
  shift
  for folder; do
    [ "$(cat "$folder/.rustc" 2>/dev/null)" = "$rustc" ] || rm -rf "$folder"
    mkdir -p "$folder"
    echo "$rustc" > "$folder/.rustc"
  done
}
