#!/bin/bash
# setup.sh [build] [test] [package] [bench]: installs what is missing for that, from Debian and PyPI. Says nothing when all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

root=()
if [ "$(id -u)" != 0 ]; then root=(sudo); fi
venv=$PWD/.build/venv
export PATH=$venv/bin:$PATH

packages=()
# package NAME CHECK...: wants a Debian package unless the check succeeds
package() {
    local name=$1
    shift
    "$@" >/dev/null 2>&1 || packages+=("$name")
}
program() { package "$1" command -v "$2"; }

servers=no
for what in "${@:-build}"; do
    case $what in
    build)
        program pkg-config pkg-config
        package libfuse3-dev pkg-config --exists fuse3
        package libcurl4-openssl-dev pkg-config --exists libcurl
        package libssl-dev pkg-config --exists libcrypto
        package libyaml-dev pkg-config --exists yaml-0.1
        package libxml2-dev pkg-config --exists libxml-2.0
        package libsqlite3-dev pkg-config --exists sqlite3
        ;;
    test)
        servers=yes
        program fuse3 fusermount3
        program curl curl
        program git git
        program sqlite3 sqlite3
        program rsync rsync
        program attr setfattr
        program acl setfacl
        program s3fs s3fs
        program util-linux setpriv
        program systemd systemd-analyze
        program lintian lintian
        program zsh zsh
        program fish fish
        program groff groff
        program chrpath chrpath
        package dpkg-dev command -v dpkg-shlibdeps
        package apache2-bin test -x /usr/sbin/apache2
        program python3 python3
        ;;
    package)
        program chrpath chrpath
        package dpkg-dev command -v dpkg-shlibdeps
        program python3 python3
        ;;
    bench)
        servers=yes
        program fuse3 fusermount3
        program s3fs s3fs
        program g++ g++
        program python3 python3
        ;;
    *)
        echo "setup.sh: '$what' is none of build, test, package, bench" >&2
        exit 2
        ;;
    esac
done

missing=()
if [ $servers = yes ]; then
    for name in weed moto_server rclone b2; do command -v $name >/dev/null || missing+=($name); done
    if [ ${#missing[@]} != 0 ]; then package python3-venv python3 -c 'import ensurepip, venv'; fi
fi

if ! command -v swift >/dev/null; then
    echo "Swift 6.2 or later is needed: https://www.swift.org/install/linux" >&2
    exit 1
fi
if [ ${#packages[@]} != 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "Please install what Debian calls: ${packages[*]}" >&2
        exit 1
    fi
    echo "installing from Debian: ${packages[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
if [ ${#missing[@]} != 0 ]; then
    echo "installing from PyPI into .build/venv, for: ${missing[*]}"
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r Tests/Tools/requirements.txt
fi
