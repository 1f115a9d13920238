"""Those who mount the bucket: each in the foreground, each time with nothing cached."""

import os
import shutil
import subprocess
import time

from machine import ROOT, Failed, end, start

# Where setup.sh puts what comes from PyPI.
IN_VENV = os.path.join(ROOT, ".build", "venv", "bin")


class Contender:
    name = ""
    program = ""
    stores = ("s3", "b2")

    def __init__(self):
        self.process = None
        self.path = ""

    def version(self):
        """None when the program is not there."""
        if not self.program or not os.access(self.program, os.X_OK):
            return None
        output = subprocess.run([self.program, *self.asks_version], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return output.stdout.decode(errors="replace").splitlines()[0].strip()

    def mount(self, server, store, folder):
        self.path = os.path.join(folder, "mnt")
        self.cache = os.path.join(folder, "cache")
        os.makedirs(self.path, exist_ok=True)
        os.makedirs(self.cache, exist_ok=True)
        command, environment = self.command(server, store, folder)
        with open(os.path.join(folder, "log"), "wb") as log:
            self.process = start(command, env=dict(os.environ, **environment), stdout=log, stderr=log)
        began = time.monotonic()
        while not os.path.ismount(self.path):
            if self.process.poll() is not None or time.monotonic() - began > 15:
                with open(os.path.join(folder, "log"), errors="replace") as log:
                    lines = log.read().strip().splitlines() or ["nothing said"]
                raise Failed(f"does not mount: {lines[-1][:200]}")
            time.sleep(0.02)
        time.sleep(0.3)

    def unmount(self):
        if not self.process:
            return
        for attempt in range(40):
            if not is_mounted(self.path):
                break
            flags = "-u" if attempt < 20 else "-uz"
            subprocess.call(["fusermount3", flags, self.path], stderr=subprocess.DEVNULL)
            if is_mounted(self.path):
                time.sleep(0.25)
        self.finish()
        if is_mounted(self.path):
            subprocess.call(["fusermount3", "-uz", self.path], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.cache, ignore_errors=True)
        self.process = None

    def finish(self):
        """The mount is gone: the program ends by itself, or soon."""
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            end(self.process)


def is_mounted(path):
    with open("/proc/mounts") as file:
        return any(line.split()[1] == path for line in file)


class CloudMount(Contender):
    name = "cloudmount"
    program = os.environ.get("CLOUDMOUNT", os.path.join(ROOT, ".build", "release", "cloudmount"))
    asks_version = ["version"]

    def command(self, server, store, folder):
        configuration = os.path.join(folder, "mounts.yaml")
        place = {
            "s3": f"""region: us-east-1, endpoint: "{server.endpoint}", path_style: true,
      credentials: {{ provider: s3, access_key_id: bench, secret_access_key: bench }}""",
            "b2": f"""realm: "{server.endpoint}",
      credentials: {{ provider: b2, key_id: bench, application_key: bench }}""",
        }[store]
        with open(configuration, "w") as file:
            file.write(
                f"""\
version: 1
cache: {{ directory: {self.cache} }}
control: {{ socket: {folder}/control.sock }}
mounts:
  - {{ name: bench, path: {self.path}, provider: {store}, bucket: benchmark, {place} }}
"""
            )
        return [self.program, "mount", "-f", configuration], {}

    def finish(self):
        end(self.process)


class Before(CloudMount):
    """Another binary of CloudMount, such as that of the commit before a change."""

    name = "before"
    program = os.environ.get("CLOUDMOUNT_BEFORE")


class Rclone(Contender):
    """With the cache that its documentation recommends for general use, but sending at once instead of after 5 s."""

    name = "rclone"
    program = os.environ.get("RCLONE") or shutil.which("rclone", path=IN_VENV + os.pathsep + os.environ["PATH"])
    asks_version = ["version"]

    def command(self, server, store, folder):
        flags = "--config /dev/null --vfs-cache-mode full --vfs-write-back 0 --log-level ERROR".split()
        settings = {
            "s3": {
                "PROVIDER": "Other",
                "ACCESS_KEY_ID": "bench",
                "SECRET_ACCESS_KEY": "bench",
                "REGION": "us-east-1",
                "FORCE_PATH_STYLE": "true",
            },
            "b2": {"ACCOUNT": "bench", "KEY": "bench"},
        }[store]
        settings.update(TYPE=store, ENDPOINT=server.endpoint)
        environment = {f"RCLONE_CONFIG_STORE_{name}": value for name, value in settings.items()}
        return [self.program, "mount", "STORE:benchmark", self.path, "--cache-dir", self.cache, *flags], environment


class S3FS(Contender):
    """As one sets it for throughput."""

    name = "s3fs"
    stores = ("s3",)
    program = os.environ.get("S3FS") or shutil.which("s3fs")
    asks_version = ["--version"]

    def command(self, server, store, folder):
        secret = os.path.join(folder, "s3fs.secret")
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("bench:bench\n")
        options = [
            f"url={server.endpoint}",
            f"passwd_file={secret}",
            f"tmpdir={self.cache}",
            "use_path_request_style",
            "parallel_count=16",
            "multireq_max=32",
            "multipart_size=16",
            "max_stat_cache_size=200000",
            "stat_cache_expire=900",
            "dbglevel=crit",
        ]
        command = [self.program, "benchmark", self.path, "-f"]
        for option in options:
            command += ["-o", option]
        return command, {}


class Raw:
    """No file system: bare requests."""

    name = "raw"
    stores = ("s3", "b2")
    process = None

    def version(self):
        return "the same requests without a file system"

    def mount(self, server, store, folder):
        pass

    def unmount(self):
        pass


ALL = [CloudMount, Before, Rclone, S3FS, Raw]
