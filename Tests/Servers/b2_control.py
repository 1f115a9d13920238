"""The side door of the tests: `POST /__control` and `GET /__stats`, which no client of B2 knows.

Control takes an object; every field is one order. Those with settings take `count` (how often; unset: for good),
`operation` (a b2_ name, `upload`, `download`; unset: every call), `bucket` (a name) and `key` (an id):

    fail        {status: 503, code, message, retry_after}   answers so
    reset       {after: BYTES}                               resets the connection within the body, or before the answer
    lose_reply  {}                                           does what was asked, and resets instead of answering
    latency     {milliseconds}                               answers so much later
    caps        {caps: [storage, transaction, download]}     403 of what the caps concern
    fail_uploads: N                                          the next N uploads get 503
    expire_tokens: true | {key}, expire_upload_urls: true | {bucket}
    token_life, upload_url_life: seconds, of those issued from now on
    authorize_shape: 1...4 | null                            the shape of the answer, whatever was asked for
    minimum_part, recommended_part, copy_limit: bytes
    clear: true | {bucket}                                   no more faults (of that bucket); true: defaults again
    create_bucket: name | {name, type, encryption, lock}, create_key: {name, capabilities, buckets: [names], prefix}
    reset_stats: true
"""
import json

from b2_faults import Faults
from b2_http import ApiError, bad_request
from b2_rules import encryption_of_json


def serve(service, request):
    request.lose_reply = False
    if request.raw_path == "/__stats":
        query = request.query
        service.reply(request, service.statistics.report(
            query.get("bucket"), query.get("key"), int(query.get("lines", 100))))
    elif request.raw_path == "/__control" and request.method == "POST":
        try:
            orders = json.loads(request.body())
        except ValueError:
            raise ApiError(400, "bad_json", "not JSON")
        with service.lock:
            service.reply(request, {name: _obey(service, name, order) for name, order in orders.items()})
    else:
        raise bad_request("POST /__control or GET /__stats")


def _obey(service, name, order):
    if name in Faults.KINDS:
        service.faults.add(name, order)
    elif name == "fail_uploads":
        service.faults.add("fail", {"operation": "upload", "count": order})
    elif name == "expire_tokens":
        service.expire_tokens(None if order is True else order["key"])
    elif name == "expire_upload_urls":
        service.expire_upload_urls(None if order is True else order["bucket"])
    elif name in ("token_life", "upload_url_life", "authorize_shape", "minimum_part", "recommended_part", "copy_limit"):
        setattr(service, name, order)
    elif name == "clear":
        service.faults.clear(None if order is True else order["bucket"])
        if order is True:
            service.defaults()
    elif name == "reset_stats":
        service.statistics.reset()
    elif name == "create_bucket":
        settings = {"name": order} if isinstance(order, str) else order
        key = next(iter(service.account.key_id_to_key.values()))
        return service.account.make_bucket(
            key, settings["name"], settings.get("type", "allPrivate"),
            default_server_side_encryption=encryption_of_json(settings.get("encryption")),
            is_file_lock_enabled=settings.get("lock")).bucket_id
    elif name == "create_key":
        buckets = order.get("buckets")
        ids = buckets and [service.account.bucket_name_to_bucket[one].bucket_id for one in buckets]
        made = service.account.make_key(
            order.get("name", "test"), order["capabilities"], order.get("seconds"), ids, order.get("prefix"))
        return {"keyID": made["applicationKeyId"], "applicationKey": made["applicationKey"]}
    else:
        raise bad_request("unknown order: " + name)
    return True
