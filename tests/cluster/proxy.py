"""A relay between members that reads along: plain PySyncObj frames, both ways.

A member behind it advertises the relay's address and listens at another, so all
that reach it pass here; the hello tells who they are. `judge` then finds what
the witness must never have sent."""

import asyncio
import pickle
import struct
import threading
import zlib
from dataclasses import dataclass, field


@dataclass
class Conversation:
    """One connection: who dialled (its hello), and all messages in order."""

    dialler: object = None
    acceptor: str = ""
    messages: list = field(default_factory=list)  # (sender's address, message)


class Relay:
    """Relays `address` to `target` for as long as the `with` lasts."""

    def __init__(self, address, target):
        self.address = address
        self.target = target
        self.conversations = []
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
        talk = Conversation(acceptor=self.address)
        self.conversations.append(talk)
        await asyncio.gather(self._pump(reader, far_writer, talk, True),
                             self._pump(far_reader, writer, talk, False))

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
            if from_dialler and talk.dialler is None:
                talk.dialler = message if isinstance(message, str) else "utility"
            else:
                talk.messages.append((talk.dialler if from_dialler else talk.acceptor, message))
        return pending


def judge(conversation, witness):
    """What the witness did on this connection that it must never do, as sentences.

    S3: an append below what the peer has acknowledged on this connection, with no
    reset from the peer since. S5: the answer to a command after its entry. H4: a
    fragment."""
    faults = []
    term = reach = acknowledged = 0  # Of this term and connection: sent up to, taken up to.
    for sender, message in conversation.messages:
        if not isinstance(message, dict):
            continue
        kind = message.get("type")
        if sender != witness:
            if kind == "next_node_idx" and message["reset"]:
                acknowledged = 0
            elif kind == "next_node_idx" and message["success"]:
                acknowledged = max(acknowledged, min(reach, message["next_node_idx"] - 1))
        elif kind == "append_entries":
            if message["term"] != term:
                term, reach, acknowledged = message["term"], 0, 0
            if message.get("transmission"):
                faults.append(f"H4: a fragment: {message['transmission']}")
            previous = message.get("prevLogIdx")
            if previous is not None and previous < acknowledged:
                faults.append(f"S3: an append after {previous}, when {acknowledged} was acknowledged")
            reach = max([reach, previous or 0, *(entry[1] for entry in message.get("entries") or ())])
        elif kind == "apply_command_response" and (message.get("log_idx") or reach + 1) <= reach:
            faults.append(f"S5: the answer for {message['log_idx']} after its entry was sent")
    return faults


def appends(conversation, sender):
    """How many appends `sender` sent here."""
    return sum(1 for who, message in conversation.messages
               if who == sender and isinstance(message, dict) and message.get("type") == "append_entries")
