"""The operations of the native API that carry JSON."""
import json
import time

from b2_http import ApiError, bad_request
from b2_model import PLAIN, version_number
from b2_rules import (
    byte_range, check_info, check_name, encryption_of_json, hold_of, retention_of,
)
from b2_service import base, basic_credentials

OPERATIONS = {}


def operation(function):
    OPERATIONS["b2_" + function.__name__] = function
    return function


def authorize(service, request, version):
    key_id, secret = basic_credentials(request)
    request.key_id = key_id
    service.enter(request)
    with service.lock:
        key = service.account.key_id_to_key.get(key_id)
        if key is None or key.key != secret:
            raise ApiError(401, "unauthorized", "invalid application key id or application key")
        service.live(key)
        shape = service.authorize_shape or version
        buckets = key.buckets_or_none
        if buckets is not None:
            known = service.account.bucket_id_to_bucket
            buckets = [
                {"id": one["id"], "name": known[one["id"]].bucket_name if one["id"] in known else None}
                for one in buckets]
            if len(buckets) > 1 and shape < 4:
                raise ApiError(401, "unauthorized", "a key for several buckets needs version 4 of the API")
        token = service.issue_token(key)
    service.reply(request, _authorized(service, request, key, token, buckets, shape))


def _authorized(service, request, key, token, buckets, shape):
    url = base(request)
    places = {
        "apiUrl": url, "downloadUrl": url, "s3ApiUrl": url + "/no-s3",
        "recommendedPartSize": service.recommended_part, "absoluteMinimumPartSize": service.minimum_part,
    }
    rights = {"capabilities": key.capabilities, "namePrefix": key.name_prefix_or_none}
    one = buckets[0] if buckets else {"id": None, "name": None}
    single = {**rights, "bucketId": one["id"], "bucketName": one["name"]}
    result = {"accountId": service.account.account_id, "authorizationToken": token}
    if shape <= 2:
        result.update(places, allowed=single)
        if shape == 1:
            result["minimumPartSize"] = service.recommended_part
        return result
    expires = key.expiration_timestamp_or_none
    result["applicationKeyExpirationTimestamp"] = expires and expires * 1000
    storage = {**places, "infoType": "storageApi"}
    storage.update(single if shape == 3 else {"allowed": {**rights, "buckets": buckets}})
    result["apiInfo"] = {"storageApi": storage, "groupsApi": {"groupsApiUrl": url, "infoType": "groupsApi"}}
    return result


def call(service, request, name, version):
    function = OPERATIONS.get(name)
    request.operation = name
    if function is None:
        raise bad_request("Invalid API name: " + name)
    if request.method == "POST":
        try:
            params = json.loads(request.body() or b"{}")
        except ValueError:
            raise ApiError(400, "bad_json", "not JSON")
        if not isinstance(params, dict):
            raise ApiError(400, "bad_json", "not an object")
    elif request.method in ("GET", "HEAD"):
        params = request.query
    else:
        raise ApiError(405, "method_not_allowed", "only POST and GET are supported")
    request.api_version = version
    with service.lock:
        request.bucket = _bucket_name(service, params)
        key = service.key_of(request)
    service.enter(request)
    with service.lock:
        result = function(service, request, key, params)
    # Some reading of bodies is done without the lock.
    if callable(result):
        result = result()
    service.reply(request, result)


def _bucket_name(service, params):
    """The bucket that a call is about, as far as it can be told."""
    account = service.account
    for field in ("bucketId", "destinationBucketId"):
        bucket = account.bucket_id_to_bucket.get(params.get(field))
        if bucket is not None:
            return bucket.bucket_name
    if isinstance(params.get("bucketName"), str):
        return params["bucketName"]
    for field in ("fileId", "largeFileId", "sourceFileId"):
        file = account.files.get(params.get(field))
        if file is not None:
            return file.bucket.bucket_name
    return ""


