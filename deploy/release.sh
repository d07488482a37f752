#!/usr/bin/env bash
# Builds fully static binaries for the named targets (all three, if none is named) into target/dist/, with their
# SHA-256 sums: `make release`. Each target is built in one of two ways, and the one taken is said:
#   rustup  where rustup has the target: with its std, its musl and its linker; cc links what runs during the build
#   zig     where it has not: with Debian's Rust, which builds std from its source, and with zig's musl and linker
# The same commit and tools make the same bytes in any folder: no path of this machine gets into a binary.
# A target that can be built in neither way is left out: the others are built, then this fails and names it.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# -gt 0 ] || set -- x86_64-unknown-linux-musl aarch64-unknown-linux-musl arm-unknown-linux-musleabihf
dist=$PWD/target/dist
zig=$PWD/target/zig
export CARGO_TARGET_DIR=$PWD/target

# Rust's flags in the form that allows spaces in paths.
encoded() { local IFS=$'\x1f'; echo "$*"; }

# What stands for the paths of this machine, given its rustc.
neutral_paths() {
  local source_of_std
  source_of_std=$("$1" --print sysroot)/lib/rustlib/src/rust
  echo "--remap-path-prefix=$PWD=/lavaproxy"
  echo "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  echo "--remap-path-prefix=$source_of_std=/rustc/$("$1" -vV | sed -n 's/^commit-hash: //p')"
}

# Two builds that add a target at once get in each other's way: one would fail, and go on with zig.
rustup_has() {
  local in_turn=()
  command -v rustup >/dev/null || return 1
  command -v flock >/dev/null && in_turn=(flock "$(rustup show home)")
  ${in_turn[@]+"${in_turn[@]}"} sh -c 'rustup target list --installed | grep -qx "$1" || rustup target add "$1"' sh "$1" >/dev/null 2>&1
}

build_with_rustup() {
  local flags
  mapfile -t flags < <(neutral_paths rustc)
  CARGO_ENCODED_RUSTFLAGS=$(encoded "${flags[@]}" -C linker=rust-lld -C link-self-contained=yes) \
    cargo build --release --locked --target "$1"
}

zig_is_possible() {
  [ -x /usr/bin/cargo ] && [ -e "$(/usr/bin/rustc --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.lock" ] \
    && python3 -c 'import venv, ensurepip' 2>/dev/null
}

# zig and cargo-zigbuild as pinned beside this script.
install_zig() {
  if cmp -s deploy/zig-requirements.txt "$zig/installed"; then return; fi
  rm -rf "$zig"
  python3 -m venv "$zig"
  "$zig/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/zig-requirements.txt
  cp deploy/zig-requirements.txt "$zig/installed"
}

build_with_zig() {
  local flags
  install_zig
  mapfile -t flags < <(neutral_paths /usr/bin/rustc)
  # Stable Rust builds std only with this variable.
  CARGO_ENCODED_RUSTFLAGS=$(encoded "${flags[@]}" -C link-self-contained=no -C target-feature=+crt-static) \
    RUSTC_BOOTSTRAP=1 PATH="$zig/bin:$PATH" CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc \
    ZIG_GLOBAL_CACHE_DIR="$zig/cache" CARGO_ZIGBUILD_CACHE_DIR="$zig/wrappers" \
    "$zig/bin/cargo-zigbuild" zigbuild --release --locked -Zbuild-std=std,panic_abort --target "$1"
}

rm -rf "$dist"
mkdir -p "$dist"
missing=()
for target; do
  if rustup_has "$target"; then
    echo "$target: with rustup's std"
    build_with_rustup "$target"
  elif zig_is_possible; then
    echo "$target: rustup does not have it; with Debian's Rust, std built from its source, and zig"
    build_with_zig "$target"
  else
    echo "$target: missing, see below"
    missing+=("$target")
    continue
  fi
  cp "target/$target/release/lavaproxy" "$dist/lavaproxy-$target"
done
cd "$dist"
if [ ${#missing[@]} -lt $# ]; then
  sha256sum lavaproxy-* >SHA256SUMS
  wc -c lavaproxy-*
  cat SHA256SUMS
fi
for target in ${missing[@]+"${missing[@]}"}; do
  cat >&2 <<END
Rust's target $target is missing. Install one of:
  - rustup (https://rustup.rs), then: rustup target add $target
  - Debian 12: apt-get install rustc-web cargo-web rust-web-src python3-venv
    (newer Debian: rustc cargo rust-src python3-venv), Rust 1.85 or newer
END
done
[ ${#missing[@]} -eq 0 ]
