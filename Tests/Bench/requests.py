#!/usr/bin/env python3
"""What one small request costs CloudMount, beside a bare libcurl loop: `make bench-requests` builds what it needs first.

    requests.py [--program PATH]... [WIDTH [REQUESTS [ROUNDS]]]

Several programs, as of two commits, take turns."""

import argparse
import os
import subprocess

from machine import ROOT, Server

OURS = os.path.join(ROOT, ".build", "release", "request-bench")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", action="append", help="default: %s" % os.path.relpath(OURS, ROOT))
parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER")
options = parser.parse_args()

server = Server()
try:
    server.make("requests/object", 64 << 20)
    for program in options.program or [OURS]:
        if options.program:
            print(program)
        subprocess.check_call([program, str(server.port), *map(str, options.numbers)])
finally:
    server.end()