def text(params, field, required=True):
    value = params.get(field)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        raise bad_request(f"{field} is missing or not a string")
    return value


def number(params, field, default, most):
    value = params.get(field)
    if value in (None, ""):
        return default
    try:
        value = int(value)
    except (TypeError, ValueError):
        raise bad_request(f"{field} is not a number")
    if not 0 <= value <= most:
        raise ApiError(400, "out_of_range", f"{field} out of range: {value}")
    return value or default


def bucket_of(service, params):
    return service.account.bucket(text(params, "bucketId"))


def file_of(service, params, field="fileId", missing=(404, "not_found")):
    file_id = text(params, field)
    version = service.account.files.get(file_id)
    if version is None:
        version_number(file_id)
        raise ApiError(*missing, f"File not present: {file_id}")
    return version


def unfinished(service, key, params, field="fileId"):
    version = file_of(service, params, field, (400, "bad_request"))
    if version.action != "start":
        raise bad_request(f"No active upload for: {version.file_id}")
    service.allow(key, "writeFiles", version.bucket, version.name)
    return version


def encryption_for(bucket, asked):
    return asked or bucket.default_server_side_encryption or PLAIN


def strict(bucket, sse):
    return sse.mode != PLAIN.mode or bool(bucket.is_file_lock_enabled)


# Buckets

@operation
def list_buckets(service, request, key, params):
    if text(params, "accountId") != service.account.account_id:
        raise ApiError(401, "unauthorized", "another account")
    service.allow(key, "listBuckets")
    wanted_id, wanted_name = params.get("bucketId"), params.get("bucketName")
    types = params.get("bucketTypes") or ["all"]
    found = [
        one for name, one in sorted(service.account.bucket_name_to_bucket.items())
        if wanted_id in (None, one.bucket_id) and wanted_name in (None, name)
        and ("all" in types or one.bucket_type in types)]
    if key.buckets_or_none is not None:
        if wanted_id is None and wanted_name is None:
            raise ApiError(401, "unauthorized", "unauthorized: the key is for single buckets")
        mine = {one["id"] for one in key.buckets_or_none}
        if wanted_id is not None and wanted_id not in mine or any(one.bucket_id not in mine for one in found):
            raise ApiError(401, "unauthorized", "unauthorized: the key is for other buckets")
    return {"buckets": [one.bucket_dict(key) for one in found]}


@operation
def create_bucket(service, request, key, params):
    service.allow(key, "writeBuckets")
    sse = encryption_of_json(params.get("defaultServerSideEncryption"))
    if params.get("bucketType") not in ("allPrivate", "allPublic"):
        raise bad_request("unknown bucketType")
    return service.account.make_bucket(
        key, text(params, "bucketName"), params["bucketType"], bucket_info=params.get("bucketInfo"),
        cors_rules=params.get("corsRules"), lifecycle_rules=params.get("lifecycleRules"),
        default_server_side_encryption=sse, is_file_lock_enabled=params.get("fileLockEnabled"),
    ).bucket_dict(key)


@operation
def update_bucket(service, request, key, params):
    bucket = bucket_of(service, params)
    service.allow(key, "writeBuckets", bucket)
    if params.get("ifRevisionIs") not in (None, bucket.revision):
        raise ApiError(409, "conflict", "bucket revision is " + str(bucket.revision))
    sse = params.get("defaultServerSideEncryption")
    service.account.current_token = key
    return bucket._update_bucket(
        bucket_type=params.get("bucketType"), bucket_info=params.get("bucketInfo"),
        cors_rules=params.get("corsRules"), lifecycle_rules=params.get("lifecycleRules"),
        default_server_side_encryption=(encryption_of_json(sse) or PLAIN) if sse else None,
        is_file_lock_enabled=params.get("fileLockEnabled"))


