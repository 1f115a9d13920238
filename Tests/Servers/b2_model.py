"""b2sdk's RawSimulator, Backblaze's own model of the service, made fit for a server.

Bodies stay on disk; numbers do not run out; listings come from an index and end where they should; the source of a copy
is not lost; an unfinished large file does not hide the file of its name; `do_not_verify` works.
"""
import bisect
import itertools
import json
import re
import time

from b2sdk._internal.encryption.setting import EncryptionMode, EncryptionSetting
from b2sdk._internal.file_lock import RetentionMode
from b2sdk._internal.raw_simulator import (
    BucketSimulator, FileSimulator, KeySimulator, PartSimulator, RawSimulator, SSE_B2_AES,
)

from b2_bodies import Body
from b2_http import ApiError, bad_request

PLAIN = EncryptionSetting(EncryptionMode.NONE)


class FileVersion(FileSimulator):
    """A version: a finished file, an unfinished large file (action `start`) or a hide marker."""

    # Set by the bucket: the place among all versions, the newest having the highest.
    number = 0

    def _encryption_dict(self):
        sse = self.server_side_encryption
        if sse is None or sse.mode == EncryptionMode.NONE:
            return {"algorithm": None, "mode": None}
        return {"algorithm": sse.algorithm.value, "mode": sse.mode.value}

    def as_upload_result(self, key):
        action, sse = self.action, self.server_side_encryption
        # The model's own serialisation would give away the customer's key.
        self.server_side_encryption = None
        try:
            result = super().as_upload_result(key)
        finally:
            self.server_side_encryption = sse
        result["serverSideEncryption"] = self._encryption_dict()
        if action == "hide":
            result["contentSha1"] = None
        result["contentMd5"] = None
        return result

    as_list_files_dict = as_upload_result
    as_start_large_file_result = as_upload_result

    def json(self, key, api_version):
        """Its entry of a listing, encoded once."""
        readable = self.is_allowed_to_read_file_retention(key), self.is_allowed_to_read_file_legal_hold(key)
        state = readable + (self.action, id(self.file_retention), id(self.legal_hold), api_version == 1)
        cached = getattr(self, "_json", None)
        if cached is None or cached[0] != state:
            entry = self.as_list_files_dict(key)
            if api_version == 1:
                entry["size"] = entry["contentLength"]
            cached = self._json = state, json.dumps(entry, ensure_ascii=False).encode()
        return cached[1]

    def check_encryption(self, request):
        own = self.server_side_encryption
        if own is not None and own.mode == EncryptionMode.SSE_C:
            if request is None or request.mode != EncryptionMode.SSE_C or request.key.secret != own.key.secret:
                raise ApiError(403, "access_denied", "the file is encrypted with another customer key")
        elif request is not None and request.mode == EncryptionMode.SSE_C:
            raise bad_request("the file is not encrypted with a customer key")

    def finish(self, sha1s, minimum):
        parts = [part for part in self.parts if part is not None]
        if not parts or any(part.part_number != place for place, part in enumerate(parts, 1)):
            raise ApiError(400, "missing_part", "Part numbers must be consecutive, from 1")
        if len(sha1s) != len(parts):
            raise ApiError(400, "missing_part", f"{len(parts)} parts were uploaded, not {len(sha1s)}")
        if len(parts) < 2:
            raise bad_request("large files must have at least 2 parts")
        for part, sha1 in zip(parts, sha1s):
            if part.content_sha1 != sha1:
                raise ApiError(400, "part_sha1_mismatch", f"Sha1 of part {part.part_number} is not {sha1}")
        for part in parts[:-1]:
            if part.content_length < minimum:
                raise bad_request(f"part number {part.part_number} is smaller than {minimum} bytes")
        self.data_bytes = Body.joined(part.part_data for part in parts)
        self.content_length = len(self.data_bytes)
        self.action = "upload"
        self.parts = []


