"""The machine under the benchmark: programs, processes, what they use, and the server."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILT = os.path.join(ROOT, ".build", "bench")
TICK = os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """A contender could not do a piece of work; the text says why."""


def build(name):
    """The program built of `name`.cpp, anew when a source is younger."""
    target = os.path.join(BUILT, name)
    sources = [os.path.join(HERE, file) for file in os.listdir(HERE) if file.endswith((".cpp", ".hpp"))]
    if not os.path.exists(target) or os.path.getmtime(target) < max(map(os.path.getmtime, sources)):
        os.makedirs(BUILT, exist_ok=True)
        source = os.path.join(HERE, name + ".cpp")
        subprocess.check_call(["g++", "-O2", "-std=c++20", "-pthread", source, "-o", target + ".new"])
        os.replace(target + ".new", target)
    return target


def start(command, **options):
    """A child that ends when we do. Ctrl-C is for us alone, who end everything in order."""

    def prepare():
        os.setpgrp()
        LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    return subprocess.Popen(command, preexec_fn=prepare, stdin=subprocess.DEVNULL, **options)


def end(process, patience=10):
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(command, timeout):
    """What a command prints. Raises `Failed` when it takes too long or ends with an error."""
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed(f"> {timeout:.0f} s")
    finally:
        if process.poll() is None:
            process.kill()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise Failed(lines[-1][:120] if lines else f"{command[0]} ended with {process.returncode}")
    return output


def wait_until(holds, timeout):
    """Asks often at first, then less so."""
    began, gap = time.monotonic(), 0.002
    while not holds():
        if time.monotonic() - began > timeout:
            raise Failed(f"> {timeout:.0f} s")
        time.sleep(gap)
        gap = min(gap * 1.3, 0.05)


# ---- What processes use


def cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    except OSError:
        return 0.0


def peak_megabytes(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return 0.0


def forget_peak(pid):
    try:
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def busy_seconds():
    """CPU seconds that the whole machine has spent."""
    with open("/proc/stat") as file:
        user, nice, system, idle, waiting, hard, soft, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + hard + soft) / TICK


def own_seconds():
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class Anchor:
    """Keeps memory backed by the host of a virtual machine that gives freed memory back to it.

    There, touching fresh memory is slower than anything that is measured here. One page in each 256 of some GiB is
    kept, so that no large block becomes free; no setting is changed. Elsewhere this does nothing.
    """

    def __init__(self):
        self.process = None
        if not self.is_needed():
            return
        with open("/proc/meminfo") as file:
            available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) << 10
        size = min(8 << 30, available // 3) >> 20 << 20
        reading, writing = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(one, signal.SIG_IGN)
            LIBC.prctl(1, signal.SIGKILL)
            LIBC.mmap.restype = ctypes.c_void_p
            LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
            LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            start = LIBC.mmap(None, size, 3, 0x8022, -1, 0)  # private, anonymous, populated
            for offset in range(0, size, 1 << 20):
                LIBC.madvise(start + offset + 4096, (1 << 20) - 4096, 4)  # MADV_DONTNEED
            os.write(writing, b"x")
            while True:
                signal.pause()
        os.read(reading, 1)
        os.close(reading)
        os.close(writing)

    @staticmethod
    def is_needed():
        folder = "/sys/bus/virtio/drivers/virtio_balloon"
        try:
            devices = [name for name in os.listdir(folder) if name.startswith("virtio")]
            return any(open(f"{folder}/{name}/features").read()[5] == "1" for name in devices)
        except OSError:
            return False

    def end(self):
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            self.process = None


class Server:
    """The server of S3 and B2, and its controls."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = start([build("server"), str(self.port)])
        for _ in range(100):
            try:
                self.stats()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server does not start")

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, what, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.endpoint}/_/{what}?{query}", timeout=60) as answer:
            return answer.read().decode()

    def stats(self):
        return json.loads(self.ask("stats"))

    def network(self, milliseconds):
        """Latency of each request; then also 100 MB/s for each connection."""
        self.ask("network", delay=milliseconds * 1000, rate=100_000_000 if milliseconds else 0)

    def make(self, key, size):
        self.ask("make", bucket="benchmark", key=key, size=size)

    def fill(self, prefix, count, size, folders=0):
        self.ask("fill", bucket="benchmark", key=prefix, count=count, size=size, folders=folders)

    def drop(self, prefix):
        self.ask("drop", bucket="benchmark", key=prefix)

    def count(self, prefix, size=0):
        return int(self.ask("count", bucket="benchmark", key=prefix, size=size))

    def etag(self, key, size):
        """Empty as long as there is no such object of that size."""
        return self.ask("etag", bucket="benchmark", key=key, size=size)

    def check(self, key):
        return self.ask("check", bucket="benchmark", key=key)

    def end(self):
        end(self.process)


class Folder:
    """A temporary folder, in memory where there is such a place."""

    def __init__(self):
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
        self.path = os.path.join(base, f"cloudmount-bench-{os.getpid()}")
        os.makedirs(self.path)

    def end(self):
        shutil.rmtree(self.path, ignore_errors=True)
