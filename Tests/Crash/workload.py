"""What is done to a mount whose daemon is killed meanwhile, and whether what was acknowledged is there afterwards.

    workload.py run SEED LOG          works in the current folder until a call fails; each step is in LOG before it begins and when it has ended
    workload.py check LOG             compares the current folder with LOG, and adds what is there as the new beginning
"""
import hashlib
import json
import os
import random
import sys

NAMES = ["a", "b", "c", "d1/a", "d1/b", "d2/a", "d2/b"]
SIZES = [0, 1, 100, 4096, 5000, 65536, 70000, 300_000, 1_500_000]


def content(seed, size):
    return random.Random(seed).randbytes(size)


class Log:
    def __init__(self, path):
        self.file = open(path, "a", buffering=1)

    def say(self, **entry):
        self.file.write(json.dumps(entry) + "\n")


def entries(path):
    with open(path) as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def apply(files, step):
    """The files after a step that has ended."""
    files = dict(files)
    kind, name = step["kind"], step.get("name")
    if kind == "start":
        return {name: bytes.fromhex(text) for name, text in step["files"].items()}
    if kind == "put":
        files[name] = content(step["seed"], step["size"])
    elif kind == "change":
        old = files[name]
        new = content(step["seed"], step["size"])
        at = step["at"]
        files[name] = old[:at].ljust(at, b"\0") + new + old[at + len(new):]
    elif kind == "cut":
        files[name] = files[name][: step["size"]].ljust(step["size"], b"\0")
    elif kind == "remove":
        del files[name]
    elif kind == "rename":
        files[step["to"]] = files.pop(name)
    elif kind == "folder":
        for path in list(files):
            if path.startswith(name + "/"):
                files[step["to"] + path[len(name):]] = files.pop(path)
    return files


def run(seed, path):
    rng = random.Random(seed)
    log = Log(path)
    files = {}
    for entry in entries(path):
        if entry.get("done"):
            files = apply(files, entry)
    for folder in ["d1", "d2"]:
        os.makedirs(folder, exist_ok=True)
    while True:
        kind = rng.choice(["put", "put", "put", "replace", "change", "change", "append", "cut", "remove", "rename", "folder"])
        there = sorted(files)
        step = {"kind": kind, "seed": rng.getrandbits(32), "size": rng.choice(SIZES)}
        if kind in ("put", "replace"):
            step["name"] = rng.choice(NAMES)
        elif kind == "folder":
            old, new = ("d1", "d3") if os.path.isdir("d1") else ("d3", "d1")
            step.update(name=old, to=new)
        elif not there:
            continue
        else:
            step["name"] = rng.choice(there)
        name = step["name"]
        if kind != "folder" and not os.path.isdir(os.path.dirname(name) or "."):
            continue
        if kind == "append":
            step.update(kind="change", at=len(files[name]))
        if kind == "change":
            step["at"] = rng.randrange(0, len(files[name]) + 1)
            step["size"] = min(step["size"], 70000)
        if kind == "rename":
            step["to"] = rng.choice([other for other in NAMES if other != name])
            if not os.path.isdir(os.path.dirname(step["to"]) or "."):
                continue
        if kind == "replace":
            # As editors do: a temporary file gets the name.
            temporary = {"kind": "put", "name": os.path.join(os.path.dirname(name), "tmp"), "seed": step["seed"], "size": step["size"]}
            files = perform(log, files, temporary, rng)
            step = {"kind": "rename", "name": temporary["name"], "to": name}
        files = perform(log, files, step, rng)


def perform(log, files, step, rng):
    after = apply(files, step)
    log.say(done=False, **step)
    kind, name = step["kind"], step["name"]
    if kind == "put":
        data = after[name]
        flags = os.O_WRONLY | os.O_CREAT | rng.choice([os.O_TRUNC, os.O_TRUNC, os.O_TRUNC | os.O_EXCL])
        if flags & os.O_EXCL and os.path.lexists(name):
            flags &= ~os.O_EXCL
        write(os.open(name, flags, 0o644), data, 0, rng)
    elif kind == "change":
        write(os.open(name, os.O_RDWR), content(step["seed"], step["size"]), step["at"], rng)
    elif kind == "cut":
        fd = os.open(name, os.O_RDWR)
        os.ftruncate(fd, step["size"])
        end(fd, rng)
    elif kind == "remove":
        os.unlink(name)
    else:
        os.rename(name, step["to"])
    log.say(done=True, **step)
    return after


def write(fd, data, at, rng):
    piece = rng.choice([4096, 100_000, 1 << 20])
    for start in range(0, len(data), piece):
        os.pwrite(fd, data[start: start + piece], at + start)
    end(fd, rng)


def end(fd, rng):
    if rng.random() < 0.3:
        os.fsync(fd)
    os.close(fd)


def found():
    files = {}
    for folder, _, names in os.walk("."):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), ".")
            with open(path, "rb") as file:
                files[path] = file.read()
    return files


def may_be(name, data, before, step, after):
    """Whether a file may be so when `step` was under way."""
    if data in (before.get(name), after.get(name)):
        return True
    if data is None or step is None:
        return False
    kind = step["kind"]
    if kind == "put" and name == step["name"]:
        # Made or emptied, and written so far.
        return after[name].startswith(data)
    if kind in ("change", "cut") and name == step["name"]:
        old, new = before[name], after[name]
        if len(data) not in range(min(len(old), len(new)), max(len(old), len(new)) + 1):
            return False
        return all(
            byte == (old[i] if i < len(old) else None) or byte == (new[i] if i < len(new) else None)
            for i, byte in enumerate(data))
    return False


def check(path):
    before, step, count = {}, None, 0
    for entry in entries(path):
        if entry["done"]:
            before, step, count = apply(before, entry), None, count + 1
        else:
            step = entry
    after = apply(before, step) if step else before
    there = found()
    wrong = []
    for name in sorted(set(before) | set(after) | set(there)):
        data = there.get(name)
        if may_be(name, data, before, step, after):
            continue
        if step and step["kind"] in ("rename", "folder"):
            # Half done: each file has its old or its new name, or both for a while.
            continue
        def tell(data):
            return "nothing" if data is None else f"{len(data)} bytes {hashlib.md5(data).hexdigest()[:8]}"
        wrong.append(f"{name}: {tell(data)}, not {tell(before.get(name))} or {tell(after.get(name))}")
    if step and step["kind"] in ("rename", "folder"):
        # Nothing is lost, and nothing is new.
        for name, data in there.items():
            if data not in before.values():
                wrong.append(f"{name}: {len(data)} bytes that nobody wrote")
        moved = {step["to"]} if step["kind"] == "rename" else set()
        for name, data in before.items():
            if name not in moved and data not in there.values():
                wrong.append(f"{name}: its bytes are gone")
            touched = name in (step["name"], step["to"]) or name.startswith((step["name"] + "/", step["to"] + "/"))
            if not touched and there.get(name) != data:
                wrong.append(f"{name}: another file")
    if wrong:
        print("step under way:", step)
        print("\n".join(wrong))
        sys.exit(1)
    print(count)
    Log(path).say(done=True, kind="start", files={name: data.hex() for name, data in there.items()})


if sys.argv[1] == "run":
    run(int(sys.argv[2]), sys.argv[3])
else:
    check(sys.argv[2])
