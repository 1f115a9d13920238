#!/usr/bin/env python3
"""What only HTTP has, asked of the B2 server byte by byte. Usage: check_wire.py PORT KEY_ID KEY SERVER_PID."""
import base64
import hashlib
import http.client
import json
import os
import socket
import sys
import threading
import time
from urllib.parse import quote

PORT, KEY_ID, KEY, SERVER = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]


class Client:
    def __init__(self, key_id=KEY_ID, key=KEY, version=4):
        self.http, self.version = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30), version
        self.basic = "Basic " + base64.b64encode(f"{key_id}:{key}".encode()).decode()
        self.authorize()

    def authorize(self):
        self.account = self.api("b2_authorize_account", token=self.basic)
        self.token = self.account["authorizationToken"]

    def send(self, method, path, body=None, **headers):
        """:return: status, headers, body."""
        self.http.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = self.http.getresponse()
        return response.status, response.headers, response.read()

    def api(self, name, params=None, token=None, expect=200, **headers):
        status, _, body = self.send(
            "POST", f"/b2api/v{self.version}/{name}", json.dumps(params or {}), Authorization=token or self.token,
            **headers)
        answer = json.loads(body)
        seen = status if status == 200 else answer["code"]
        assert seen == expect, f"{name} {params}: {seen} instead of {expect}: {answer}"
        if status != 200:
            assert answer["status"] == status, answer
        return answer

    def upload_url(self, bucket):
        return self.api("b2_get_upload_url", {"bucketId": bucket})

    def upload(self, bucket, name, data, expect=200, url=None, sha1=None, encoded=None, **headers):
        url = url or self.upload_url(bucket)
        status, _, body = self.send(
            "POST", url["uploadUrl"].split(str(PORT), 1)[1], data,
            **{"Authorization": url["authorizationToken"], "X-Bz-File-Name": encoded or quote(name),
               "Content-Type": "text/plain", "X-Bz-Content-Sha1": sha1 or hashlib.sha1(data).hexdigest(), **headers})
        answer = json.loads(body)
        seen = status if status == 200 else answer["code"]
        assert seen == expect, f"upload of {name}: {seen} instead of {expect}: {answer}"
        return answer

    def get(self, bucket, name, method="GET", expect=200, **headers):
        headers.setdefault("Authorization", self.token)
        status, heads, body = self.send(method, f"/file/{bucket}/{quote(name)}", **headers)
        assert status == expect, f"{method} {name} {headers}: {status} instead of {expect}: {body[:200]}"
        return heads, body


def control(**orders):
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.request("POST", "/__control", json.dumps(orders))
    response = connection.getresponse()
    assert response.status == 200, response.read()
    return json.loads(response.read())


def bucket(label, **settings):
    name = f"{label}-{os.getpid()}"
    return name, control(create_bucket={"name": name, **settings})["create_bucket"]


def same(one, two, what=""):
    assert one == two, f"{what}: {one!r} instead of {two!r}"


def check_headers_and_ranges():
    """Names and information are percent-encoded UTF-8; ranges, HEAD and 416 are as HTTP has them"""
    client, (name, number) = Client(), bucket("ranges")
    odd = "dir/ü +%&?#日本.txt"
    client.upload(number, odd, b"0123456789", **{"X-Bz-Info-Mixed-Case": quote("a+b ü")})
    same(client.get(name, odd)[1], b"0123456789")
    head, body = client.get(name, odd, "HEAD")
    same((head["Content-Length"], head["x-bz-info-mixed-case"], body), ("10", quote("a+b ü"), b""))
    same(head["X-Bz-File-Name"], quote(odd))
    client.upload(number, "plus", b"x", encoded="a+b%2Bc")
    client.get(name, "a b+c")
    for asked, told, expected in [
            ("bytes=2-4", "bytes 2-4/10", b"234"), ("bytes=7-", "bytes 7-9/10", b"789"),
            ("bytes=-3", "bytes 7-9/10", b"789"), ("bytes=8-99", "bytes 8-9/10", b"89")]:
        head, body = client.get(name, odd, expect=206, Range=asked)
        same((head["Content-Range"], body), (told, expected), asked)
    head, body = client.get(name, odd, expect=416, Range="bytes=10-")
    same(json.loads(body)["code"], "range_not_satisfiable")
    client.get(name, "absent", "HEAD", expect=404)
    client.get(name, odd, "HEAD", expect=401, Authorization="none")
    client.upload(number, "x", b"x", "bad_request", encoded="%ff")
    client.upload(number, "x" * 251, b"x", "bad_request")
    client.upload(number, "tab\t", b"x", "bad_request")


