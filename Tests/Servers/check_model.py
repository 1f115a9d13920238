#!/usr/bin/env python3
"""Random calls to the B2 server, by b2sdk over HTTP, and to the bare simulator: they must say the same.

Where the simulator is known to be wrong (b2_model.py says where) the calls keep clear of it, or its whole listing is
cut to what was asked for. Usage: check_model.py PORT KEY_ID KEY [SEED] [STEPS]; the server with `--min-part 200`.
"""
import hashlib
import io
import os
import random
import sys

from b2sdk._internal.b2http import B2Http
from b2sdk._internal.exception import B2Error
from b2sdk._internal.raw_api import B2RawHTTPApi, MetadataDirectiveMode
from b2sdk._internal.raw_simulator import RawSimulator

SHOWN = (
    "fileName", "contentLength", "contentType", "fileInfo", "action", "fileRetention", "legalHold", "contentSha1")
# Other words for the same.
ALIKE = {"FileSha1Mismatch": "BadRequest", "ChecksumMismatch": "PartSha1Mismatch"}


class Side:
    """One of the two: the API object, and where it is."""

    def __init__(self, raw, realm, key_id, key):
        self.raw = raw
        account = raw.authorize_account(realm, key_id, key)
        storage = account["apiInfo"]["storageApi"]
        self.url, self.download_url = storage["apiUrl"], storage["downloadUrl"]
        self.token, self.account = account["authorizationToken"], account["accountId"]
        self.ids, self.bucket, self.upload = {}, None, None

    def call(self, name, *arguments, **named):
        return getattr(self.raw, name)(self.url, self.token, *arguments, **named)


def outcome(action):
    try:
        return action(), None
    except B2Error as error:
        name = type(error).__name__
        return None, ALIKE.get(name, name)


def shown(entry):
    result = {field: entry.get(field) for field in SHOWN}
    if result["contentSha1"] in (None, "none"):
        result["contentSha1"] = "none"
    return result


