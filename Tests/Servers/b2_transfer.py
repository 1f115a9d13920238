"""Uploads of files and parts, and downloads."""
import mimetypes
import time
from urllib.parse import quote

from b2_api import check_part_encryption, encryption_for, strict, unfinished
from b2_http import ApiError, bad_request
from b2_rules import (
    RESERVED_INFO, byte_range, check_info, check_name, encryption_of_headers, hold_of, retention_of,
)

UPLOAD_LIMIT = 5_000_000_000
FORBIDDEN = {
    "content-disposition", "content-encoding", "content-language", "content-location", "content-range", "expires"}


def upload(service, request, target):
    """A file or a part, to an upload URL. A URL is good until an upload to it is refused or breaks off."""
    token = request.headers.get("authorization", "")
    url = service.upload_urls.get(token)
    if url is None or target not in (url.bucket.bucket_id, url.file and url.file.file_id):
        raise ApiError(401, "bad_auth_token", "the token is not of this upload URL")
    if (request.operation == "b2_upload_part") != (url.file is not None):
        raise ApiError(401, "bad_auth_token", "the token is not of this upload URL")
    request.bucket, request.key_id = url.bucket.bucket_name, url.key.application_key_id
    if not url.lock.acquire(blocking=False):
        raise ApiError(400, "auth_token_limit", f"more than one upload using auth token {token}")
    try:
        if not url.alive:
            raise ApiError(401, "bad_auth_token", "an upload to this URL has failed")
        if time.monotonic() >= url.expires:
            raise ApiError(401, "expired_auth_token", "the upload URL has expired")
        url.alive = False
        service.enter(request)
        service.live(url.key)
        result = (_upload_part if url.file else _upload_file)(service, request, url)
        url.alive = True
    finally:
        url.lock.release()
    service.reply(request, result)


def _receive(service, request):
    """The body and what the client says its SHA-1 is, which is checked."""
    # With an empty file b2sdk sends the header, a length of 0, and nothing that is encoded so.
    if request.headers.get("transfer-encoding") and request.headers.get("content-length") != "0":
        request.connection.keep = False
        raise bad_request("Transfer-Encoding is not supported")
    if "content-length" not in request.headers:
        raise bad_request("Missing header: Content-Length")
    claimed = request.headers.get("x-bz-content-sha1")
    if not claimed:
        raise bad_request("Missing header: X-Bz-Content-Sha1")
    trailer = 40 if claimed == "hex_digits_at_end" else 0
    if request.length - trailer > UPLOAD_LIMIT:
        raise bad_request("the upload is too large")
    if request.length < trailer:
        raise bad_request("the SHA-1 at the end is missing")
    body, sha1, end = service.bodies.receive(request.body_blocks(), request.length, trailer)
    if claimed == "do_not_verify":
        return body, "unverified:" + sha1
    if trailer:
        claimed = end.decode("latin-1")
    if claimed.lower().removeprefix("unverified:") != sha1:
        raise bad_request("Checksum did not match data received")
    return body, sha1


def _upload_file(service, request, url):
    headers, bucket = request.headers, url.bucket
    if "x-bz-file-name" not in headers:
        raise bad_request("Missing header: X-Bz-File-Name")
    name = check_name(request.segment(headers["x-bz-file-name"]))
    service.allow(url.key, "writeFiles", bucket, name)
    kind = headers.get("content-type")
    if not kind:
        raise bad_request("Missing header: Content-Type")
    if kind == "b2/x-auto":
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    for header in FORBIDDEN & headers.keys():
        raise bad_request("header not allowed: " + header)
    if headers.get("x-bz-custom-upload-timestamp"):
        raise ApiError(400, "custom_timestamp_not_allowed", "not enabled for the account")
    sse = encryption_for(bucket, encryption_of_headers(headers))
    info = check_info(name, {
        header.removeprefix("x-bz-info-"): request.segment(value)
        for header, value in headers.items() if header.startswith("x-bz-info-")}, strict(bucket, sse))
    retention = retention_of(
        headers.get("x-bz-file-retention-mode"), headers.get("x-bz-file-retention-retain-until-timestamp"))
    hold = hold_of(headers.get("x-bz-file-legal-hold"))
    if (retention or hold) and not bucket.is_file_lock_enabled:
        raise bad_request("the bucket has no Object Lock")
    body, sha1 = _receive(service, request)
    with service.lock:
        version = bucket.add("upload", name, kind, sha1, info, body, sse=sse, retention=retention, hold=hold)
        return version.as_upload_result(url.key)


def _upload_part(service, request, url):
    number = request.headers.get("x-bz-part-number", "")
    if not number.isdigit() or not 1 <= int(number) <= 10000:
        raise bad_request("Part number must be in range 1 - 10000")
    with service.lock:
        large = unfinished(service, url.key, {"fileId": url.file.file_id})
    check_part_encryption(large, encryption_of_headers(request.headers))
    body, sha1 = _receive(service, request)
    if not len(body):
        raise bad_request("a part must not be empty")
    with service.lock:
        large = unfinished(service, url.key, {"fileId": url.file.file_id})
        return large.bucket.add_part(large, int(number), sha1.removeprefix("unverified:"), body)


