#!/bin/bash
# tarball.sh BINARY FOLDER: makes FOLDER/cloudmount-VERSION-MACHINE.tar.gz, the same files without root: unpack it into / or below ~/.local.
set -euo pipefail
binary=$(realpath "$1")
out=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
name=cloudmount-$("$binary" version | cut -d' ' -f2)-$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

"$here/tree.sh" "$binary" "$work/$name"
install -m 644 "$here/../README.md" "$here/../LICENSE" "$work/$name/"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(date +%s)}" -cf - "$name" |
    gzip -9n > "$out/$name.tar.gz"
echo "$out/$name.tar.gz"
