"""What is done in a mount, and what it costs. Each workload returns figures by the names that `bench.py` prints."""

import json
import os
import shutil
import time

from machine import (Failed, build, busy_seconds, cpu_seconds, forget_peak, own_seconds, peak_megabytes, run,
                     wait_until)

MIB = 1 << 20


class Sizes:
    """How much of everything. The quick benchmark is too short for steady figures: it shows that all works."""

    def __init__(self, quick):
        self.large = (256 if quick else 1024) * MIB
        self.rewritten = (64 if quick else 256) * MIB
        self.files = 500 if quick else 2000
        self.flat = 5_000 if quick else 20_000
        self.folders = 20 if quick else 100
        self.renamed = 200 if quick else 1000
        self.seconds = 1.5 if quick else 4
        self.timeout = 8 if quick else 30
        self.loop = 4 if quick else 10


class Work:
    """One contender's mount while a workload runs."""

    threads = 8
    jobs = 16

    def __init__(self, contender, server, store, sizes, latency):
        self.contender = contender
        self.server = server
        self.store = store
        self.sizes = sizes
        self.is_raw = contender.name == "raw"
        self.root = getattr(contender, "path", "")
        self.connections = 16 if latency else 4
        self.cost = {}

    def raw(self, *arguments):
        command = [build("raw"), str(self.server.port), self.store, *map(str, arguments)]
        return json.loads(run(command, self.sizes.timeout))

    def files(self, *arguments):
        return json.loads(run([build("files"), *map(str, arguments)], self.sizes.timeout))

    def path(self, name):
        return os.path.join(self.root, name)

    def wait(self, holds):
        wait_until(holds, self.sizes.timeout)

    def measured(self, body):
        """Runs `body`; notes what mounter, server and others used meanwhile.

        - Returns: its result with the seconds that it took until it returned.
        """
        process = self.contender.process
        pid = process.pid if process else 0
        if pid:
            forget_peak(pid)
        stats, cpu, served = self.server.stats(), cpu_seconds(pid), cpu_seconds(self.server.process.pid)
        busy, own, began = busy_seconds(), own_seconds(), time.monotonic()
        result = body()
        seconds = time.monotonic() - began
        used = cpu_seconds(pid) - cpu
        serving = cpu_seconds(self.server.process.pid) - served
        others = busy_seconds() - busy - used - serving - (own_seconds() - own)
        after = self.server.stats()
        requests = {kind: after[kind] - stats.get(kind, 0) for kind in after if kind.isupper()}
        requests = {kind: count for kind, count in requests.items() if count}
        self.cost = {
            "cpu_s": round(used, 2),
            "peak_mb": round(peak_megabytes(pid), 1),
            "requests": sum(requests.values()),
            "kinds": requests,
            "up_mb": round((after["received"] - stats["received"]) / 1e6, 1),
            "down_mb": round((after["sent"] - stats["sent"]) / 1e6, 1),
            "connections": after["connections"] - stats["connections"],
            "others_cpu_s": round(max(0.0, others), 2),
            "seconds": round(seconds, 3),
        }
        return result


def until(work, body, holds):
    """Seconds that a program spent in `body`, and then until the server has it all."""
    seconds = body()["seconds"]
    began = time.monotonic()
    work.wait(holds)
    return seconds + time.monotonic() - began


def read(work):
    size = work.sizes.large
    if not work.server.etag("large", size):
        work.server.make("large", size)

    def prepared():
        if work.is_raw:
            return work.raw("get", "large", size, work.connections)
        return work.files("read", work.path("large"), size)

    result = work.measured(prepared)
    figures = {"read": size / result["seconds"] / 1e6}
    if "first" in result:
        figures["first"] = result["first"] * 1e3
    return figures


def write(work):
    size = work.sizes.large
    work.server.drop("written")

    def body():
        if work.is_raw:
            return work.raw("put", "written", size, work.connections)["seconds"]
        return until(
            work,
            lambda: work.files("write", work.path("written"), size),
            lambda: work.server.etag("written", size) != "",
        )

    seconds = work.measured(body)
    if work.server.check("written") != "0":
        raise Failed("the server has other bytes")
    work.server.drop("written")
    return {"write": size / seconds / 1e6}


