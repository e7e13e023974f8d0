"""A relay between members that reads along: plain PySyncObj frames, both ways.

A member behind it advertises the relay's address and listens at another, so all
that reach it pass here; the hello tells who they are. One of the two is watched."""

import asyncio
import pickle
import struct
import threading
import zlib


class Conversation:
    """One connection: who dialled (its hello), and what the watched member did on it
    that it must never do, as sentences.

    S3: an append below what the peer has acknowledged on this connection, with no
    reset from the peer since. S5: the answer to a command after its entry. H4: a
    fragment."""

    def __init__(self, acceptor, watched):
        self.dialler = None
        self.acceptor = acceptor
        self.watched = watched
        self.appends = 0
        self.faults = []
        # Of this term and connection: sent up to, taken up to.
        self._term = self._reach = self._acknowledged = 0

    def hear(self, from_dialler, message):
        if from_dialler and self.dialler is None:
            self.dialler = message if isinstance(message, str) else "utility"
        elif isinstance(message, dict):
            sender = self.dialler if from_dialler else self.acceptor
            if sender == self.watched:
                self._said(message)
            elif self.watched in (self.dialler, self.acceptor):
                self._told(message)

    def _told(self, message):
        if message.get("type") != "next_node_idx":
            return
        if message["reset"]:
            self._acknowledged = 0
        elif message["success"]:
            self._acknowledged = max(self._acknowledged, min(self._reach, message["next_node_idx"] - 1))

    def _said(self, message):
        kind = message.get("type")
        if kind == "append_entries":
            self.appends += 1
            if message["term"] != self._term:
                self._term, self._reach, self._acknowledged = message["term"], 0, 0
            if message.get("transmission"):
                self.faults.append(f"H4: a fragment: {message['transmission']}")
            previous = message.get("prevLogIdx")
            if previous is not None and previous < self._acknowledged:
                self.faults.append(f"S3: an append after {previous}, when {self._acknowledged} was acknowledged")
            self._reach = max([self._reach, previous or 0,
                               *(entry[1] for entry in message.get("entries") or ())])
        elif kind == "apply_command_response" and (message.get("log_idx") or self._reach + 1) <= self._reach:
            self.faults.append(f"S5: the answer for {message['log_idx']} after its entry was sent")


class Relay:
    """Relays `address` to `target` for as long as the `with` lasts, and watches what the
    member of the address `watched` does."""

    def __init__(self, address, target, watched):
        self.address = address
        self.watched = watched
        self.target = target
        self.conversations = []
        self._open = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        host, port = self.address.rsplit(":", 1)
        starting = asyncio.start_server(self._accepted, host, int(port))
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(5)
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def sever(self):
        """Cuts every connection, as a router does that forgets them."""
        for writer in list(self._open):
            self._loop.call_soon_threadsafe(writer.transport.abort)

    async def _end(self):
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accepted(self, reader, writer):
        host, port = self.target.rsplit(":", 1)
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        talk = Conversation(self.address, self.watched)
        self.conversations.append(talk)
        ends = {writer, far_writer}
        self._open |= ends
        await asyncio.gather(self._pump(reader, far_writer, talk, True),
                             self._pump(far_reader, writer, talk, False))
        self._open -= ends

    async def _pump(self, reader, writer, talk, from_dialler):
        pending = b""
        try:
            while data := await reader.read(65536):
                pending = self._read_along(pending + data, talk, from_dialler)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _read_along(self, pending, talk, from_dialler):
        while len(pending) >= 4:
            (length,) = struct.unpack_from("<i", pending)
            if length < 0 or len(pending) < 4 + length:
                break
            # Our own test's processes on loopback: an unrestricted pickle does no harm.
            message = pickle.loads(zlib.decompress(pending[4:4 + length]))
            pending = pending[4 + length:]
            talk.hear(from_dialler, message)
        return pending
