#!/usr/bin/env python3
"""Mounts one bucket of a server in memory, by S3 and by B2, with CloudMount and with its peers, does the same work in each,
and prints the figures side by side. `make bench` builds what it needs first. See README.md."""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time

import contenders
import workloads
from machine import Anchor, Failed, Folder, Server, build

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# name, title, unit, whether more is better
ROWS = [
    ("read", "read {large} from front to back", "MB/s", True),
    ("first", "its first byte", "ms", False),
    ("write", "write {large} until it is stored", "MB/s", True),
    ("create", "create {files} files of 4 KiB, 8 threads", "per s", True),
    ("small", "read {files} files of 4 KiB, 8 threads", "per s", True),
    ("random", "read 4 KiB at random, 16 threads", "per s", True),
    ("flat", "ls -l of {flat} objects", "s", False),
    ("tree", "find over {tree} objects in {folders} folders", "s", False),
    ("rewrite", "rewrite 100 x 4 KiB in {rewritten}", "s", False),
    ("rewrite_up", "  sent for that", "MB", False),
    ("rewrite_down", "  fetched for that", "MB", False),
    ("rename", "rename a folder of {renamed}", "s", False),
    ("rename_requests", "  requests for that", "", False),
]


class Benchmark:
    def __init__(self, options):
        self.options = options
        self.sizes = workloads.Sizes(options.quick)
        self.results = []
        self.began = time.monotonic()
        self.took = {}
        self.folder = self.anchor = self.server = self.mounted = None

    def left(self):
        return self.options.seconds - (time.monotonic() - self.began)

    def run(self):
        for name in ("server", "raw", "files"):
            build(name)
        present = []
        for kind in contenders.ALL:
            contender = kind()
            version = contender.version()
            if contender.name not in self.options.contenders:
                continue
            if contender.name == "before" and not contender.program:
                self.options.contenders.remove(contender.name)
                continue
            print(f"{contender.name:<11} {version or 'is not installed: left out'}")
            if version:
                present.append(contender)
        if not any(contender.name == "cloudmount" for contender in present):
            raise SystemExit("bench.py: there is no release binary; `make build` makes it")
        try:
            self.anchor, self.server, self.folder = Anchor(), Server(), Folder()
            self.rounds(present)
        finally:
            self.end()

    def rounds(self, present):
        """Everything once, then again as often as the time allows."""
        for turn in range(self.options.rounds):
            for store, latency in self.settings():
                for name in self.workloads(store):
                    for contender in present:
                        if store in contender.stores:
                            self.once(turn, store, latency, name, contender)

    def settings(self):
        for store in self.options.stores:
            for latency in self.options.latency or workloads.DEFAULTS[store][0]:
                yield store, latency

    def workloads(self, store):
        return self.options.workloads or workloads.DEFAULTS[store][1] or list(workloads.ALL)

    def once(self, turn, store, latency, name, contender):
        unit = (store, latency, name, contender.name)
        before = self.took.get(unit)
        # One that is slow, or that failed, is not asked again.
        if turn > 0 and (before is None or before > self.options.slow):
            return
        if (before or 5) > self.left():
            return
        began = time.monotonic()
        result = {"setting": (store, latency), "workload": name, "contender": contender.name, "round": turn}
        try:
            self.mounted = contender
            contender.mount(self.server, store, self.folder.path)
            self.server.network(latency)
            work = workloads.Work(contender, self.server, store, self.sizes, latency)
            result["figures"] = workloads.ALL[name](work)
            result["cost"] = work.cost
            self.took[unit] = time.monotonic() - began
        except (Failed, OSError) as error:
            result["failed"] = str(error)
        finally:
            self.server.network(0)
            contender.unmount()
            self.mounted = None
        self.took.setdefault(unit, None)
        self.results.append(result)
        shown = result.get("failed") or ", ".join(f"{k} {short(v)}" for k, v in result["figures"].items())
        place = f"{store}  {latency:>2} ms  {name:<8} {contender.name:<11}"
        print(f"{time.monotonic() - self.began:4.0f} s  {place} {shown}", flush=True)

    def end(self):
        ignore_signals()
        if self.mounted:
            self.mounted.unmount()
        for part in (self.server, self.anchor, self.folder):
            if part:
                part.end()

    # ---- Report

    def values(self, setting, contender, figure):
        return [
            result["figures"][figure]
            for result in self.results
            if (result["setting"], result["contender"]) == (setting, contender) and figure in result.get("figures", {})
        ]

    def cell(self, setting, contender, figure, workload):
        values = self.values(setting, contender, figure)
        if values:
            # The mark says that the runs were far apart.
            middle = statistics.median(values)
            return short(middle) + ("~" if max(values) - min(values) > 0.4 * middle else "")
        failures = [
            result["failed"]
            for result in self.results
            if (result["setting"], result["contender"], result["workload"]) == (setting, contender, workload)
            and "failed" in result
        ]
        if not failures or figure != workload:
            return "-"
        return failures[0] if failures[0].startswith(">") else "fails"

    def ratio(self, setting, figure, others, more_is_better):
        """How CloudMount stands to the best of `others`, by the medians."""
        own = self.values(setting, "cloudmount", figure)
        medians = [statistics.median(v) for v in (self.values(setting, name, figure) for name in others) if v]
        if not own or not medians:
            return "-"
        own = statistics.median(own)
        best = max(medians) if more_is_better else min(medians)
        if min(own, best) <= 0:
            return "-"
        return f"{own / best if more_is_better else best / own:.2f}"

    def report(self):
        sizes = self.sizes
        words = dict(
            large=f"{sizes.large >> 20} MiB",
            rewritten=f"{sizes.rewritten >> 20} MiB",
            files=f"{sizes.files:,}",
            flat=f"{sizes.flat:,}",
            tree=f"{sizes.folders * 100:,}",
            folders=sizes.folders,
            renamed=f"{sizes.renamed:,}",
        )
        for setting in self.settings():
            store, latency = setting
            names = [
                kind.name
                for kind in contenders.ALL
                if kind.name in self.options.contenders and store in kind.stores
            ]
            said = f"{latency} ms a request, 100 MB/s a connection" if latency else "no latency"
            said = f"{store.upper()}, {said}"
            before = ["x before"] if "before" in names else []
            table = [[said, "", *names, *before, "x peer", "of raw"]]
            for figure, title, unit, more_is_better in ROWS:
                workload = {"first": "read"}.get(figure, figure.split("_")[0])
                cells = [self.cell(setting, name, figure, workload) for name in names]
                if all(cell == "-" for cell in cells):
                    continue
                table.append(
                    [
                        title.format(**words),
                        unit,
                        *cells,
                        *(self.ratio(setting, figure, ("before",), more_is_better) for _ in before),
                        self.ratio(setting, figure, ("rclone", "s3fs"), more_is_better),
                        self.ratio(setting, figure, ("raw",), more_is_better),
                    ]
                )
            print_table(table)
            print_table(self.costs(setting, [name for name in names if name != "raw"]))
        print(
            'Medians. "x peer": as many times as good as the better peer; "of raw": share of what the same requests do\n'
            "without a file system. ~: the runs differ by more than 40 %. >: given up after that time."
        )
        everything = [result["cost"] for result in self.results if result.get("cost")]
        others = sum(cost["others_cpu_s"] for cost in everything)
        whole = sum(cost["seconds"] for cost in everything) * os.cpu_count()
        share = 100 * others / whole if whole else 0
        print(
            f"{time.strftime('%F')}, {os.cpu_count()} CPUs, Linux {platform.release()}, {self.options.rounds} rounds at most, "
            f"{time.monotonic() - self.began:.0f} s; other programs used {share:.0f} % of the machine meanwhile."
        )

    def costs(self, setting, names):
        table = [["what it costs: CPU s / peak MB / requests", "", *names]]
        for workload in self.workloads(setting[0]):
            cells = []
            for name in names:
                costs = [
                    result["cost"]
                    for result in self.results
                    if (result["setting"], result["contender"], result["workload"]) == (setting, name, workload)
                    and result.get("cost")
                ]
                middle = lambda key: statistics.median(cost[key] for cost in costs)
                cells.append(
                    f"{middle('cpu_s'):.2f} / {middle('peak_mb'):.0f} / {middle('requests'):.0f}" if costs else "-"
                )
            table.append([workload, "", *cells])
        return table


