#!/usr/bin/env python3
"""A server of Backblaze's native B2 API for tests, on 127.0.0.1: b2sdk's simulator of the service behind HTTP.

Prints its port when it is ready. State is in memory, bodies are in a folder; both are gone when it ends. What tests can
switch on is in b2_control.py.
"""
import argparse
import os
import signal
import sys
import tempfile
import threading

import b2_http
from b2_bodies import BodyStore
from b2_service import make_service


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="unset: any that is free")
    parser.add_argument("--data", help="folder of the bodies; unset: a temporary one")
    parser.add_argument("--key-id", default="0123456789abcdef000000001")
    parser.add_argument("--key", default="K001testApplicationKeyOfTheMaster")
    parser.add_argument("--bucket", action="append", default=[], help="made at once; may be repeated")
    parser.add_argument("--min-part", type=int, default=5_000_000, help="absoluteMinimumPartSize")
    parser.add_argument("--part", type=int, default=100_000_000, help="recommendedPartSize")
    arguments = parser.parse_args()
    if arguments.data and not os.path.isdir(arguments.data):
        parser.error(f"--data: there is no folder {arguments.data}")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Short turns: a call must not wait while another thread compiles a listing.
    sys.setswitchinterval(0.001)
    threading.stack_size(512 << 10)
    with tempfile.TemporaryDirectory(prefix="b2-bodies-", dir=arguments.data) as directory:
        service = make_service(
            arguments.key_id, arguments.key, BodyStore(directory), arguments.min_part, arguments.part)
        key = service.account.key_id_to_key[arguments.key_id]
        for name in arguments.bucket:
            service.account.make_bucket(key, name)
        listener = b2_http.listen(arguments.port)
        print(listener.getsockname()[1], flush=True)
        try:
            b2_http.serve_forever(listener, service.serve)
        except KeyboardInterrupt:
            pass


main()