def create(work):
    name, count = "created/", work.sizes.files
    work.server.drop(name)

    def body():
        if work.is_raw:
            return count / work.raw("create", name, count, work.threads)["seconds"]
        result = work.files("create", work.path("created"), count, work.threads, work.sizes.loop)
        began = time.monotonic()
        work.wait(lambda: work.server.count(name + "f", size=4096) >= result["count"])
        return result["count"] / (result["seconds"] + time.monotonic() - began)

    rate = work.measured(body)
    work.server.drop(name)
    return {"create": rate}


def small(work):
    name, count = "small/", work.sizes.files
    if work.server.count(name) != count:
        work.server.fill(name, count, 4096)

    def body():
        if work.is_raw:
            return work.raw("readall", name, count, work.threads)
        return work.files("readall", work.path("small"), count, work.threads, work.sizes.loop)

    result = work.measured(body)
    return {"small": result["count"] / result["seconds"]}


def random(work):
    size = work.sizes.large
    if not work.server.etag("large", size):
        work.server.make("large", size)

    def body():
        if work.is_raw:
            return work.raw("random", "large", size, work.jobs, work.sizes.seconds)
        return work.files("random", work.path("large"), size, work.jobs, work.sizes.seconds)

    result = work.measured(body)
    return {"random": result["count"] / result["seconds"]}


def flat(work):
    name, count = "flat/", work.sizes.flat
    if work.server.count(name) != count:
        work.server.fill(name, count, 10)

    def body():
        if work.is_raw:
            return work.raw("list", name)["seconds"]
        began = time.monotonic()
        lines = run(["ls", "-l", "--color=never", work.path("flat")], work.sizes.timeout).count(b"\n") - 1
        if lines != count:
            raise Failed(f"{lines} of {count} names")
        return time.monotonic() - began

    return {"flat": work.measured(body)}


def tree(work):
    name, folders = "tree/", work.sizes.folders
    if work.server.count(name) != folders * 100:
        work.server.fill(name, folders * 100, 10, folders)

    def body():
        if work.is_raw:
            return work.raw("tree", name, work.jobs)["seconds"]
        began = time.monotonic()
        command = ["find", work.path("tree"), "-type", "f", "-printf", "%s\\n"]
        lines = run(command, work.sizes.timeout).count(b"10\n")
        if lines != folders * 100:
            raise Failed(f"{lines} of {folders * 100} names")
        return time.monotonic() - began

    return {"tree": work.measured(body)}


def rewrite(work):
    if work.is_raw:
        return {}
    size, blocks = work.sizes.rewritten, 100
    work.server.make("rewritten", size)
    before = work.server.etag("rewritten", size)

    def body():
        return until(
            work,
            lambda: work.files("overwrite", work.path("rewritten"), size, blocks),
            lambda: work.server.etag("rewritten", size) not in ("", before),
        )

    seconds = work.measured(body)
    work.wait(lambda: work.server.check("rewritten") == str(blocks))
    return {"rewrite": seconds, "rewrite_up": work.cost["up_mb"], "rewrite_down": work.cost["down_mb"]}


def rename(work):
    count = work.sizes.renamed
    for name in ("before/", "after/"):
        work.server.drop(name)
    work.server.fill("before/", count, 4096)

    def body():
        if work.is_raw:
            return work.raw("rename", "before/", "after/", count, work.jobs)["seconds"]
        return until(
            work,
            lambda: work.files("rename", work.path("before"), work.path("after")),
            lambda: work.server.count("after/f") == count and work.server.count("before/f") == 0,
        )

    return {"rename": work.measured(body), "rename_requests": work.cost["requests"]}


# What is done unless asked otherwise: where its latencies, in milliseconds, and which work.
DEFAULTS = {
    "s3": ([0, 20], None),
    "b2": ([20], ["write", "create", "flat", "read", "small"]),
}

# In this order: the main work first, in case time is short.
ALL = {
    "read": read,
    "write": write,
    "create": create,
    "small": small,
    "random": random,
    "flat": flat,
    "tree": tree,
    "rewrite": rewrite,
    "rename": rename,
}