def short(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def print_table(table):
    widths = [max(len(str(row[i])) for row in table) for i in range(len(table[0]))]
    print()
    for row in table:
        line = "  ".join(
            str(cell).ljust(width) if i < 2 else str(cell).rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        print(line.rstrip())
    print()


def ignore_signals():
    for one in ENDING:
        signal.signal(one, signal.SIG_IGN)


def interrupted(number, _):
    """Everything is brought to its end, once, before the program ends."""
    ignore_signals()
    sys.exit(128 + number)


def main():
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller work, once: shows that all works")
    parser.add_argument("--stores", type=words, default=list(workloads.DEFAULTS), metavar="NAME,NAME")
    numbers = lambda text: list(map(int, words(text)))
    parser.add_argument("--latency", type=numbers, metavar="MS,MS", help="S3: 0,20; B2: 20")
    parser.add_argument("--workloads", type=words, default=[], metavar="NAME,NAME", help="S3: all; B2: the main ones")
    parser.add_argument("--contenders", type=words, default=[kind.name for kind in contenders.ALL], metavar="NAME,NAME")
    parser.add_argument("--rounds", type=int, default=None, help="at most; 3, quick 1")
    parser.add_argument("--seconds", type=float, default=None, help="no work begins that would end later; 690, quick 180")
    parser.add_argument("--slow", type=float, default=12, help="who took longer is not asked again")
    parser.add_argument("--nice", type=int, default=0, help="niceness of everything; below 0 for root alone")
    parser.add_argument("--json", metavar="FILE", help="all figures of all runs")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (180 if options.quick else 690)
    for name in options.workloads:
        if name not in workloads.ALL:
            parser.error(f"'{name}' is none of {', '.join(workloads.ALL)}")
    for name in options.stores:
        if name not in workloads.DEFAULTS:
            parser.error(f"'{name}' is none of {', '.join(workloads.DEFAULTS)}")
    if options.nice:
        os.setpriority(os.PRIO_PROCESS, 0, options.nice)
        try:  # where the scheduler groups by session, that group's weight is what counts
            with open("/proc/self/autogroup", "w") as file:
                file.write(str(options.nice))
        except OSError:
            pass
    for one in ENDING:
        signal.signal(one, interrupted)
    benchmark = Benchmark(options)
    benchmark.run()
    benchmark.report()
    if options.json:
        with open(options.json, "w") as file:
            json.dump(benchmark.results, file, indent=1)
    if any("failed" in result for result in benchmark.results if result["contender"] == "cloudmount"):
        sys.exit(1)


if __name__ == "__main__":
    main()
