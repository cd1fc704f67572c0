#!/bin/sh
# fetch.sh ARCH DIRECTORY: download the tools for amd64 or arm64 into DIRECTORY, each checked against checksums.txt.
set -eu
arch=$1
target=$2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/versions.env"
github=https://github.com

case $arch in
    amd64) gnu=x86_64; bun=x64 ;;
    arm64) gnu=aarch64; bun=aarch64 ;;
    *) echo "no tools for architecture $arch" >&2; exit 1 ;;
esac

get() { # URL FILE
    curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
    if ! grep -E "^[0-9a-f]{64}  $2\$" "$here/checksums.txt" | sha256sum --check --strict --status; then
        echo "$2 does not match its checksum in checksums.txt, or is not listed there; see pin.sh" >&2
        exit 1
    fi
}

work=$(mktemp -d)
cd "$work"
mkdir -p "$target"
get "$github/getsops/sops/releases/download/v$SOPS_VERSION/sops-v$SOPS_VERSION.linux.$arch" "sops-v$SOPS_VERSION.linux.$arch"
get "$github/helmfile/vals/releases/download/v$VALS_VERSION/vals_${VALS_VERSION}_linux_$arch.tar.gz" "vals_${VALS_VERSION}_linux_$arch.tar.gz"
get "$github/mikefarah/yq/releases/download/v$YQ_VERSION/yq_linux_$arch" "yq_linux_$arch"
get "$github/astral-sh/uv/releases/download/$UV_VERSION/uv-$gnu-unknown-linux-gnu.tar.gz" "uv-$gnu-unknown-linux-gnu.tar.gz"
get "$github/oven-sh/bun/releases/download/bun-v$BUN_VERSION/bun-linux-$bun.zip" "bun-linux-$bun.zip"

tar -xzf "vals_${VALS_VERSION}_linux_$arch.tar.gz" vals
tar -xzf "uv-$gnu-unknown-linux-gnu.tar.gz"
unzip -q "bun-linux-$bun.zip"
install -m 0755 "sops-v$SOPS_VERSION.linux.$arch" "$target/sops"
install -m 0755 vals "$target/vals"
install -m 0755 "yq_linux_$arch" "$target/yq"
install -m 0755 "uv-$gnu-unknown-linux-gnu/uv" "uv-$gnu-unknown-linux-gnu/uvx" "$target/"
install -m 0755 "bun-linux-$bun/bun" "$target/bun"
cd / && rm -rf "$work"