class Bucket(BucketSimulator):
    FILE_SIMULATOR_CLASS = FileVersion

    def __init__(self, api, *arguments, default_server_side_encryption=None, **settings):
        super().__init__(
            api, *arguments, default_server_side_encryption=default_server_side_encryption or SSE_B2_AES, **settings)
        if default_server_side_encryption is None:
            self.default_server_side_encryption = PLAIN
        # The model counts down from 9,999 in each bucket.
        self.file_id_counter = self.upload_timestamp_counter = self.upload_url_counter = None
        self.names = []
        self.versions = {}

    def _check_capability(self, key, capability):
        return capability in key.capabilities

    def add(self, action, name, content_type, sha1, info, body, key=None, sse=None, retention=None, hold=None):
        """A new version, the newest of its name."""
        number = next(self.api.version_counter)
        now = time.time()
        stamp = int(now * 1000)
        moment = time.strftime("d%Y%m%d_m%H%M%S", time.gmtime(now))
        file_id = f"4_z{self.bucket_id}_f1{number:016x}_{moment}_c001_v0001000_t0000_u{stamp:014d}"
        version = FileVersion(
            self.account_id, self, file_id, action, name, content_type, None, info, body, stamp,
            server_side_encryption=sse, file_retention=retention, legal_hold=hold)
        # The model takes 40 digits and nothing else; unverified ones are longer.
        version.content_sha1 = sha1
        version.number = number
        self.file_id_to_file[file_id] = version
        self.file_name_and_id_to_file[version.sort_key()] = version
        self.api.files[file_id] = version
        if name not in self.versions:
            bisect.insort(self.names, name)
            self.versions[name] = []
        self.versions[name].insert(0, version)
        return version

    def remove(self, version):
        del self.file_id_to_file[version.file_id]
        del self.file_name_and_id_to_file[version.sort_key()]
        del self.api.files[version.file_id]
        left = self.versions[version.name]
        left.remove(version)
        if not left:
            del self.versions[version.name]
            del self.names[bisect.bisect_left(self.names, version.name)]

    def visible(self, name):
        """The version that a name stands for; nil when it is hidden or there is none."""
        for version in self.versions.get(name, ()):
            if version.action != "start":
                return version if version.action == "upload" else None
        return None

    def cancel_large_file(self, version):
        self.remove(version)
        return dict(
            accountId=self.account_id, bucketId=self.bucket_id, fileId=version.file_id, fileName=version.name)

    def delete_file_version(self, key, version, bypass):
        retention = version.file_retention
        if version.legal_hold is not None and version.legal_hold.value == "on":
            raise ApiError(401, "access_denied", "the file is on legal hold")
        if retention is not None and retention.retain_until and retention.retain_until > time.time() * 1000:
            allowed = bypass and self._check_capability(key, "bypassGovernance")
            if retention.mode == RetentionMode.COMPLIANCE or not allowed:
                raise ApiError(401, "access_denied", "the file is retained")
        self.remove(version)
        return dict(fileId=version.file_id, fileName=version.name)

    def hide_file(self, key, name):
        newest = next((one for one in self.versions.get(name, ()) if one.action != "start"), None)
        if newest is None:
            raise ApiError(400, "no_such_file", f"File not present: {name}")
        if newest.action == "hide":
            raise ApiError(400, "already_hidden", f"File already hidden: {name}")
        return self.add("hide", name, None, None, {}, Body()).as_list_files_dict(key)

    def _groups(self, start, prefix, delimiter, shown):
        """The names of a listing in order: `(name, None)`, or `(None, folder)` for what the delimiter folds."""
        names = self.names
        place = bisect.bisect_left(names, max(start, prefix))
        while place < len(names) and names[place].startswith(prefix):
            name = names[place]
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                yield name, None
                place += 1
                continue
            folder = name[:cut + len(delimiter)]
            end = bisect.bisect_left(names, after_folder(folder), place)
            if any(shown(names[one]) for one in range(place, end)):
                yield None, folder
            place = end

    def _folder_json(self, folder):
        return json.dumps(dict(
            accountId=self.account_id, action="folder", bucketId=self.bucket_id, contentLength=0, contentMd5=None,
            contentSha1=None, contentType=None, fileId=None, fileInfo={}, fileName=folder, fileRetention=None,
            legalHold=None, replicationStatus=None, serverSideEncryption=None, uploadTimestamp=0,
        ), ensure_ascii=False).encode()

    def list_file_names(self, encode, start, count, prefix, delimiter):
        """:return: the entries, as `encode` makes them of versions, and the name to go on at."""
        entries, resume = [], None
        for name, folder in self._groups(start, prefix, delimiter, self.visible):
            version = None if name is None else self.visible(name)
            if name is not None and version is None:
                continue
            if len(entries) == count:
                return entries, resume
            entries.append(self._folder_json(folder) if name is None else encode(version))
            resume = after_folder(folder) if name is None else name + " "
        return entries, None

    def list_file_versions(self, encode, start, start_id, count, prefix, delimiter):
        """:return: the entries, as `encode` makes them of versions, and the name and the file id to go on at."""
        first = version_number(start_id) if start_id else None
        entries = []
        for name, folder in self._groups(start, prefix, delimiter, lambda name: True):
            if name is None:
                if len(entries) == count:
                    return entries, folder, None
                entries.append(self._folder_json(folder))
                continue
            for version in self.versions[name]:
                if first is not None and name == start and version.number > first:
                    continue
                if len(entries) == count:
                    return entries, name, version.file_id
                entries.append(encode(version))
        return entries, None, None

    def list_unfinished_large_files(self, key, start_id, count, prefix):
        first = version_number(start_id) if start_id else 0
        found = sorted(
            (one for one in self.file_id_to_file.values()
             if one.action == "start" and one.number >= first and one.name.startswith(prefix)),
            key=lambda one: one.number)
        more = found[count].file_id if len(found) > count else None
        return dict(files=[one.as_list_files_dict(key) for one in found[:count]], nextFileId=more)

    def add_part(self, version, number, sha1, body):
        version.add_part(number, PartSimulator(version.file_id, number, len(body), sha1, body))
        return dict(
            fileId=version.file_id, partNumber=number, contentLength=len(body), contentSha1=sha1, contentMd5=None,
            uploadTimestamp=int(time.time() * 1000), serverSideEncryption=version._encryption_dict())


