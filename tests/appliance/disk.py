"""A disk that loses power: an NBD server that keeps apart what was flushed and what
was only written. At a cut, each of the writes since the last flush may be there or
not, in any order, and one of them may be torn between two sectors."""

import socket
import struct
import threading

SECTOR = 512
SOME_FLAGS = 1 | 4 | 8  # has flags, knows flush, knows FUA
READ, WRITE, END, FLUSH = range(4)
FUA = 1


class Disk:
    """Serves the bytes of a file to one client after the other, from memory."""

    def __init__(self, file, path):
        self.path = path
        self.durable = bytearray(file.read_bytes())
        self.seen = bytearray(self.durable)
        self.pending = []
        self.lost = 0
        #: Set when the power is gone.
        self.dark = threading.Event()
        self._writes_left, self._at_flush = None, False
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self):
        return f"nbd+unix:///?socket={self.path}"

    def arm(self, writes, at_flush):
        """The power goes after so many writes more: before the last is answered, or, with
        all of them answered, at the flush that follows."""
        with self._lock:
            self._writes_left, self._at_flush = writes, at_flush

    def cut(self, random, keep):
        """The power is back: of what was not flushed each write is there with the
        probability `keep`. The client must be dead."""
        with self._lock:
            self._writes_left = None
            self.dark.clear()
            writes = [write for write in self.pending if random.random() < keep]
            self.lost += len(self.pending) - len(writes)
            random.shuffle(writes)
            for number, (offset, data) in enumerate(writes):
                if number == 0 and len(data) > SECTOR:
                    data = data[:SECTOR * random.randrange(1, len(data) // SECTOR + 1)]
                self.durable[offset:offset + len(data)] = data
            self.pending = []
            self.seen = bytearray(self.durable)

    def close(self):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                try:
                    self._negotiate(client)
                    while self._one(client):
                        pass
                except (OSError, EOFError):
                    pass

    def _negotiate(self, client):
        client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack("!H", 3))
        _take(client, 4)
        while True:
            _, option, length = struct.unpack("!8sII", _take(client, 16))
            _take(client, length)

            def answer(kind, data=b""):
                client.sendall(struct.pack("!QIII", 0x3E889045565A9, option, kind, len(data)) + data)

            if option == 7:  # go
                answer(3, struct.pack("!HQH", 0, len(self.seen), SOME_FLAGS))
                answer(1)
                return
            answer(0x80000001)

    def _one(self, client):
        _, flags, kind, handle, offset, length = struct.unpack("!IHHQQI", _take(client, 28))
        data = _take(client, length) if kind == WRITE else b""
        answer = b""
        with self._lock:
            if kind == READ:
                answer = bytes(self.seen[offset:offset + length])
            elif kind == WRITE:
                self.seen[offset:offset + length] = data
                if flags & FUA:
                    self.durable[offset:offset + length] = data
                else:
                    self.pending.append((offset, data))
                if self._writes_left is not None:
                    self._writes_left -= 1
                    if self._writes_left <= 0 and not self._at_flush:
                        self.dark.set()
            elif kind == FLUSH and self._writes_left is not None and self._writes_left <= 0:
                self.dark.set()
            elif kind == FLUSH:
                for where, what in self.pending:
                    self.durable[where:where + len(what)] = what
                self.pending = []
        if kind == END:
            return False
        if self.dark.is_set():
            # Nothing more is done, not even a flush, nor answered; the client is killed.
            while client.recv(1 << 20):
                pass
            return False
        client.sendall(struct.pack("!IIQ", 0x67446698, 0, handle) + answer)
        return True


def _take(client, length):
    data = b""
    while len(data) < length:
        part = client.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data
