#!/bin/bash
# deb.sh BINARY FOLDER: makes FOLDER/cloudmount_VERSION_ARCH.deb. Not as root.
set -euo pipefail
binary=$(realpath "$1")
out=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
version=${VERSION:-$("$binary" version | cut -d' ' -f2)}
arch=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
root=$work/root

"$here/tree.sh" "$binary" "$root"
{
    echo "cloudmount ($version) unstable; urgency=medium"
    echo
    echo "  * See the repository's log."
    echo
    echo " -- CloudMount maintainers <cloudmount@example.org>  $(date -u -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")"
} | gzip -9n > "$root/usr/share/doc/cloudmount/changelog.gz"

install -d "$root/DEBIAN" "$work/debian"
echo "Source: cloudmount" > "$work/debian/control"
# Where the Swift libraries are linked dynamically (a debug build) they come from no package.
depends=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info ${SWIFT_LIBRARIES:+-l"$SWIFT_LIBRARIES"} \
    "$root/usr/bin/cloudmount" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
size=$(du -sk --apparent-size "$root" | cut -f1)
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@DEPENDS@/$depends/" \
    "$here/debian/control.in" > "$root/DEBIAN/control"
for script in postinst prerm postrm; do install -m 755 "$here/debian/$script" "$root/DEBIAN/$script"; done
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN/md5sums" "$root/DEBIAN/control"
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/cloudmount_${version}_$arch.deb" > /dev/null
echo "$out/cloudmount_${version}_$arch.deb"