@operation
def delete_bucket(service, request, key, params):
    bucket = bucket_of(service, params)
    service.allow(key, "deleteBuckets", bucket)
    if bucket.names:
        raise ApiError(400, "cannot_delete_non_empty_bucket", "Cannot delete non-empty bucket")
    account = service.account
    return account.delete_bucket(account.API_URL, key, account.account_id, bucket.bucket_id)


# Keys

@operation
def create_key(service, request, key, params):
    service.allow(key, "writeKeys")
    buckets = params.get("bucketIds")
    if buckets is None and params.get("bucketId"):
        buckets = [params["bucketId"]]
    for one in buckets or []:
        service.account.bucket(one)
    if params.get("namePrefix") and not buckets:
        raise bad_request("namePrefix needs a bucket")
    made = service.account.make_key(
        text(params, "keyName"), params.get("capabilities") or [], params.get("validDurationInSeconds"), buckets,
        params.get("namePrefix"))
    return _key_shape(request, made)


def _key_shape(request, made):
    if request.api_version < 4:
        made["bucketId"] = (made.pop("bucketIds") or [None])[0]
    return made


@operation
def list_keys(service, request, key, params):
    service.allow(key, "listKeys")
    result = service.account.list_keys(
        None, key, None, number(params, "maxKeyCount", 100, 10000), params.get("startApplicationKeyId"))
    result["keys"] = [_key_shape(request, one) for one in result["keys"]]
    return result


@operation
def delete_key(service, request, key, params):
    service.allow(key, "deleteKeys")
    if text(params, "applicationKeyId") not in service.account.key_id_to_key:
        raise bad_request("application key does not exist")
    return _key_shape(
        request, service.account.delete_key(service.account.API_URL, key, params["applicationKeyId"]))


# Listings

def _encoded(entries, **more):
    rest = json.dumps(more, ensure_ascii=False)[1:].encode()
    return b'{"files":[' + b",".join(entries) + b"]," + rest


def _encoder(request, key):
    return lambda version: version.json(key, request.api_version)


@operation
def list_file_names(service, request, key, params):
    bucket, prefix = bucket_of(service, params), text(params, "prefix", False) or ""
    service.allow(key, "listFiles", bucket, prefix)
    entries, resume = bucket.list_file_names(
        _encoder(request, key), text(params, "startFileName", False) or "",
        number(params, "maxFileCount", 100, 10000), prefix, text(params, "delimiter", False) or "")
    return _encoded(entries, nextFileName=resume)


@operation
def list_file_versions(service, request, key, params):
    bucket, prefix = bucket_of(service, params), text(params, "prefix", False) or ""
    service.allow(key, "listFiles", bucket, prefix)
    start, start_id = text(params, "startFileName", False) or "", text(params, "startFileId", False)
    if start_id and not start:
        raise bad_request("startFileId needs startFileName")
    entries, resume, resume_id = bucket.list_file_versions(
        _encoder(request, key), start, start_id, number(params, "maxFileCount", 100, 10000), prefix,
        text(params, "delimiter", False) or "")
    return _encoded(entries, nextFileName=resume, nextFileId=resume_id)


@operation
def list_unfinished_large_files(service, request, key, params):
    bucket, prefix = bucket_of(service, params), text(params, "namePrefix", False) or ""
    service.allow(key, "listFiles", bucket, prefix)
    return bucket.list_unfinished_large_files(
        key, text(params, "startFileId", False), number(params, "maxFileCount", 100, 100), prefix)


@operation
def list_parts(service, request, key, params):
    version = unfinished(service, key, params)
    return version.list_parts(
        number(params, "startPartNumber", 1, 10000), number(params, "maxPartCount", 100, 1000))


# Files

@operation
def get_upload_url(service, request, key, params):
    bucket = bucket_of(service, params)
    service.allow(key, "writeFiles", bucket)
    return service.issue_upload_url(request, key, bucket)