def download_by_name(service, request, bucket_name, name):
    request.operation, request.bucket = "b2_download_file_by_name", bucket_name
    with service.lock:
        bucket = service.account.bucket_name_to_bucket.get(bucket_name)
        version = bucket.visible(name) if bucket is not None else None
        key = _reader(service, request, bucket, name)
    service.enter(request)
    if version is None:
        raise ApiError(404, "not_found", f"File with such name does not exist: {name[:200]}")
    _download(service, request, version, key)


def download_by_id(service, request):
    request.operation = "b2_download_file_by_id"
    file_id = request.query.get("fileId", "")
    with service.lock:
        version = service.account.files.get(file_id)
        request.bucket = version.bucket.bucket_name if version else ""
        key = _reader(service, request, version and version.bucket, version and version.name)
    service.enter(request)
    if version is None or version.action != "upload":
        raise ApiError(404, "not_found", f"File not present: {file_id}")
    _download(service, request, version, key)


def _reader(service, request, bucket, name):
    """The key of the request, or nil when the bucket is public or a download token is good for the name."""
    if request.method not in ("GET", "HEAD"):
        raise ApiError(405, "method_not_allowed", "only GET and HEAD")
    if request.method == "HEAD":
        request.operation = "head_file"
    token = request.headers.get("authorization") or request.query.get("Authorization")
    granted = service.download_tokens.get(token)
    if granted is not None:
        bucket_id, prefix, expires = granted
        if time.monotonic() >= expires:
            raise ApiError(401, "expired_auth_token", "the download authorization has expired")
        if bucket is None or bucket.bucket_id != bucket_id or not name.startswith(prefix):
            raise ApiError(401, "unauthorized", "the download authorization is for other files")
        return None
    if token is None and bucket is not None and bucket.bucket_type == "allPublic":
        return None
    request.headers.setdefault("authorization", token or "")
    key = service.key_of(request)
    service.allow(key, "readFiles", bucket, name)
    return key


def _download(service, request, version, key):
    version.check_encryption(encryption_of_headers(request.headers))
    body, status = version.data_bytes, 200
    length = len(body)
    headers = [("Accept-Ranges", "bytes"), ("Content-Type", version.content_type)]
    extent = byte_range(request.headers["range"], length) if "range" in request.headers else None
    if extent is not None:
        status, body = 206, body.extent(*extent)
        headers.append(("Content-Range", f"bytes {extent[0]}-{extent[1] - 1}/{length}"))
    headers += [
        ("X-Bz-File-Id", version.file_id), ("X-Bz-File-Name", quote(version.name)),
        ("X-Bz-Content-Sha1", version.content_sha1), ("X-Bz-Upload-Timestamp", str(version.upload_timestamp))]
    for name, value in version.file_info.items():
        reserved = RESERVED_INFO.get(name)
        headers.append((reserved, value.encode("utf-8").decode("latin-1")) if reserved
                       else ("X-Bz-Info-" + name, quote(value)))
    headers += _protection(version, key)
    if request.lose_reply:
        request.connection.reset()
    request.connection.answer_pieces(request, status, headers, len(body), body.files())


def _protection(version, key):
    headers, sse = [], version.server_side_encryption
    if sse is not None and sse.mode.value == "SSE-B2":
        headers.append(("X-Bz-Server-Side-Encryption", sse.algorithm.value))
    elif sse is not None and sse.mode.value == "SSE-C":
        headers.append(("X-Bz-Server-Side-Encryption-Customer-Algorithm", sse.algorithm.value))
        headers.append(("X-Bz-Server-Side-Encryption-Customer-Key-Md5", sse.key.key_md5()))
    if key is None or not version.bucket.is_file_lock_enabled:
        return headers
    hidden = []
    if "readFileRetentions" not in key.capabilities:
        hidden += ["X-Bz-File-Retention-Mode", "X-Bz-File-Retention-Retain-Until-Timestamp"]
    elif version.file_retention is not None and version.file_retention.retain_until:
        headers.append(("X-Bz-File-Retention-Mode", version.file_retention.mode.value))
        headers.append(("X-Bz-File-Retention-Retain-Until-Timestamp", str(version.file_retention.retain_until)))
    if "readFileLegalHolds" not in key.capabilities:
        hidden.append("X-Bz-File-Legal-Hold")
    elif version.legal_hold is not None and version.legal_hold.value:
        headers.append(("X-Bz-File-Legal-Hold", version.legal_hold.value))
    if hidden:
        headers.append(("X-Bz-Client-Unauthorized-To-Read", ",".join(hidden)))
    return headers