def after_folder(folder):
    """The first name behind all that begin with this."""
    return folder[:-1] + chr(ord(folder[-1]) + 1)


def version_number(file_id):
    match = re.match(r"4_z.+_f1([0-9a-f]{16})_d", file_id)
    if match is None:
        raise bad_request("Bad fileId: " + file_id)
    return int(match[1], 16)


class Account(RawSimulator):
    """The account, its buckets and keys. Who may do what is decided before a call gets here."""

    BUCKET_SIMULATOR_CLASS = Bucket

    def __init__(self, key_id, secret):
        super().__init__()
        self.bucket_id_counter = (f"{0xb20000000000 + number:024x}" for number in itertools.count(1))
        self.version_counter = itertools.count(1)
        # Every version of every bucket; the model knows the bucket of those that were uploaded only.
        self.files = {}
        # Within the id of the key, as the service has it: three digits of the cluster, the account's twelve, a number.
        self.account_id = key_id[3:15] if re.fullmatch("[0-9a-f]{25}", key_id) else "0123456789ab"
        from b2sdk._internal.raw_api import ALL_CAPABILITIES
        self.key_id_to_key[key_id] = KeySimulator(
            self.account_id, "master", key_id, secret, ALL_CAPABILITIES, None, None, None)

    def _assert_account_auth(self, *arguments, **named):
        pass

    def make_bucket(self, key, name, kind="allPrivate", **settings):
        if not re.fullmatch(r"[A-Za-z0-9-]{6,63}", name) or name.lower().startswith("b2-"):
            raise bad_request("invalid bucket name: " + name)
        if any(one.lower() == name.lower() for one in self.bucket_name_to_bucket):
            raise ApiError(400, "duplicate_bucket_name", "Bucket name is already in use.")
        self.create_bucket(self.API_URL, key, self.account_id, name, kind, **settings)
        bucket = self.bucket_name_to_bucket[name]
        # The model numbers them "bucket_b20000000001"; an id of the service is bare digits.
        del self.bucket_id_to_bucket[bucket.bucket_id]
        bucket.bucket_id = bucket.bucket_id.removeprefix("bucket_")
        self.bucket_id_to_bucket[bucket.bucket_id] = bucket
        return bucket

    def make_key(self, name, capabilities, seconds, bucket_ids, prefix):
        """An application key; its dictionary has the secret."""
        for capability in capabilities:
            if capability not in self.key_id_to_key[next(iter(self.key_id_to_key))].capabilities:
                raise bad_request("invalid capability: " + capability)
        made = self.create_key(
            self.API_URL, None, self.account_id, capabilities, name, seconds, bucket_ids, prefix)
        # The model numbers them "appKeyId0".
        key = self.key_id_to_key.pop(made["applicationKeyId"])
        key.application_key_id = f"005{self.account_id}{1000 + self.app_key_counter:010}"
        self.key_id_to_key[key.application_key_id] = key
        made["applicationKeyId"] = key.application_key_id
        return made

    def bucket(self, bucket_id):
        if bucket_id not in self.bucket_id_to_bucket:
            raise ApiError(400, "bad_bucket_id", f"Bucket does not exist: {bucket_id}")
        return self.bucket_id_to_bucket[bucket_id]