@operation
def get_upload_part_url(service, request, key, params):
    version = unfinished(service, key, params)
    return service.issue_upload_url(request, key, version.bucket, version)


@operation
def get_file_info(service, request, key, params):
    version = file_of(service, params)
    service.allow(key, "readFiles", version.bucket, version.name)
    return version.as_upload_result(key)


@operation
def hide_file(service, request, key, params):
    bucket, name = bucket_of(service, params), check_name(text(params, "fileName"))
    service.allow(key, "writeFiles", bucket, name)
    return bucket.hide_file(key, name)


@operation
def delete_file_version(service, request, key, params):
    name = text(params, "fileName")
    version = file_of(service, params, missing=(400, "file_not_present"))
    service.allow(key, "deleteFiles", version.bucket, version.name)
    if version.name != name:
        raise ApiError(400, "file_not_present", f"File not present: {name} {version.file_id}")
    return version.bucket.delete_file_version(key, version, bool(params.get("bypassGovernance")))


@operation
def start_large_file(service, request, key, params):
    bucket, name = bucket_of(service, params), check_name(text(params, "fileName"))
    service.allow(key, "writeFiles", bucket, name)
    sse = encryption_for(bucket, encryption_of_json(params.get("serverSideEncryption")))
    info = check_info(name, params.get("fileInfo") or {}, strict(bucket, sse))
    retention = params.get("fileRetention") or {}
    version = bucket.add(
        "start", name, text(params, "contentType"), "none", info, None, sse=sse,
        retention=retention_of(retention.get("mode"), retention.get("retainUntilTimestamp")),
        hold=hold_of(params.get("legalHold")))
    return version.as_start_large_file_result(key)


@operation
def finish_large_file(service, request, key, params):
    version = unfinished(service, key, params)
    sha1s = params.get("partSha1Array")
    if not isinstance(sha1s, list):
        raise bad_request("partSha1Array is missing")
    version.finish(sha1s, service.minimum_part)
    return version.as_upload_result(key)


@operation
def cancel_large_file(service, request, key, params):
    version = unfinished(service, key, params)
    return version.bucket.cancel_large_file(version)


def _source(service, key, params):
    """The version to copy from, and the bytes of it that are asked for."""
    source = file_of(service, params, "sourceFileId")
    service.allow(key, "readFiles", source.bucket, source.name)
    if source.action != "upload":
        raise ApiError(404, "not_found", f"File not present: {source.file_id}")
    source.check_encryption(encryption_of_json(params.get("sourceServerSideEncryption")))
    body = source.data_bytes
    if params.get("range"):
        extent = byte_range(text(params, "range"), len(body))
        if extent is None:
            raise bad_request("bad range: " + params["range"])
        body = body.extent(*extent)
    if len(body) > service.copy_limit:
        raise ApiError(400, "source_too_large", f"Copy source too big: {len(body)}")
    return source, body


@operation
def copy_file(service, request, key, params):
    source, body = _source(service, key, params)
    name = check_name(text(params, "fileName"))
    bucket = source.bucket
    if params.get("destinationBucketId"):
        bucket = service.account.bucket(params["destinationBucketId"])
    service.allow(key, "writeFiles", bucket, name)
    directive = params.get("metadataDirective") or "COPY"
    kind, info = params.get("contentType"), params.get("fileInfo")
    if directive == "COPY" and (kind is not None or info is not None):
        raise bad_request("contentType and fileInfo must not be given with COPY")
    if directive == "REPLACE" and not isinstance(kind, str):
        raise bad_request("REPLACE needs contentType")
    if directive not in ("COPY", "REPLACE"):
        raise bad_request("unknown metadataDirective")
    sse = encryption_for(bucket, encryption_of_json(params.get("destinationServerSideEncryption")))
    if directive == "COPY":
        kind, info = source.content_type, dict(source.file_info)
    info = check_info(name, info or {}, strict(bucket, sse))
    retention = params.get("fileRetention") or {}
    retention = retention_of(retention.get("mode"), retention.get("retainUntilTimestamp"))
    hold, whole = hold_of(params.get("legalHold")), len(body) == len(source.data_bytes)

    def copy():
        sha1 = source.content_sha1 if whole and source.content_sha1 != "none" else body.sha1()
        with service.lock:
            made = bucket.add("upload", name, kind, sha1, info, body, sse=sse, retention=retention, hold=hold)
            # Only the answer to the copy says so; later it is an upload like any other.
            return {**made.as_upload_result(key), "action": "copy"}

    return copy


