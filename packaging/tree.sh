#!/bin/bash
# tree.sh BINARY FOLDER: puts all that is installed below FOLDER, as Debian has it: the binary stripped, helpers for mount(8), units,
# completions, manual pages, example, sysusers and tmpfiles.
set -euo pipefail
binary=$(realpath "$1")
root=$2
here=$(cd "$(dirname "$0")" && pwd)
version=$("$binary" version | cut -d' ' -f2)
date=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%d)

install -D -m 755 "$binary" "$root/usr/bin/cloudmount"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/cloudmount"
# SwiftPM has it look for libraries beside itself, where none are.
chrpath -d "$root/usr/bin/cloudmount" >/dev/null
install -d "$root/usr/sbin"
ln -s ../bin/cloudmount "$root/usr/sbin/mount.cloudmount"
ln -s ../bin/cloudmount "$root/usr/sbin/mount.fuse.cloudmount"

install -D -m 644 "$here/systemd/cloudmount.service" "$root/lib/systemd/system/cloudmount.service"
install -D -m 644 "$here/systemd/cloudmount-user.service" "$root/usr/lib/systemd/user/cloudmount.service"
install -D -m 644 "$here/sysusers.conf" "$root/usr/lib/sysusers.d/cloudmount.conf"
install -D -m 644 "$here/tmpfiles.conf" "$root/usr/lib/tmpfiles.d/cloudmount.conf"

install -d "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
    "$root/usr/share/fish/vendor_completions.d"
"$binary" --generate-completion-script bash | sed '1{/^#!/d}' > "$root/usr/share/bash-completion/completions/cloudmount"
"$binary" --generate-completion-script zsh > "$root/usr/share/zsh/vendor-completions/_cloudmount"
"$binary" --generate-completion-script fish > "$root/usr/share/fish/vendor_completions.d/cloudmount.fish"

man=$root/usr/share/man
install -d "$man/man1" "$man/man8"
"$binary" --experimental-dump-help | python3 "$here/man.py" "$version" "$date" "$man/man1"
sed "s/@VERSION@/$version/; s/@DATE@/$date/" "$here/mount.cloudmount.8" > "$man/man8/mount.cloudmount.8"
find "$man" -name '*.[18]' -exec gzip -9n {} +
ln -s mount.cloudmount.8.gz "$man/man8/mount.fuse.cloudmount.8.gz"

install -D -m 644 "$here/../mounts.yaml" "$root/usr/share/doc/cloudmount/examples/mounts.yaml"
install -D -m 644 "$here/debian/copyright" "$root/usr/share/doc/cloudmount/copyright"
find "$root" -type d -exec chmod 755 {} +
find "$root" -type f ! -path '*/bin/*' -exec chmod 644 {} +
