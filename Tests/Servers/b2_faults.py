"""Faults that a test switches on while the server runs, and the counts of what it was asked for."""
import collections
import threading

CLASS_A = {
    "b2_upload_file", "b2_upload_part", "b2_start_large_file", "b2_finish_large_file", "b2_cancel_large_file",
    "b2_get_upload_url", "b2_get_upload_part_url", "b2_delete_file_version", "b2_hide_file",
    "b2_update_file_retention", "b2_update_file_legal_hold", "b2_delete_bucket", "b2_delete_key",
}
CLASS_B = {"b2_download_file_by_name", "b2_download_file_by_id", "b2_get_file_info", "head_file"}
UPLOADS = {"b2_upload_file", "b2_upload_part"}
DOWNLOADS = {"b2_download_file_by_name", "b2_download_file_by_id"}
# What the storage cap refuses.
STORING = UPLOADS | {
    "b2_get_upload_url", "b2_get_upload_part_url", "b2_start_large_file", "b2_copy_file", "b2_copy_part"}


def billing_class(operation):
    return "A" if operation in CLASS_A else "B" if operation in CLASS_B else "C"


class Fault:
    """Strikes the calls that it matches, so many times or for good."""

    def __init__(self, kind, settings):
        self.kind, self.settings = kind, settings
        self.left = settings.get("count")

    def matches(self, request):
        operation = self.settings.get("operation", "*")
        group = {"upload": UPLOADS, "download": DOWNLOADS}.get(operation)
        if group is not None:
            hit = request.operation in group
        else:
            hit = operation in ("*", request.operation)
        return (hit and self.settings.get("bucket", request.bucket) == request.bucket
                and self.settings.get("key", request.key_id) == request.key_id)


class Faults:
    KINDS = ("fail", "reset", "lose_reply", "latency", "caps")

    def __init__(self):
        self.lock = threading.Lock()
        self.faults = []

    def add(self, kind, settings):
        with self.lock:
            self.faults.append(Fault(kind, settings))

    def clear(self, bucket=None):
        """All, or those of one bucket."""
        with self.lock:
            self.faults = [one for one in self.faults if bucket and one.settings.get("bucket") != bucket]

    def strike(self, kind, request):
        """The settings of the first fault of the kind that strikes this call, which is then one less."""
        if not self.faults:
            return None
        with self.lock:
            for fault in self.faults:
                if fault.kind == kind and fault.left != 0 and fault.matches(request):
                    if fault.left is not None:
                        fault.left -= 1
                    return fault.settings
        return None

    def capped(self, request):
        """The error code of a cap that refuses this call."""
        operation = request.operation
        for fault in list(self.faults):
            if fault.kind != "caps" or not fault.matches(request):
                continue
            caps = fault.settings.get("caps", [])
            if "storage" in caps and operation in STORING:
                return "storage_cap_exceeded"
            if "download" in caps and operation in DOWNLOADS and request.method != "HEAD":
                return "download_cap_exceeded"
            if "transaction" in caps and billing_class(operation) != "A" and operation != "b2_authorize_account":
                return "transaction_cap_exceeded"
        return None


class Statistics:
    """Every call, by bucket and key."""

    def __init__(self):
        self.lock = threading.Lock()
        self.reset()

    def reset(self):
        with self.lock:
            self.calls = collections.Counter()
            self.bytes_in = collections.Counter()
            self.bytes_out = collections.Counter()
            self.log = collections.deque(maxlen=5000)

    def record(self, request, elapsed):
        place = request.bucket, request.key_id
        received = request.length - request.unread
        with self.lock:
            self.calls[place + (request.operation, request.status)] += 1
            self.bytes_in[place] += received
            self.bytes_out[place] += request.sent
            self.log.append(dict(
                operation=request.operation, method=request.method, status=request.status, bucket=request.bucket,
                key=request.key_id, path=request.raw_path, range=request.headers.get("range"), received=received,
                sent=request.sent, milliseconds=round(elapsed * 1000, 3),
                testMode=request.headers.get("x-bz-test-mode"), userAgent=request.headers.get("user-agent")))

    def report(self, bucket=None, key=None, lines=100):
        """Counts by operation, billing class and status, and the last calls; of one bucket or key if named."""
        operations, classes, statuses = (collections.Counter() for _ in range(3))

        def mine(place):
            return (bucket is None or place[0] == bucket) and (key is None or place[1] == key)

        with self.lock:
            for (*place, operation, status), count in self.calls.items():
                if mine(place):
                    operations[operation] += count
                    classes[billing_class(operation)] += count
                    statuses[str(status)] += count
            log = [line for line in self.log if mine((line["bucket"], line["key"]))]
            received = sum(count for place, count in self.bytes_in.items() if mine(place))
            sent = sum(count for place, count in self.bytes_out.items() if mine(place))
        return dict(
            operations=operations, classes=classes, statuses=statuses, received=received, sent=sent,
            log=log[-lines:] if lines else [])