@operation
def copy_part(service, request, key, params):
    source, body = _source(service, key, params)
    large = unfinished(service, key, params, "largeFileId")
    part = number(params, "partNumber", 0, 10000)
    if not part:
        raise bad_request("partNumber is missing")
    check_part_encryption(large, encryption_of_json(params.get("destinationServerSideEncryption")))

    def copy():
        sha1 = body.sha1()
        with service.lock:
            if large.action != "start" or large.file_id not in service.account.files:
                raise bad_request(f"No active upload for: {large.file_id}")
            return large.bucket.add_part(large, part, sha1, body)

    return copy


def check_part_encryption(large, asked):
    if large.server_side_encryption.mode.value == "SSE-C" or asked is not None:
        large.check_encryption(asked)


@operation
def update_file_retention(service, request, key, params):
    version = file_of(service, params)
    service.allow(key, "writeFileRetentions", version.bucket, version.name)
    asked = params.get("fileRetention") or {}
    if not version.bucket.is_file_lock_enabled:
        raise bad_request("the bucket has no Object Lock")
    wanted = retention_of(asked.get("mode"), asked.get("retainUntilTimestamp"))
    old = version.file_retention
    if old is not None and old.retain_until and old.retain_until > time.time() * 1000:
        shorter = wanted is None or wanted.retain_until < old.retain_until
        bypass = params.get("bypassGovernance") and "bypassGovernance" in key.capabilities
        if shorter and (old.mode.value == "compliance" or not bypass):
            raise ApiError(401, "access_denied", "the file is retained")
    version.file_retention = wanted
    return {"fileId": version.file_id, "fileName": version.name, "fileRetention": asked}


@operation
def update_file_legal_hold(service, request, key, params):
    version = file_of(service, params)
    service.allow(key, "writeFileLegalHolds", version.bucket, version.name)
    if not version.bucket.is_file_lock_enabled:
        raise bad_request("the bucket has no Object Lock")
    version.legal_hold = hold_of(text(params, "legalHold"))
    return {"fileId": version.file_id, "fileName": version.name, "legalHold": params["legalHold"]}


@operation
def get_download_authorization(service, request, key, params):
    bucket, prefix = bucket_of(service, params), text(params, "fileNamePrefix")
    service.allow(key, "shareFiles", bucket, prefix)
    seconds = number(params, "validDurationInSeconds", 0, 604800)
    if not seconds:
        raise bad_request("validDurationInSeconds is missing")
    token = service.issue_token(key) + "_dnld"
    service.download_tokens[token] = bucket.bucket_id, prefix, time.monotonic() + seconds
    return {"bucketId": bucket.bucket_id, "fileNamePrefix": prefix, "authorizationToken": token}


@operation
def get_bucket_notification_rules(service, request, key, params):
    bucket = bucket_of(service, params)
    service.allow(key, "readBucketNotifications", bucket)
    return {"bucketId": bucket.bucket_id, "eventNotificationRules": bucket.get_notification_rules()}


@operation
def set_bucket_notification_rules(service, request, key, params):
    bucket = bucket_of(service, params)
    service.allow(key, "writeBucketNotifications", bucket)
    rules = bucket.set_notification_rules(params.get("eventNotificationRules") or [])
    return {"bucketId": bucket.bucket_id, "eventNotificationRules": rules}