def check_checksums():
    """The SHA-1 in front, at the end or not at all; a wrong one is refused and its URL is done for"""
    client, (name, number) = Client(), bucket("sums")
    data = os.urandom(3_000_000)
    sha1 = hashlib.sha1(data).hexdigest()
    answer = client.upload(number, "end", data + sha1.encode(), sha1="hex_digits_at_end")
    same((answer["contentLength"], answer["contentSha1"]), (len(data), sha1))
    same(client.get(name, "end")[1], data)
    same(client.upload(number, "unverified", data, sha1="do_not_verify")["contentSha1"], "unverified:" + sha1)
    url = client.upload_url(number)
    client.upload(number, "wrong", data, "bad_request", url, sha1="0" * 40)
    client.upload(number, "wrong", data, "bad_auth_token", url)
    client.upload(number, "wrong", data + b"0" * 40, "bad_request", sha1="hex_digits_at_end")
    client.get(name, "wrong", expect=404)


def check_information_limits():
    """File information: its names, their number, and 7,000 bytes, or 2,048 with encryption"""
    client, (_, plain) = Client(), bucket("plain")
    _, encrypted = bucket("encrypted", encryption={"mode": "SSE-B2", "algorithm": "AES256"})
    same(client.upload(encrypted, "x", b"x")["serverSideEncryption"], {"algorithm": "AES256", "mode": "SSE-B2"})
    client.upload(plain, "x", b"x", **{"X-Bz-Info-a": "v" * 6900})
    client.upload(plain, "x", b"x", "bad_request", **{"X-Bz-Info-a": "v" * 7000})
    client.upload(encrypted, "x", b"x", "bad_request", **{"X-Bz-Info-a": "v" * 2048})
    client.upload(plain, "x", b"x", "bad_request", **{f"X-Bz-Info-k{number}": "v" for number in range(11)})
    client.upload(plain, "x", b"x", "bad_request", **{"X-Bz-Info-b2-own": "v"})
    client.upload(plain, "x", b"x", "bad_request", **{"X-Bz-Info-" + "k" * 51: "v"})
    client.api("b2_start_large_file", {
        "bucketId": plain, "fileName": "x", "contentType": "text/plain", "fileInfo": {"a": "ü" * 1200}},
        expect="bad_request")


def check_customer_keys():
    """SSE-C: the key is wanted for every read and copy, and its MD5 is checked"""
    client, (name, number) = Client(), bucket("secret")

    def headers(key, digest=None):
        prefix = "X-Bz-Server-Side-Encryption-Customer-"
        digest = digest or base64.b64encode(hashlib.md5(key).digest()).decode()
        return {prefix + "Algorithm": "AES256", prefix + "Key": base64.b64encode(key).decode(),
                prefix + "Key-Md5": digest}

    one, two = os.urandom(32), os.urandom(32)
    file = client.upload(number, "x", b"secret", **headers(one))
    same(file["serverSideEncryption"]["mode"], "SSE-C")
    client.upload(number, "x", b"secret", "bad_request", **headers(one, "wrong"))
    same(client.get(name, "x", **headers(one))[1], b"secret")
    client.get(name, "x", expect=403)
    client.get(name, "x", "HEAD", expect=403, **headers(two))
    client.api("b2_copy_file", {"sourceFileId": file["fileId"], "fileName": "y"}, expect="access_denied")


