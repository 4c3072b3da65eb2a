# shellcheck shell=bash
# Sourced by tests/run and by the scripts in this folder: paths, and functions that install tools.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034
TOOLS=$ROOT/tests/tools
# The cache is outside the source tree: its content is slow to make and does not depend on the tree.
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

# apt_update: reads the package lists, at most once an hour.
apt_update() {
  command -v apt-get >/dev/null || die "no apt-get here, so nothing can be installed"
  [ -n "$(find "$CACHE/apt-updated" -mmin -60 2>/dev/null)" ] && return
  # Not an error: an unreachable source may not be needed. The installation reports missing
  # packages.
  as_root apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 || say "apt-get update: not every list was read"
  touch "$CACHE/apt-updated"
}

# need_package PACKAGE...: installs the packages that are missing.
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

# need_tool COMMAND PACKAGE: installs the package if the command is missing.
need_tool() { command -v "$1" >/dev/null || need_package "$2"; }

# debian_mirror: prints the address of the Debian archive that apt is set up with.
debian_mirror() {
  local mirror
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' | awk '$2 == "Debian" && !n++ { print $1 }')
  [ -n "$mirror" ] || { say "no Debian mirror in this machine's apt sources"; return 1; }
  echo "$mirror"
}

# need_component COMPONENT: installs a part of the Rust toolchain, such as clippy.
need_component() {
  local command=${1%-preview}
  [ "$command" = rustfmt ] && command=fmt
  cargo "$command" --version >/dev/null 2>&1 || rustup component add "$1" >&2
}

# need_crate CRATE VERSION: installs a command from the package registry, unless this version is
# there.
need_crate() {
  # Not grep -q: it ends cargo early, which pipefail reports as an error.
  cargo install --list | grep "^$1 v$2:" >/dev/null || cargo install --locked --quiet "$1" --version "$2" >&2
}

rust_release() { "$1" -vV | sed -n 's/^release: //p'; }
rust_host() { "$1" -vV | sed -n 's/^host: //p'; }

# core_features: prints the features of core, one per line, without `default`.
core_features() {
  awk '/^\[/ { on = ($0 == "[features]") } on && /^[A-Za-z0-9_-]+ *=/ { sub(/ *=.*/, ""); if ($0 != "default") print }' \
    "$ROOT/core/Cargo.toml"
}

# msrv DIRECTORY: prints the rust-version of the package or of the workspace.
msrv() {
  local v
  v=$(sed -nE 's/^rust-version *= *"([^"]*)".*/\1/p' "$ROOT/$1/Cargo.toml")
  [ -n "$v" ] || v=$(sed -nE 's/^rust-version *= *"([^"]*)".*/\1/p' "$ROOT/Cargo.toml")
  [ -n "$v" ] || die "no rust-version for $1"
  echo "$v"
}

# same_rustc RUSTC FOLDER...: empties each build folder that was last used with another rustc. Cargo
# distinguishes compilers only by version, but cross-std may give one version different libraries.
same_rustc() {
  local rustc=$1 folder
  shift
  for folder; do
    [ "$(cat "$folder/.rustc" 2>/dev/null)" = "$rustc" ] || rm -rf "$folder"
    mkdir -p "$folder"
    echo "$rustc" > "$folder/.rustc"
  done
}
