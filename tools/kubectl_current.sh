#!/bin/sh
# Builds a current kubectl by name and version from the Go module proxy, for the black-box suites: Debian's is 1.20.
#
#   tools/kubectl_current.sh FILE      the program is written to FILE; nothing happens when it is there already
#
# The Go toolchain is find_go.sh's. k8s.io/kubernetes takes its staging modules from its own tree, which a module proxy does not serve:
# each is replaced by the release that was published from it.
set -eu

VERSION=1.36.3
STAGING=v0.36.3
GO_MINIMUM=1.26

[ $# -eq 1 ] || { echo "usage: $0 FILE" >&2; exit 2; }
[ ! -x "$1" ] || exit 0
mkdir -p "$(dirname "$1")"
target="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

GO=$("$(dirname "$0")/find_go.sh" "$(dirname "$target")/go-toolchain")
export GOTOOLCHAIN=local
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
