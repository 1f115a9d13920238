#!/bin/bash
# demo.sh: mounts two S3 buckets of a local server and a folder by the repository's mounts.yaml as it stands, uses them,
# and cleans up whatever happens. `make demo` builds and installs what it needs first.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/.build/venv/bin:$PATH
cloudmount=$PWD/.build/release/cloudmount

export CLOUDMOUNT_DEMO_DIR
CLOUDMOUNT_DEMO_DIR=$(mktemp -d /tmp/cloudmount-demo-XXXX)
dir=$CLOUDMOUNT_DEMO_DIR
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
export CLOUDMOUNT_DEMO_PORT CLOUDMOUNT_DEMO_KEY=demo CLOUDMOUNT_DEMO_SECRET=demo-secret
CLOUDMOUNT_DEMO_PORT=$(free_port)
endpoint=http://127.0.0.1:$CLOUDMOUNT_DEMO_PORT
server=
daemon=

# end PID SECONDS: asks a process to end, and makes it end when it has not after so long
end() {
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq $(($2 * 10))); do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

cleanup() {
    local status=$?
    trap - EXIT
    if [ -n "$daemon" ]; then end "$daemon" 10; fi
    for mount in photos lab inbox; do
        mountpoint -q "$dir/mnt/$mount" 2>/dev/null && umount -l "$dir/mnt/$mount" || true
    done
    # SeaweedFS sometimes never ends by itself.
    if [ -n "$server" ]; then end "$server" 3; fi
    if [ $status != 0 ]; then
        echo "demo.sh: failed; the last lines of the server and of cloudmount:" >&2
        tail -n 12 "$dir/server.log" "$dir/cloudmount.log" >&2 || true
    fi
    rm -rf --one-file-system "$dir"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
remote=":s3,provider=Other,access_key_id=demo,secret_access_key=demo-secret,endpoint='$endpoint',force_path_style=true"
s3() { rclone --config /dev/null --low-level-retries 1 --retries 1 "$@"; }

say "1. A local S3 server (SeaweedFS) with the buckets 'photos' and 'lab', and a folder 'inbox'"
mkdir -p "$dir/server" "$dir/inbox" "$dir/mnt"
cat >"$dir/s3.json" <<JSON
{"identities": [{"name": "demo", "credentials": [{"accessKey": "demo", "secretKey": "demo-secret"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
arguments=(-logtostderr=true server -dir="$dir/server" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false
    -master.peers=none -master.volumeSizeLimitMB=1024 -volume.max=100 -s3 -s3.port="$CLOUDMOUNT_DEMO_PORT"
    -s3.config="$dir/s3.json" -s3.port.iceberg=0 -s3.port.lance=0 -s3.autoCreateBucket=false
    -s3.localSocket="$dir/s3.sock" -filer.localSocket="$dir/filer.sock")
for part in master volume filer; do
    arguments+=(-$part.port="$(free_port)" -$part.port.grpc="$(free_port)")
done
arguments+=(-s3.port.grpc="$(free_port)")
WEED_MASTER_VOLUME_GROWTH_COPY_1=1 GOMEMLIMIT=1GiB setpriv --pdeathsig KILL weed "${arguments[@]}" \
    >"$dir/server.log" 2>&1 &
server=$!
for try in $(seq 120); do
    # The gateway answers before the store behind it does: ready is when an object can be put.
    s3 mkdir "$remote:photos" >/dev/null 2>&1 || true
    echo ready | s3 rcat "$remote:photos/ready" >/dev/null 2>&1 && break
    kill -0 $server 2>/dev/null || { echo "the server ended" >&2; exit 1; }
    [ "$try" != 120 ] || { echo "the server does not get ready" >&2; exit 1; }
    sleep 0.5
done
s3 deletefile "$remote:photos/ready"
s3 mkdir "$remote:lab"

say "2. One process mounts all three by mounts.yaml"
run "$cloudmount" check mounts.yaml >/dev/null
"$cloudmount" mount -f mounts.yaml >"$dir/cloudmount.log" 2>&1 &
daemon=$!
for mount in photos lab inbox; do
    for try in $(seq 150); do
        mountpoint -q "$dir/mnt/$mount" && break
        kill -0 $daemon 2>/dev/null || { echo "cloudmount ended" >&2; exit 1; }
        [ "$try" != 150 ] || { echo "$mount is not mounted" >&2; exit 1; }
        sleep 0.1
    done
done
run "$cloudmount" status -f mounts.yaml

say "3. Ordinary programs use them"
run cp -r Sources "$dir/mnt/photos/"
run diff -r Sources "$dir/mnt/photos/Sources" && echo "the copy is the same"
run cp -r Plugins "$dir/mnt/lab/"
run cp README.md "$dir/mnt/inbox/"
run ls -l "$dir/mnt/photos/Sources"
run head -n 3 "$dir/mnt/lab/Plugins/S3Provider/README.md"
run find "$dir/mnt" -name 'S3*.swift' -path '*lab*' -size +4k
run mv "$dir/mnt/photos/Sources" "$dir/mnt/photos/renamed"
run df -h "$dir/mnt/photos" "$dir/mnt/lab" "$dir/mnt/inbox"

say "4. The same from the other side"
echo "bucket photos, by another client of the S3 server (rclone):"
s3 lsf --recursive --files-only "$remote:photos" >"$dir/listing"
head -n 5 "$dir/listing"
echo "objects: $(wc -l <"$dir/listing") in photos," \
    "$(s3 lsf --recursive --files-only "$remote:lab/runs" | wc -l) below lab/runs/"
run ls "$dir/inbox"

say "5. What the daemon did, and the end"
run "$cloudmount" status -f mounts.yaml
kill "$daemon"
wait "$daemon" || true
daemon=
echo "unmounted; everything that the demo made is removed"
