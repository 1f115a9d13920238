#!/bin/bash
# demo.sh: mounts two S3 buckets, two native B2 buckets and a WebDAV folder of local servers, and a local folder, all by the repository's
# mounts.yaml as it stands, uses them, and cleans up whatever happens. `make demo` builds and installs what it needs
# first.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/.build/venv/bin:$PATH
cloudmount=${CLOUDMOUNT_BINARY:-$PWD/.build/release/cloudmount}

export CLOUDMOUNT_DEMO_DIR
CLOUDMOUNT_DEMO_DIR=$(mktemp -d /tmp/cloudmount-demo-XXXX)
dir=$CLOUDMOUNT_DEMO_DIR
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
export CLOUDMOUNT_DEMO_PORT CLOUDMOUNT_DEMO_B2_PORT CLOUDMOUNT_DEMO_WEBDAV_PORT CLOUDMOUNT_DEMO_KEY=demo CLOUDMOUNT_DEMO_SECRET=demo-secret
CLOUDMOUNT_DEMO_PORT=$(free_port)
CLOUDMOUNT_DEMO_B2_PORT=$(free_port)
CLOUDMOUNT_DEMO_WEBDAV_PORT=$(free_port)
mounts=(photos lab backups documents cloud inbox)
endpoint=http://127.0.0.1:$CLOUDMOUNT_DEMO_PORT
server=
# SeaweedFS makes some in /tmp, whatever one says, and leaves them there when it is killed.
sockets=()
b2_server=
webdav_server=
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
    trap '' INT TERM
    if [ -n "$daemon" ]; then end "$daemon" 10; fi
    for mount in "${mounts[@]}"; do
        mountpoint -q "$dir/mnt/$mount" 2>/dev/null && umount -l "$dir/mnt/$mount" || true
    done
    # SeaweedFS sometimes never ends by itself.
    if [ -n "$server" ]; then end "$server" 3; fi
    if [ -n "$b2_server" ]; then end "$b2_server" 3; fi
    if [ -n "$webdav_server" ]; then end "$webdav_server" 3; fi
    if [ $status != 0 ]; then
        echo "demo.sh: failed; the last lines of the servers and of cloudmount:" >&2
        tail -n 12 "$dir/server.log" "$dir/b2.log" "$dir/webdav.log" "$dir/cloudmount.log" >&2 || true
    fi
    rm -rf --one-file-system "$dir"
    rm -f "${sockets[@]}"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
remote=":s3,provider=Other,access_key_id=demo,secret_access_key=demo-secret,endpoint='$endpoint',force_path_style=true"
s3() { rclone --config /dev/null --low-level-retries 1 --retries 1 "$@"; }

export B2_ENVIRONMENT=http://127.0.0.1:$CLOUDMOUNT_DEMO_B2_PORT B2_ACCOUNT_INFO=$dir/b2.account NO_COLOR=1
export B2_APPLICATION_KEY_ID=demo B2_APPLICATION_KEY=demo-secret
b2() { command b2 "$@" 2>"$dir/b2.err" || { cat "$dir/b2.err" >&2; return 1; }; }

