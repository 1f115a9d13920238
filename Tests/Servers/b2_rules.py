"""What the service asks of names, file information, encryption and retention."""
import base64
import hashlib
import re
from urllib.parse import quote

from b2sdk._internal.encryption.setting import (
    EncryptionAlgorithm, EncryptionKey, EncryptionMode, EncryptionSetting, SSE_B2_AES,
)
from b2sdk._internal.file_lock import FileRetentionSetting, LegalHold, RetentionMode

from b2_http import ApiError, bad_request

INFO_NAME = re.compile(r"[A-Za-z0-9\-_.`~!#$%^&*'|+]{1,50}")
RESERVED_INFO = {
    "b2-content-disposition": "Content-Disposition", "b2-content-language": "Content-Language",
    "b2-expires": "Expires", "b2-cache-control": "Cache-Control", "b2-content-encoding": "Content-Encoding",
}
INFO_COUNT = 10
# Of name and information together, as headers; the lower one with encryption or Object Lock.
HEADER_BYTES, HEADER_BYTES_ENCRYPTED = 7000, 2048


def check_name(name):
    if not isinstance(name, str) or not name:
        raise bad_request("File name must not be empty")
    if len(encoded(name)) > 1024:
        raise bad_request("File name is too long")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise bad_request("File name contains a control character")
    if any(len(segment.encode()) > 250 for segment in name.split("/")):
        raise bad_request("File name segment is longer than 250 bytes")
    return name


def encoded(text):
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise bad_request("not UTF-8")


def check_info(name, info, strict):
    """The information as it is stored: names in lower case.
    :param strict: encryption or Object Lock is on."""
    if not isinstance(info, dict):
        raise bad_request("fileInfo must be an object")
    result = {}
    for key, value in info.items():
        key = key.lower()
        if not INFO_NAME.fullmatch(key):
            raise bad_request("bad file info name: " + key)
        if key.startswith("b2-") and key not in RESERVED_INFO:
            raise bad_request("reserved file info name: " + key)
        if not isinstance(value, str):
            raise bad_request("file info value is not a string: " + key)
        encoded(value)
        result[key] = value
    if len(result) > INFO_COUNT:
        raise bad_request(f"too many file info headers: {len(result)}")
    size = len(quote(name)) + sum(len("X-Bz-Info-" + key) + len(quote(value)) for key, value in result.items())
    limit = HEADER_BYTES_ENCRYPTED if strict else HEADER_BYTES
    if size > limit:
        raise bad_request(f"file name and file info are {size} bytes, more than {limit}")
    return result


def _customer_key(algorithm, key, digest):
    if algorithm != "AES256":
        raise bad_request("unknown encryption algorithm")
    try:
        secret = base64.b64decode(key or "", validate=True)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise bad_request("the customer key is not 256 bits")
    if base64.b64encode(hashlib.md5(secret).digest()).decode() != digest:
        raise bad_request("the MD5 of the customer key does not match it")
    return EncryptionSetting(
        EncryptionMode.SSE_C, EncryptionAlgorithm.AES256, EncryptionKey(secret=secret, key_id=None))


def encryption_of_json(value):
    """:return: nil when nothing is asked for."""
    if not value or value.get("mode") in (None, "none"):
        return None
    if value["mode"] == "SSE-B2":
        if value.get("algorithm") != "AES256":
            raise bad_request("unknown encryption algorithm")
        return SSE_B2_AES
    if value["mode"] == "SSE-C":
        return _customer_key(value.get("algorithm"), value.get("customerKey"), value.get("customerKeyMd5"))
    raise bad_request("unknown encryption mode")


def encryption_of_headers(headers):
    prefix = "x-bz-server-side-encryption"
    own, customer = headers.get(prefix), headers.get(prefix + "-customer-algorithm")
    if own and customer:
        raise bad_request("both SSE-B2 and SSE-C")
    if own:
        if own != "AES256":
            raise bad_request("unknown encryption algorithm")
        return SSE_B2_AES
    if customer or headers.get(prefix + "-customer-key"):
        return _customer_key(
            customer, headers.get(prefix + "-customer-key"), headers.get(prefix + "-customer-key-md5"))
    return None


def retention_of(mode, until):
    if not mode:
        return None
    if mode not in ("governance", "compliance") or not str(until or "").isdigit():
        raise bad_request("bad file retention")
    return FileRetentionSetting(RetentionMode(mode), int(until))


def hold_of(text):
    if text not in (None, "", "on", "off"):
        raise bad_request("bad legal hold")
    return LegalHold(text) if text else None


def byte_range(text, length):
    """The half-open extent that a Range header stands for; nil when it is not one.
    :raises ApiError: 416 when nothing of it is there."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if match is None or match[0] == "bytes=-" or not (match[1] or match[2]):
        return None
    if match[1]:
        start, end = int(match[1]), int(match[2]) + 1 if match[2] else length
        if match[2] and end <= start:
            return None
    else:
        start, end = max(length - int(match[2]), 0), length
    if start >= length:
        raise ApiError(
            416, "range_not_satisfiable", "The Range in the request is outside the size of the file.",
            [("Content-Range", f"bytes */{length}")])
    return start, min(end, length)
