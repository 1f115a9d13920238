#!/usr/bin/env python3
"""What idle mounts cost: memory, threads and descriptors of one process with 1, 20 and 100 of them.

    Tests/Tools/idle_mounts.py .build/release/cloudmount [COUNT ...]

Every third mount is a local folder, every third a bucket in memory, every third an S3 bucket of a server that this
script plays. Each is looked at once (`ls`), then left alone for some seconds. Needs /dev/fuse; run it as root.
"""

import http.server
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

LISTING = (
    '<?xml version="1.0"?><ListBucketResult><Name>b</Name><Prefix></Prefix><KeyCount>0</KeyCount>'
    "<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)


class Empty(http.server.BaseHTTPRequestHandler):
    """An S3 server whose buckets are empty."""

    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.answer(200, LISTING.encode())

    def do_HEAD(self):
        self.answer(200 if self.path.count("/") == 1 else 404)

    def log_message(self, *_):
        pass


def measure(binary, count, port):
    folder = tempfile.mkdtemp(prefix="cloudmount-idle-")
    mounts = []
    for number in range(count):
        where = f"name: m{number}, path: {folder}/mnt/m{number}, "
        if number % 3 == 0:
            os.mkdir(f"{folder}/store{number}")
            mounts.append(f"{where} provider: directory, bucket: {folder}/store{number}")
        elif number % 3 == 1:
            mounts.append(f"{where} provider: memory, bucket: b{number}")
        else:
            mounts.append(
                f"{where} provider: s3, bucket: bucket{number}, endpoint: 'http://127.0.0.1:{port}', region: here, "
                "path_style: true, read_only: true, credentials: key"
            )
    os.mkdir(f"{folder}/mnt")
    with open(f"{folder}/mounts.yaml", "w") as file:
        file.write(
            "version: 1\n"
            f"cache: {{ directory: {folder}/cache }}\ncontrol: {{ socket: {folder}/control.sock }}\n"
            "credentials:\n  key: { provider: s3, access_key_id: a, secret_access_key: b }\nmounts:\n"
            + "".join(f"  - {{ {mount} }}\n" for mount in mounts)
        )
    os.chmod(f"{folder}/mounts.yaml", 0o600)
    began = time.monotonic()
    daemon = subprocess.Popen(
        [binary, "mount", "-f", f"{folder}/mounts.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while True:
            with open("/proc/self/mountinfo") as file:
                shown = file.read().count(f" {folder}/mnt/")
            if shown == count:
                break
            if daemon.poll() is not None or time.monotonic() - began > 60:
                raise SystemExit(f"{shown} of {count} mounts: {daemon.stderr.read().decode() if daemon.poll() is not None else ''}")
            time.sleep(0.01)
        start = time.monotonic() - began
        for number in range(count):
            os.listdir(f"{folder}/mnt/m{number}")
        time.sleep(12)
        facts = {}
        with open(f"/proc/{daemon.pid}/status") as file:
            for line in file:
                name, _, value = line.partition(":")
                facts[name] = value.split()[0] if value.split() else ""
        descriptors = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        before = resource_use(daemon.pid)
        time.sleep(5)
        idle = resource_use(daemon.pid) - before
        print(
            f"{count:6} {int(facts['VmRSS']) / 1024:8.1f} {int(facts['RssAnon']) / 1024:9.1f} {facts['Threads']:>8} {descriptors:11}"
            f" {start:9.2f} {1000 * idle / 5:9.2f}"
        )
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
        for number in range(count):
            subprocess.run(["umount", "-l", f"{folder}/mnt/m{number}"], stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def resource_use(pid):
    """CPU seconds so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    http.server.ThreadingHTTPServer.request_queue_size = 256
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("mounts  RSS MiB  anon MiB  threads descriptors  start s  idle ms CPU/s")
    for count in [int(word) for word in sys.argv[2:]] or [1, 20, 100]:
        measure(sys.argv[1], count, server.server_address[1])


main()
