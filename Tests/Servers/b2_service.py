"""The state of the service (account, tokens, upload URLs), and the way of a request to its operation."""
import base64
import json
import re
import secrets
import sys
import threading
import time
import traceback

from b2_faults import STORING, UPLOADS, Faults, Statistics
from b2_http import ApiError, Disconnected, bad_request
from b2_model import Account


class UploadURL:
    """Where one client uploads, one request at a time."""

    def __init__(self, token, key, bucket, file, expires):
        self.token, self.key, self.bucket, self.file, self.expires = token, key, bucket, file, expires
        self.alive, self.lock = True, threading.Lock()


class Service:
    def __init__(self, account, bodies, minimum_part, recommended_part):
        self.account, self.bodies = account, bodies
        self.minimum_part, self.recommended_part = minimum_part, recommended_part
        # The model knows nothing of threads.
        self.lock = threading.RLock()
        self.faults, self.statistics = Faults(), Statistics()
        self.tokens, self.upload_urls, self.download_tokens = {}, {}, {}
        self.defaults()

    def defaults(self):
        self.token_life = self.upload_url_life = 86400.0
        # The largest source of b2_copy_file and b2_copy_part.
        self.copy_limit = 5_000_000_000
        self.authorize_shape = None
        self.test_calls = 0

    # Tokens

    def issue_token(self, key):
        token = f"4_{self.account.account_id}_{secrets.token_hex(16)}_acct"
        self.tokens[token] = [key, time.monotonic() + self.token_life]
        return token

    def key_of(self, request):
        """The key whose account token the request bears.
        :raises ApiError: 401."""
        entry = self.tokens.get(request.headers.get("authorization", ""))
        if entry is None:
            raise ApiError(401, "bad_auth_token", "Invalid authorization token")
        key, expires = entry
        request.key_id = key.application_key_id
        if time.monotonic() >= expires:
            raise ApiError(401, "expired_auth_token", "Authorization token has expired")
        return self.live(key)

    def live(self, key):
        expires = key.expiration_timestamp_or_none
        gone = self.account.key_id_to_key.get(key.application_key_id) is not key
        if gone or expires is not None and expires < time.time():
            raise ApiError(401, "bad_auth_token", "The application key is deleted or has expired")
        return key

    def expire_tokens(self, key_id=None):
        for entry in self.tokens.values():
            if key_id in (None, entry[0].application_key_id):
                entry[1] = 0.0

    def expire_upload_urls(self, bucket=None):
        for url in self.upload_urls.values():
            if bucket in (None, url.bucket.bucket_name):
                url.expires = 0.0

    def issue_upload_url(self, request, key, bucket, file=None):
        token = f"4_{self.account.account_id}_{secrets.token_hex(16)}_upld"
        operation, target = ("b2_upload_file", bucket.bucket_id) if file is None else ("b2_upload_part", file.file_id)
        self.upload_urls[token] = UploadURL(token, key, bucket, file, time.monotonic() + self.upload_url_life)
        result = {"bucketId": bucket.bucket_id} if file is None else {"fileId": file.file_id}
        result["uploadUrl"] = f"{base(request)}/b2api/v4/{operation}/{target}/{token[-10:-5]}"
        result["authorizationToken"] = token
        return result

    # What a key may do

    def allow(self, key, capability, bucket=None, name=None):
        """:param bucket: what is asked for is in it. :param name: the file, or the prefix of the files.
        :raises ApiError: 401 unauthorized."""
        if capability not in key.capabilities:
            raise ApiError(401, "unauthorized", f"unauthorized: the key lacks the capability {capability}")
        if bucket is not None and key.buckets_or_none is not None:
            if all(one["id"] != bucket.bucket_id for one in key.buckets_or_none):
                raise ApiError(401, "unauthorized", "unauthorized: the key is for other buckets")
        prefix = key.name_prefix_or_none
        if prefix and name is not None and not name.startswith(prefix):
            raise ApiError(401, "unauthorized", f"unauthorized: the key is for the prefix {prefix}")

    # A request

    def serve(self, request):
        connection = request.connection
        request.lose_reply = False
        try:
            try:
                self.route(request)
            except ApiError as error:
                connection.answer(
                    request, error.status, [("Content-Type", "application/json"), *error.headers], error.body())
            except (Disconnected, ConnectionError):
                raise
            except Exception:
                traceback.print_exc(file=sys.stderr)
                error = ApiError(500, "internal_error", traceback.format_exc(limit=1))
                connection.answer(request, 500, [("Content-Type", "application/json")], error.body())
        finally:
            if not request.raw_path.startswith("/__"):
                self.statistics.record(request, time.monotonic() - request.started)

    def route(self, request):
        # The modules of the operations know this one.
        import b2_api
        import b2_control
        import b2_transfer
        path = request.raw_path
        match = re.fullmatch(r"/b2api/v([1-4])/(b2_[a-z_0-9]+)(?:/([^/]+)/[^/]+)?", path)
        if path.startswith("/__"):
            b2_control.serve(self, request)
        elif match is None:
            match = re.fullmatch(r"/file/([^/]+)/(.+)", path)
            if match is None:
                raise bad_request("invalid path: " + path[:200])
            b2_transfer.download_by_name(self, request, request.segment(match[1]), request.segment(match[2]))
        elif match[2] in UPLOADS:
            request.operation = match[2]
            b2_transfer.upload(self, request, match[3] or "")
        elif match[2] == "b2_download_file_by_id":
            b2_transfer.download_by_id(self, request)
        elif match[2] == "b2_authorize_account":
            request.operation = match[2]
            b2_api.authorize(self, request, int(match[1]))
        else:
            b2_api.call(self, request, match[2], int(match[1]))

    def enter(self, request):
        """Call, key and bucket are known: the faults that are switched on strike now."""
        latency = self.faults.strike("latency", request)
        if latency:
            time.sleep(latency["milliseconds"] / 1000)
        self._test_mode(request)
        cap = self.faults.capped(request)
        if cap:
            raise ApiError(403, cap, "Cap exceeded.")
        fail = self.faults.strike("fail", request)
        if fail:
            headers = [("Retry-After", str(fail["retry_after"]))] if "retry_after" in fail else []
            status = fail.get("status", 503)
            code = fail.get("code", "service_unavailable" if status == 503 else "internal_error")
            raise ApiError(status, code, fail.get("message", "switched on by the test"), headers)
        reset = self.faults.strike("reset", request)
        if reset:
            request.reset_after = reset.get("after", 0)
            if request.operation not in UPLOADS and request.reset_after == 0:
                request.connection.reset()
        if self.faults.strike("lose_reply", request):
            request.lose_reply = True

    def _test_mode(self, request):
        mode = request.headers.get("x-bz-test-mode")
        if not mode:
            return
        self.test_calls += 1
        if mode == "fail_some_uploads" and request.operation in UPLOADS and self.test_calls % 3 == 0:
            raise ApiError(503, "service_unavailable", "some uploads fail")
        if mode == "expire_some_account_authorization_tokens" and self.test_calls % 10 == 0:
            entry = self.tokens.get(request.headers.get("authorization", ""))
            if entry is not None:
                entry[1] = 0.0
                raise ApiError(401, "expired_auth_token", "Authorization token has expired")
        if mode == "force_cap_exceeded" and request.operation in STORING:
            raise ApiError(403, "storage_cap_exceeded", "Cap exceeded.")

    def reply(self, request, value):
        """Answers 200 with JSON: an object, or bytes that are JSON."""
        if request.lose_reply:
            request.status = 200
            request.connection.reset()
        body = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, default=list).encode()
        request.connection.answer(request, 200, [("Content-Type", "application/json;charset=UTF-8")], body)


def base(request):
    """The address under which the client reached the server, which may be that of a proxy."""
    return "http://" + request.headers.get("host", "127.0.0.1")


def basic_credentials(request):
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind != "Basic":
        raise ApiError(401, "bad_auth_token", "Basic authorization is needed")
    try:
        key_id, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        raise ApiError(401, "bad_auth_token", "bad Basic authorization")
    return key_id, secret


def make_service(key_id, secret, bodies, minimum_part, recommended_part):
    return Service(Account(key_id, secret), bodies, minimum_part, recommended_part)
