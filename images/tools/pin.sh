#!/bin/sh
# pin.sh: write checksums.txt for the versions in versions.env, from the sums that each project publishes with its
# release. Run it with access to the releases, review the difference, commit it.
set -eu
cd "$(dirname "$0")"
. ./versions.env
github=https://github.com
get() { curl --fail --silent --show-error --location --retry 3 "$1"; }
pick() { grep -E "  \*?($1)\$" | sed 's/  \*/  /'; }

{
    get "$github/getsops/sops/releases/download/v$SOPS_VERSION/sops-v$SOPS_VERSION.checksums.txt" |
        pick "sops-v$SOPS_VERSION\.linux\.(amd64|arm64)"
    get "$github/helmfile/vals/releases/download/v$VALS_VERSION/vals_${VALS_VERSION}_checksums.txt" |
        pick "vals_${VALS_VERSION}_linux_(amd64|arm64)\.tar\.gz"
    for arch in amd64 arm64; do # yq publishes many kinds of sums in one line, so compute the file's own and look for it
        sum=$(get "$github/mikefarah/yq/releases/download/v$YQ_VERSION/yq_linux_$arch" | sha256sum | cut -d ' ' -f 1)
        get "$github/mikefarah/yq/releases/download/v$YQ_VERSION/checksums" | grep -q "^yq_linux_$arch .*$sum" ||
            { echo "yq_linux_$arch does not match its published checksums" >&2; exit 1; }
        echo "$sum  yq_linux_$arch"
    done
    for gnu in x86_64 aarch64; do
        get "$github/astral-sh/uv/releases/download/$UV_VERSION/uv-$gnu-unknown-linux-gnu.tar.gz.sha256" |
            sed 's/ \*/  /'
    done
    get "$github/oven-sh/bun/releases/download/bun-v$BUN_VERSION/SHASUMS256.txt" | pick "bun-linux-(x64|aarch64)\.zip"
} >checksums.txt.new
mv checksums.txt.new checksums.txt