def check_tokens():
    """Tokens and upload URLs expire when told to, one upload at a time on each, and older answers to authorize"""
    client, (name, number) = Client(), bucket("tokens")
    url = client.upload_url(number)
    key = control(create_key={"capabilities": ["listFiles", "readFiles", "writeFiles"]})["create_key"]
    other = Client(key["keyID"], key["applicationKey"])
    control(expire_tokens={"key": key["keyID"]})
    other.api("b2_list_file_names", {"bucketId": number}, expect="expired_auth_token")
    client.api("b2_list_file_names", {"bucketId": number})
    client.upload(number, "x", b"x", url=url)
    control(expire_upload_urls={"bucket": name})
    client.upload(number, "x", b"x", "expired_auth_token", url)
    client.api("b2_list_file_names", {"bucketId": number}, token="none", expect="bad_auth_token")

    url = client.upload_url(number)
    slow = socket.create_connection(("127.0.0.1", PORT))
    slow.sendall((f"POST {url['uploadUrl'].split(str(PORT), 1)[1]} HTTP/1.1\r\nAuthorization: "
                  f"{url['authorizationToken']}\r\nX-Bz-File-Name: slow\r\nContent-Type: a/b\r\nContent-Length: 2\r\n"
                  "X-Bz-Content-Sha1: do_not_verify\r\nExpect: 100-continue\r\n\r\n").encode())
    same(slow.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
    client.upload(number, "second", b"x", "auth_token_limit", url)
    slow.sendall(b"12")
    told = slow.recv(1000)
    assert told.startswith(b"HTTP/1.1 200 OK"), told

    for shape, present in [(1, "minimumPartSize"), (2, "allowed"), (3, "apiInfo"), (4, "apiInfo")]:
        control(authorize_shape=shape)
        status, _, body = client.send("GET", "/b2api/v4/b2_authorize_account", Authorization=client.basic)
        answer = json.loads(body)
        assert status == 200 and present in answer, (shape, answer)
        assert ("apiUrl" in answer) == (shape < 3) and ("bucketId" in json.dumps(answer)) == (shape < 4), answer
    control(authorize_shape=None)


def check_restricted_keys():
    """A key is held to its capabilities, its buckets and its prefix"""
    (name, number), (other_name, other) = bucket("mine"), bucket("other")
    master = Client()
    for one in "in/x", "out/x":
        master.upload(number, one, b"x")
    key = control(create_key={
        "capabilities": ["listBuckets", "listFiles", "readFiles"], "buckets": [name], "prefix": "in/"})["create_key"]
    client = Client(key["keyID"], key["applicationKey"])
    allowed = client.account["apiInfo"]["storageApi"]["allowed"]
    same((allowed["buckets"], allowed["namePrefix"]), ([{"id": number, "name": name}], "in/"))
    account = client.account["accountId"]
    client.api("b2_list_buckets", {"accountId": account}, expect="unauthorized")
    same(len(client.api("b2_list_buckets", {"accountId": account, "bucketName": name})["buckets"]), 1)
    client.api("b2_list_file_names", {"bucketId": number}, expect="unauthorized")
    same(len(client.api("b2_list_file_names", {"bucketId": number, "prefix": "in/"})["files"]), 1)
    client.api("b2_list_file_names", {"bucketId": other, "prefix": "in/"}, expect="unauthorized")
    client.api("b2_get_upload_url", {"bucketId": number}, expect="unauthorized")
    client.get(name, "in/x")
    client.get(name, "out/x", expect=401)
    two = control(create_key={
        "capabilities": ["listFiles", "writeFiles"], "buckets": [name, other_name]})["create_key"]
    Client(two["keyID"], two["applicationKey"]).upload(other, "x", b"x")
    try:
        Client(two["keyID"], two["applicationKey"], version=3)
        raise RuntimeError("a key for two buckets needs version 4")
    except AssertionError:
        pass


def check_listings():
    """Pages of 10,000, folders by a delimiter, versions and unfinished files"""
    client, (name, number) = Client(), bucket("lists")
    url = client.upload_url(number)
    names = [f"d{one // 100:02d}/f{one:04d}" for one in range(300)] + ["top", "d00", "d0"]
    for one in names:
        client.upload(number, one, b"", url=url)
    listed = client.api("b2_list_file_names", {"bucketId": number, "maxFileCount": 10000})
    same([file["fileName"] for file in listed["files"]], sorted(names))
    client.api("b2_list_file_names", {"bucketId": number, "maxFileCount": 10001}, expect="out_of_range")
    expected = [("d0", "upload"), ("d00", "upload")]
    expected += [(folder, "folder") for folder in ("d00/", "d01/", "d02/")] + [("top", "upload")]
    for count in 1, 2, 3, 100:
        for operation in "b2_list_file_names", "b2_list_file_versions":
            found, place = [], {}
            while True:
                page = client.api(operation, {"bucketId": number, "maxFileCount": count, "delimiter": "/", **place})
                found += [(file["fileName"], file["action"]) for file in page["files"]]
                if page["nextFileName"] is None:
                    break
                place = {"startFileName": page["nextFileName"]}
                if page.get("nextFileId"):
                    place["startFileId"] = page["nextFileId"]
            same(found, expected, f"{operation} by {count}")
    for one in range(100):
        client.api("b2_hide_file", {"bucketId": number, "fileName": f"d01/f{100 + one:04d}"})
    folders = client.api("b2_list_file_names", {"bucketId": number, "delimiter": "/", "prefix": "d"})["files"]
    same([file["fileName"] for file in folders], ["d0", "d00", "d00/", "d02/"], "a folder of hidden files")
    client.api("b2_hide_file", {"bucketId": number, "fileName": "d01/f0100"}, expect="already_hidden")
    client.api("b2_hide_file", {"bucketId": number, "fileName": "never"}, expect="no_such_file")
    started = client.api("b2_start_large_file", {"bucketId": number, "fileName": "top", "contentType": "a/b"})
    visible = client.api("b2_list_file_names", {"bucketId": number, "prefix": "t"})["files"]
    same([file["fileName"] for file in visible], ["top"])
    unfinished = client.api("b2_list_unfinished_large_files", {"bucketId": number})["files"]
    same([file["fileId"] for file in unfinished], [started["fileId"]])
    client.api("b2_cancel_large_file", {"fileId": started["fileId"]})
    client.api("b2_list_parts", {"fileId": started["fileId"]}, expect="bad_request")


def check_faults():
    """The faults strike whom they are for, as often as they are told, and no longer"""
    client, (name, number) = Client(), bucket("faults")
    mine = {"bucket": name}
    control(fail={**mine, "operation": "upload", "count": 2, "retry_after": 3})
    for expected in "service_unavailable", "service_unavailable", 200:
        client.upload(number, "x", b"x" * 100, expected)
    for cap, attempt in [
            ("storage", lambda: client.api("b2_get_upload_url", {"bucketId": number}, expect="storage_cap_exceeded")),
            ("download", lambda: client.get(name, "x", expect=403)),
            ("transaction", lambda: client.api(
                "b2_list_file_names", {"bucketId": number}, expect="transaction_cap_exceeded"))]:
        control(caps={**mine, "caps": [cap]})
        attempt()
        control(clear=mine)
    control(latency={**mine, "milliseconds": 300, "count": 1})
    began = time.monotonic()
    client.get(name, "x")
    assert time.monotonic() - began > 0.28, "no latency"
    control(reset={**mine, "operation": "download", "after": 40, "count": 1})
    try:
        client.get(name, "x")
        raise RuntimeError("no reset")
    except (http.client.HTTPException, ConnectionError):
        client.http.close()
    same(len(client.get(name, "x")[1]), 100)
    control(lose_reply={**mine, "operation": "upload", "count": 1})
    url = client.upload_url(number)
    try:
        client.upload(number, "lost", b"y", url=url)
        raise RuntimeError("the reply came")
    except (http.client.HTTPException, ConnectionError):
        client.http.close()
    same(client.get(name, "lost")[1], b"y")
    client.api("b2_get_upload_url", {"bucketId": number})
    client.upload(number, "z", b"z", "storage_cap_exceeded", **{"X-Bz-Test-Mode": "force_cap_exceeded"})


def check_load():
    """Many at a time, and a body of 400 MB that does not stay in memory"""
    client, (name, number) = Client(), bucket("load")

    def many(worker):
        own = Client()
        url = own.upload_url(number)
        for one in range(50):
            own.upload(number, f"w{worker}/f{one}", b"%d" % one, url=url)

    workers = [threading.Thread(target=many, args=[one]) for one in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    listed = client.api("b2_list_file_names", {"bucketId": number, "maxFileCount": 1000})["files"]
    same(len(listed), 400)

    def memory():
        with open(f"/proc/{SERVER}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    def blocks():
        for _ in range(400):
            yield bytes(1_000_000)

    before, url = memory(), client.upload_url(number)
    status, _, body = client.send(
        "POST", url["uploadUrl"].split(str(PORT), 1)[1], blocks(), Authorization=url["authorizationToken"],
        X_Bz_File_Name="big", Content_Type="a/b", Content_Length="400000000", X_Bz_Content_Sha1="do_not_verify")
    same(status, 200)
    client.http.request("GET", f"/file/{name}/big", headers={"Authorization": client.token})
    response, count = client.http.getresponse(), 0
    while block := response.read(1 << 20):
        count += len(block)
    same(count, 400_000_000)
    assert memory() - before < 50_000, f"grew by {memory() - before} KiB"


def main():
    failed = 0
    for check in [value for name, value in list(globals().items()) if name.startswith("check_")]:
        try:
            check()
            print("ok:", check.__doc__)
        except Exception as error:
            failed += 1
            print(f"FAILED: {check.__doc__}: {type(error).__name__}: {error}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
