"""Patroni's own KVStoreTTL, asked line by line what it makes of commands.

Runs under an interpreter that has patroni and pysyncobj. The object is a real
one, as patronictl builds it (no address, no partners, no socket), its commands
go through PySyncObj's own `__doApplyCommand`; only the log around it is missing.

    load DICT           the state becomes DICT           -> ok
    call INDEX COMMAND  applies COMMAND as entry INDEX   -> ANSWER STATE
    dump PATH INDEX     writes the state as a dump       -> ok
    restore PATH        reads a dump                     -> INDEX STATE

ANSWER is `raise NAME`, or `return VALUE`, followed by the harm done, if any:
`repropose` (every node would propose the command again), `callback` (a data
node's on_set or on_delete raises), `readers` (what was stored makes Patroni's
readers or its search for expired keys raise). After a raise the state is put
back: a Python node is dead by then.

Values are written as one word, see `encode` here and in kv_differential.rs.
"""

import logging
import pickle
import struct
import sys
import types

from patroni.dcs import raft
from pysyncobj.node import Node, TCPNode
from pysyncobj.serializer import Serializer

NAME = 'a'
PREFIX = '/service/batman/'
REGULAR = b'\x00'


def encode(value):
    """A value as one word: a letter for its type, then what it holds."""
    kind = type(value)
    if value is None:
        return 'N'
    if kind is bool:
        return 'T' if value else 'F'
    if kind is int:
        if -1 << 63 <= value < 1 << 63:
            return 'i%d;' % value
        digits = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
        if value < 0 and digits[-1] == 0xff and digits[-2] & 0x80:
            digits = digits[:-1]
        return 'I%s;' % digits.hex()
    if kind is float:
        return 'f' + struct.pack('>d', value).hex()
    if kind is str:
        return 's%s;' % value.encode('utf-8', 'surrogatepass').hex()
    if kind is bytes:
        return 'b%s;' % value.hex()
    if isinstance(value, Node):
        return 'n%s;' % value.id.encode().hex()
    if kind is dict:
        return 'd%d;%s' % (len(value), ''.join(encode(k) + encode(v) for k, v in value.items()))
    if kind in (set, frozenset):
        return 'S%d;%s' % (len(value), ''.join(sorted(map(encode, value))))
    letter = {tuple: 't', list: 'l'}[kind]
    return '%s%d;%s' % (letter, len(value), ''.join(map(encode, value)))


def decode(word):
    value, rest = take(word, 0)
    assert rest == len(word), word
    return value


def take(word, at):
    letter, at = word[at], at + 1
    if letter in 'NTF':
        return {'N': None, 'T': True, 'F': False}[letter], at
    if letter == 'f':
        return struct.unpack('>d', bytes.fromhex(word[at:at + 16]))[0], at + 16
    end = word.index(';', at)
    head, at = word[at:end], end + 1
    if letter == 'i':
        return int(head), at
    if letter == 'I':
        return int.from_bytes(bytes.fromhex(head), 'little', signed=True), at
    if letter == 's':
        return bytes.fromhex(head).decode('utf-8', 'surrogatepass'), at
    if letter == 'b':
        return bytes.fromhex(head), at
    if letter == 'n':
        return TCPNode(bytes.fromhex(head).decode()), at
    items = []
    for _ in range(int(head) * (2 if letter == 'd' else 1)):
        item, at = take(word, at)
        items.append(item)
    if letter == 'd':
        return dict(zip(items[::2], items[1::2])), at
    return {'t': tuple, 'l': list, 'S': set}[letter](items), at


class DataNode:
    """What Raft._on_set and Raft._on_delete need of a Patroni."""

    def __init__(self, store):
        self._sync_obj = store
        self._name = NAME
        self.event = types.SimpleNamespace(set=lambda: None)
        for name in ('leader', 'leader_optime', 'status', 'config', 'sync', 'members'):
            path = {'leader_optime': 'optime/leader', 'members': 'members/'}.get(name, name)
            setattr(self, name + '_path', PREFIX + path)

    def on_set(self, key, value):
        raft.Raft._on_set(self, key, value)

    def on_delete(self, key):
        raft.Raft._on_delete(self, key)


class Oracle:

    def __init__(self):
        self.store = raft.KVStoreTTL(None, None, None, partner_addrs=[], patronictl=True)
        self.node = DataNode(self.store)
        self.proposed = []
        self.written = []
        self.store._applyCommand = self.propose
        # Only what __expire_keys reads is of interest, not what it proposes.
        self.store._expire = lambda *args, **kwargs: None

    def propose(self, command, callback, *_):
        self.proposed.append(command)
        if callable(callback):
            callback(None, 0)

    @property
    def data(self):
        return self.store._KVStoreTTL__data

    @data.setter
    def data(self, data):
        self.store._KVStoreTTL__data = data

    def run(self, index, command, on_set, on_delete):
        self.store._KVStoreTTL__on_set = on_set
        self.store._KVStoreTTL__on_delete = on_delete
        self.store._SyncObj__raftLastApplied = index - 1
        return self.store._SyncObj__doApplyCommand(command)

    def call(self, index, command):
        before = pickle.dumps(self.data)
        self.proposed, self.written = [], []
        try:
            result = self.run(index, command, lambda *pair: self.written.append(pair), None)
        except Exception as error:
            self.data = pickle.loads(before)
            return 'raise ' + type(error).__name__
        after, answer = self.data, 'return ' + encode(result)
        if self.proposed:
            return answer + ' repropose'
        self.data = pickle.loads(before)
        try:
            self.run(index, command, self.node.on_set, self.node.on_delete)
        except Exception:
            answer += ' callback'
        try:
            for key, value in self.written:
                self.data = {key: value}
                self.store._KVStoreTTL__limb = {}
                self.store.get(PREFIX, recursive=True)
                self.store._KVStoreTTL__expire_keys()
        except Exception:
            answer += ' readers'
        self.data = after
        return answer

    def dump(self, path, index):
        """The 4-tuple of SyncObj.__tryLogCompaction, by its own serializer."""
        nodes = {TCPNode('127.0.0.1:%d' % port) for port in (1, 2, 3)}
        entries = [(b'\x01', i, 1) for i in (index, index - 1)]
        state = {'_SyncObj__enabledCodeVersion': 0, '_KVStoreTTL__data': self.data,
                 '_KVStoreTTL__destroying': False}
        serializer = Serializer(path, 150, False, None, None, None)
        serializer.serialize((state, entries[0], entries[1], nodes), index - 1)

    def restore(self, path):
        """By SyncObj's own loader, into a fresh state; returns its last entry."""
        self.data = {}
        self.store._SyncObj__serializer = Serializer(path, 150, False, None, None, None)
        self.store._SyncObj__loadDumpFile(clearJournal=True)
        return self.store.raftLastApplied


def main():
    logging.disable(logging.CRITICAL)
    oracle = Oracle()
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == 'load':
            oracle.data = decode(words[0])
            answer = 'ok'
        elif verb == 'call':
            command = REGULAR + pickle.dumps(decode(words[1]))
            answer = '%s %s' % (oracle.call(int(words[0]), command), encode(oracle.data))
        elif verb == 'dump':
            oracle.dump(words[0], int(words[1]))
            answer = 'ok'
        elif verb == 'restore':
            answer = '%d %s' % (oracle.restore(words[0]), encode(oracle.data))
        else:
            raise ValueError(verb)
        sys.stdout.write(answer + '\n')
        sys.stdout.flush()


if __name__ == '__main__':
    main()