class Walk:
    def __init__(self, server, model, chance):
        self.sides, self.chance = (server, model), chance
        self.server, self.model = server, model
        # Numbers of versions, in the order in which they were made; `ids` of a side has what it calls them.
        self.versions, self.count = {}, 0
        self.names = ["a", "a b", "a/b", "a/b/c", "a-b", "ä/+%", "z/ü'\"?&#", "b\\c", "日本/語", "b/.bzEmpty"]

    def both(self, action):
        """The action at both sides: what they returned, or nil when both refused in the same way."""
        (one, error), (two, refusal) = (outcome(lambda side=side: action(side)) for side in self.sides)
        if error != refusal:
            raise AssertionError(f"the server says {error or one}, the model {refusal or two}")
        return (one, two) if error is None else None

    def same(self, one, two, what):
        if one != two:
            raise AssertionError(f"{what}: the server says {one}, the model {two}")

    def made(self, results):
        if results is None:
            return
        self.same(shown(results[0]), shown(results[1]), "new version")
        self.count += 1
        for side, result in zip(self.sides, results):
            side.ids[self.count] = result["fileId"]
        self.versions[self.count] = results[0]["fileName"]
        # The model forgets where its copies are.
        self.model.raw.file_id_to_bucket_id[results[1]["fileId"]] = self.model.bucket

    def some_version(self):
        return self.chance.choice(list(self.versions)) if self.versions else None

    def some_info(self):
        return {self.chance.choice(["src_last_modified_millis", "mode", "x_y.z"]): str(self.chance.randrange(10**9)),
                "text": self.chance.choice(["plain", "a+b %41", "ü日本", "'quoted'", " spaces  "]).strip()}

    def some_bytes(self, most=150):
        return self.chance.randbytes(self.chance.randrange(most))

    # Steps

    def upload(self):
        data, name, info = self.some_bytes(), self.chance.choice(self.names), self.some_info()
        sha1 = hashlib.sha1(data).hexdigest()
        form = self.chance.random()
        body, claimed = data, sha1
        if form < 0.3:
            body, claimed = data + sha1.encode(), "hex_digits_at_end"
        elif form < 0.4:
            claimed = "0" * 40

        def send(side):
            if side.upload is None:
                side.upload = side.call("get_upload_url", side.bucket)
            url = side.upload
            # Only the server forgets the URL of an upload that failed.
            if side is self.server and claimed == "0" * 40:
                side.upload = None
            return side.raw.upload_file(
                url["uploadUrl"], url["authorizationToken"], name, len(body), "text/plain", claimed, dict(info),
                io.BytesIO(body))

        self.made(self.both(send))

    def hide(self):
        # The model hides what is not there, too.
        visible = self.listing_of_model("names")
        if visible:
            name = self.chance.choice(visible)["fileName"]
            self.made(self.both(lambda side: side.call("hide_file", side.bucket, name)))

    def delete(self):
        version = self.some_version()
        if version is None:
            return
        name = self.versions[version]
        wrong = self.chance.random() < 0.15
        deleted = self.both(lambda side: side.call(
            "delete_file_version", side.ids[version], name + "x" if wrong else name))
        if deleted is None:
            return
        self.same(deleted[0]["fileName"], deleted[1]["fileName"], "deleted")
        del self.versions[version]
        if self.chance.random() < 0.3:
            self.both(lambda side: side.call("delete_file_version", side.ids[version], name))

    def info(self):
        version = self.some_version()
        if version is not None:
            one, two = self.both(lambda side: side.call("get_file_info_by_id", side.ids[version]))
            self.same(shown(one), shown(two), "file info")

    def _fetch(self, side, url, extent):
        with side.raw.download_file_from_url(side.token, url, range_=extent) as response:
            data = b"".join(response.iter_content(4096))
            # The model gives its headers of information as they are, the server as they travel: both encoded.
            headers = {
                name.lower(): value for name, value in response.headers.items()
                if name.lower().startswith("x-bz-info-") or name.lower() in (
                    "content-type", "content-length", "content-range", "x-bz-content-sha1")}
            headers["name"] = response.headers["x-bz-file-name"]
            return data, headers

    def download(self):
        visible = [one for one in self.listing_of_model("names") if one["contentLength"]]
        if not visible:
            return
        entry = self.chance.choice(visible)
        length, extent = entry["contentLength"], None
        if self.chance.random() < 0.6:
            start = self.chance.randrange(length)
            extent = start, self.chance.randrange(start, length)
        name = entry["fileName"]
        by_id = next((one for one, id_ in self.model.ids.items() if id_ == entry["fileId"]), None)
        by_id = by_id if self.chance.random() < 0.5 else None

        def fetch(side):
            url = (side.raw.get_download_url_by_id(side.download_url, side.ids[by_id]) if by_id
                   else side.raw.get_download_url_by_name(side.download_url, "bucket", name))
            return self._fetch(side, url.replace("/bucket/", "/" + side.bucket_name + "/", 1), extent)

        one, two = self.both(fetch)
        self.same(one, two, f"download of {name} {extent}")

    def absent(self):
        self.both(lambda side: self._fetch(
            side, side.raw.get_download_url_by_name(side.download_url, side.bucket_name, "never/there"), None))

    def copy(self):
        version = self.some_version()
        if version is None or self.length(version) is None:
            return
        length, name, named = self.length(version), self.chance.choice(self.names), {}
        if length and self.chance.random() < 0.4:
            start = self.chance.randrange(length)
            named["bytes_range"] = start, self.chance.randrange(start, length)
        if self.chance.random() < 0.5:
            named.update(
                metadata_directive=MetadataDirectiveMode.REPLACE, content_type="text/html", file_info=self.some_info())
        self.made(self.both(lambda side: side.call("copy_file", side.ids[version], name, **named)))

    def length(self, version):
        entry = next((one for one in self.listing_of_model("versions")
                      if one["fileId"] == self.model.ids[version] and one["action"] == "upload"), None)
        return entry and entry["contentLength"]

    def large(self):
        # A name of its own: in the model an unfinished file hides the others of its name.
        name, info = f"large/{self.count}", self.some_info()
        started = self.both(lambda side: side.call("start_large_file", side.bucket, name, "text/plain", dict(info)))
        parts, sha1s = self.chance.randrange(2, 5), []
        for number in range(1, parts + 1):
            data = self.chance.randbytes(200 + self.chance.randrange(60))
            sha1s.append(hashlib.sha1(data).hexdigest())

            def send(side, result, data=data, number=number):
                url = side.call("get_upload_part_url", result["fileId"])
                return side.raw.upload_part(
                    url["uploadUrl"], url["authorizationToken"], number, len(data), sha1s[-1], io.BytesIO(data))

            source = self.some_version()
            # The model takes a part of any size.
            if number == parts and source is not None and 0 < (self.length(source) or 0) <= 200:
                def copy(side, result, number=number):
                    return side.call("copy_part", side.ids[source], result["fileId"], number)
                one, two = self.both(lambda side: copy(side, started[self.sides.index(side)]))
                sha1s[-1] = one["contentSha1"]
            elif self.chance.random() < 0.05 and number == 1:
                continue
            else:
                one, two = self.both(lambda side: send(side, started[self.sides.index(side)]))
            fields = ("partNumber", "contentLength", "contentSha1")
            self.same(*([result.get(field) for field in fields] for result in (one, two)), "part")
        one, two = self.both(lambda side: side.call(
            "list_parts", started[self.sides.index(side)]["fileId"], 1, 100))
        fields = ("partNumber", "contentLength", "contentSha1")
        self.same(*([[part[field] for field in fields] for part in result["parts"]] for result in (one, two)), "parts")
        end = self.chance.random()
        if end < 0.15:
            sha1s[0] = "1" * 40
        if end > 0.85:
            self.both(lambda side: side.call("cancel_large_file", started[self.sides.index(side)]["fileId"]))
            return
        finished = self.both(lambda side: side.call(
            "finish_large_file", started[self.sides.index(side)]["fileId"], sha1s))
        if finished is None:
            self.both(lambda side: side.call("cancel_large_file", started[self.sides.index(side)]["fileId"]))
        else:
            self.made(finished)

    # Listings

    def listing_of_model(self, kind):
        return getattr(self.model.raw, "list_file_" + kind)(
            self.model.url, self.model.token, self.model.bucket, None, max_file_count=100000)["files"]

    def listing(self):
        kind = self.chance.choice(["names", "versions"])
        prefix = self.chance.choice([None, "a", "a/", "ä", "日本/", "large/", "nothing", "b"])
        entries, start, start_id = [], None, None
        while True:
            arguments = [start] if kind == "names" else [start, start_id]
            page = self.server.call(
                "list_file_" + kind, self.server.bucket, *arguments, self.chance.choice([1, 2, 7, 1000]), prefix)
            entries += page["files"]
            start, start_id = page["nextFileName"], page.get("nextFileId")
            if start is None:
                break
        expected = [one for one in self.listing_of_model(kind) if one["fileName"].startswith(prefix or "")]
        self.same([shown(one) for one in entries], [shown(one) for one in expected], f"{kind} of {prefix}")


def main():
    port, key_id, key = sys.argv[1:4]
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(10**9)
    steps = int(sys.argv[5]) if len(sys.argv) > 5 else 400
    print("seed", seed, flush=True)
    server = Side(B2RawHTTPApi(B2Http()), f"http://127.0.0.1:{port}", key_id, key)
    simulator = RawSimulator()
    model = Side(simulator, "", *simulator.create_account())
    for side, name in (server, f"walk-{seed}-{random.randrange(10**6)}"), (model, "bucket"):
        side.bucket_name = name
        side.bucket = side.call("create_bucket", side.account, name, "allPrivate")["bucketId"]
    walk = Walk(server, model, random.Random(seed))
    weights = dict(
        upload=10, hide=3, delete=5, info=3, download=6, absent=1, copy=5, large=3, listing=6)
    done = dict.fromkeys(weights, 0)
    for number in range(steps):
        step = walk.chance.choices(list(weights), list(weights.values()))[0]
        done[step] += 1
        try:
            getattr(walk, step)()
        except Exception as error:
            print(f"seed {seed}, step {number} ({step}): {type(error).__name__}: {error}", file=sys.stderr)
            raise
    walk.listing()
    print(done)


if __name__ == "__main__":
    main()
