"""Bodies of objects: files on disk that go when nothing refers to them, shared by the copies made of them."""
import hashlib
import itertools
import os


class Blob:
    """One file. The last reference removes it."""

    def __init__(self, path):
        self.path = path

    def __del__(self):
        try:
            os.unlink(self.path)
        except OSError:
            pass


class Body:
    """The bytes of an object: extents of blobs, one after the other. A copy or a range of it costs no bytes."""

    def __init__(self, pieces=()):
        self.pieces = tuple(piece for piece in pieces if piece[2])
        self.length = sum(piece[2] for piece in self.pieces)

    def __len__(self):
        return self.length

    def extent(self, start, end):
        """The bytes from `start` up to `end`, which is not among them."""
        pieces = []
        for blob, offset, count in self.pieces:
            first, last = max(start, 0), min(end, count)
            if first < last:
                pieces.append((blob, offset + first, last - first))
            start, end = start - count, end - count
        return Body(pieces)

    def files(self):
        return [(blob.path, offset, count) for blob, offset, count in self.pieces]

    def sha1(self):
        digest = hashlib.sha1()
        for path, offset, count in self.files():
            with open(path, "rb", buffering=0) as file:
                file.seek(offset)
                while count:
                    block = file.read(min(count, 1 << 20))
                    if not block:
                        raise OSError("short file " + path)
                    digest.update(block)
                    count -= len(block)
        return digest.hexdigest()

    @staticmethod
    def joined(bodies):
        return Body(piece for body in bodies for piece in body.pieces)


class BodyStore:
    def __init__(self, directory):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        self._numbers = itertools.count()

    def receive(self, blocks, length, trailer=0):
        """Writes a body that arrives in blocks.
        :return: the body, its SHA-1, and the last `trailer` bytes, which are not part of it."""
        digest = hashlib.sha1()
        end = bytearray()
        left = length - trailer
        if left == 0 and trailer == 0:
            return Body(), digest.hexdigest(), b""
        blob = Blob(f"{self.directory}/{next(self._numbers)}")
        file = os.open(blob.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for block in blocks:
                data = block[:left]
                end += block[len(data):]
                left -= len(data)
                digest.update(data)
                while len(data):
                    data = data[os.write(file, data):]
        finally:
            os.close(file)
        return Body([(blob, 0, length - trailer)]), digest.hexdigest(), bytes(end)