say "1. A local S3 server (SeaweedFS) with the buckets 'photos' and 'lab', one of Backblaze B2's native interface with
   'backups' and 'documents' (Backblaze's own simulator), a WebDAV server with the folder 'files' (rclone), and a
   folder 'inbox'"
mkdir -p "$dir/server" "$dir/b2" "$dir/webdav/files" "$dir/inbox" "$dir/mnt"
PYTHONDONTWRITEBYTECODE=1 setpriv --pdeathsig KILL .build/venv/bin/python Tests/Servers/b2_server.py \
    --port "$CLOUDMOUNT_DEMO_B2_PORT" --data "$dir/b2" --key-id demo --key demo-secret --bucket backups \
    --bucket documents >"$dir/b2.log" 2>&1 &
b2_server=$!
RCLONE_CONFIG=/dev/null setpriv --pdeathsig KILL rclone serve webdav --addr "127.0.0.1:$CLOUDMOUNT_DEMO_WEBDAV_PORT" \
    --user demo --pass demo-secret --vfs-cache-mode off "$dir/webdav" >"$dir/webdav.log" 2>&1 &
webdav_server=$!
cat >"$dir/s3.json" <<JSON
{"identities": [{"name": "demo", "credentials": [{"accessKey": "demo", "secretKey": "demo-secret"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
arguments=(-logtostderr=true server -dir="$dir/server" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false
    -master.peers=none -master.volumeSizeLimitMB=1024 -volume.max=100 -s3 -s3.port="$CLOUDMOUNT_DEMO_PORT"
    -s3.config="$dir/s3.json" -s3.port.iceberg=0 -s3.port.lance=0 -s3.autoCreateBucket=false
    -s3.localSocket="$dir/s3.sock" -filer.localSocket="$dir/filer.sock")
for part in master volume filer; do arguments+=(-$part.port="$(free_port)"); done
for part in master volume filer s3; do
    port=$(free_port)
    arguments+=(-$part.port.grpc="$port")
    sockets+=("/tmp/seaweedfs-$part-grpc-$port.sock")
done
WEED_MASTER_VOLUME_GROWTH_COPY_1=1 GOMEMLIMIT=1GiB setpriv --pdeathsig KILL weed "${arguments[@]}" \
    >"$dir/server.log" 2>&1 &
server=$!
for try in $(seq 120); do
    # The gateway answers before the store behind it does: ready is when an object can be put. Each time into another
    # bucket, for it may go on denying one that it was asked for too early.
    s3 mkdir "$remote:ready-$try" >/dev/null 2>&1 || true
    echo ready | s3 rcat "$remote:ready-$try/ready" >/dev/null 2>&1 && break
    kill -0 $server 2>/dev/null || { echo "the server ended" >&2; exit 1; }
    [ "$try" != 120 ] || { echo "the server does not get ready" >&2; exit 1; }
    sleep 0.5
done
s3 purge "$remote:ready-$try"
s3 mkdir "$remote:photos"
s3 mkdir "$remote:lab"
for try in $(seq 120); do
    grep -qx "$CLOUDMOUNT_DEMO_B2_PORT" "$dir/b2.log" && break
    kill -0 $b2_server 2>/dev/null || { echo "the B2 server ended" >&2; exit 1; }
    [ "$try" != 120 ] || { echo "the B2 server does not get ready" >&2; exit 1; }
    sleep 0.5
done

for try in $(seq 120); do
    curl -s -o "$dir/webdav.answer" --fail -u demo:demo-secret -X PROPFIND -H 'Depth: 0' \
        "http://127.0.0.1:$CLOUDMOUNT_DEMO_WEBDAV_PORT/files/" && break
    kill -0 $webdav_server 2>/dev/null || { echo "the WebDAV server ended" >&2; exit 1; }
    [ "$try" != 120 ] || { echo "the WebDAV server does not get ready" >&2; exit 1; }
    sleep 0.5
done

say "2. One process mounts all six by mounts.yaml, each with a cache policy of its own"
run "$cloudmount" check mounts.yaml >/dev/null
"$cloudmount" mount -f mounts.yaml >"$dir/cloudmount.log" 2>&1 &
daemon=$!
for mount in "${mounts[@]}"; do
    for try in $(seq 150); do
        mountpoint -q "$dir/mnt/$mount" && break
        kill -0 $daemon 2>/dev/null || { echo "cloudmount ended" >&2; exit 1; }
        [ "$try" != 150 ] || { echo "$mount is not mounted" >&2; exit 1; }
        sleep 0.1
    done
done
run "$cloudmount" status -f mounts.yaml

say "3. Ordinary programs use them"
git init -q -b main "$dir/repository"
cp -r Plugins "$dir/repository/"
git -C "$dir/repository" add .
git -C "$dir/repository" -c user.name=demo -c user.email=demo@example.org commit -qm "Plugins"
run cp -r Sources "$dir/mnt/photos/"
run diff -r Sources "$dir/mnt/photos/Sources" && echo "the copy is the same"
run cp -r Plugins "$dir/mnt/lab/"
run cp README.md "$dir/mnt/inbox/"
run cp -r docs "$dir/mnt/cloud/"
run mv "$dir/mnt/cloud/docs/decisions" "$dir/mnt/cloud/reasons"
run cp -r Sources/CloudMountVFS "$dir/mnt/backups/"
run git clone -q "file://$dir/repository" "$dir/mnt/documents/repository"
run git -C "$dir/mnt/documents/repository" fsck
run ls -l "$dir/mnt/photos/Sources"
run head -n 3 "$dir/mnt/lab/Plugins/S3Provider/README.md"
run find "$dir/mnt" -name 'S3*.swift' -path '*lab*' -size +4k
run mv "$dir/mnt/photos/Sources" "$dir/mnt/photos/renamed"
run ls -l "$dir/mnt/backups/CloudMountVFS"
echo "changed" >>"$dir/mnt/backups/CloudMountVFS/VFSError.swift"
run rm "$dir/mnt/backups/CloudMountVFS/ObjectKey.swift"
run df -h "${mounts[@]/#/$dir/mnt/}"

say "4. The same from the other side"
echo "bucket photos, by another client of the S3 server (rclone):"
s3 lsf --recursive --files-only "$remote:photos" >"$dir/listing"
head -n 5 "$dir/listing"
echo "objects: $(wc -l <"$dir/listing") in photos," \
    "$(s3 lsf --recursive --files-only "$remote:lab/runs" | wc -l) below lab/runs/"
echo "bucket backups, by Backblaze's own command; what was changed or removed remains as an older version:"
b2 ls --long --versions --recursive b2://backups | awk '/VFSError|ObjectKey/ { print $2, $3, $4, $5, $6 }'
echo "files: $(b2 ls --recursive b2://backups/host-1 | wc -l) in backups," \
    "$(b2 ls --recursive b2://documents | wc -l) in documents"
echo "what the WebDAV server has in its folder:"
ls "$dir/webdav/files" "$dir/webdav/files/reasons" | head -n 6
run ls "$dir/inbox"

say "5. What the daemon did, and the end"
run "$cloudmount" status -f mounts.yaml
kill "$daemon"
wait "$daemon" || true
daemon=
echo "unmounted; everything that the demo made is removed"
