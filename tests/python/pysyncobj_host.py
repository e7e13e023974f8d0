"""A real Patroni node of the Raft DCS, driven event by event and read out after
each: the other side of tests/simulation/pysyncobj_model.rs.

Everything above the system is the real thing: Patroni's KVStoreTTL, PySyncObj's
SyncObj, TCPTransport, TcpConnection, FileJournal and Serializer, with real files
in FOLDER. Put in their place are the clocks, the random numbers, the sockets and
the poller, when a forked dump counts as done, and the order in which Python goes
through its sets of nodes (by address; it depends on hashes otherwise). Commands
are pickled without a memo, so that their bytes can be compared.

Every line is `VERB NOW WALL ...`, the two clocks first:

    start .. FOLDER LOST CHANCE SELF MEMBERS LIMITS   a new process; LOST files go
    accept ..                      a peer connects
    established .. SOCKET          a dial succeeded
    closed .. SOCKET               a dial failed, a connection ended
    received .. SOCKET VALUE       a frame arrived
    tick ..                        one round of Patroni's loop
    propose .. COMMAND TICKET      a client in this process wants a command
    compact ..                     the next tick is to write a dump
    dump .. BYTES                  puts another file in the place of the dump

The answer is one word, a list of the effects in their order and a dict of what
changed in the node's state. Words are written as in kv_oracle.py.
"""

import logging
import operator
import os
import pickle
import shutil
import socket
import struct
import sys
import types
import zlib

from pysyncobj import serializer, syncobj, tcp_connection, transport
from pysyncobj.node import Node, TCPNode
from pysyncobj.poller import POLL_EVENT_TYPE

from kv_oracle import decode, encode
from patroni.dcs import raft

FILES = {'journal': '.journal', 'meta': '.journal.meta', 'dump': '.dump'}


class World:
    """What the node takes for its surroundings."""

    def __init__(self):
        self.now = self.wall = 0.0
        self.send_s = self.dump_s = 0.0
        self.chance = 0
        self.sockets = 0
        self.effects = []
        self.extra = {}
        self.children = {}

    def monotonic(self):
        return self.now

    def random(self):
        """SplitMix64, as in the test."""
        mask = (1 << 64) - 1
        self.chance = (self.chance + 0x9e3779b97f4a7c15) & mask
        z = self.chance
        z = ((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9) & mask
        z = ((z ^ (z >> 27)) * 0x94d049bb133111eb) & mask
        return ((z ^ (z >> 31)) >> 11) * 2.0 ** -53

    def fork(self):
        """The child does its work while the parent waits here; that it is done
        shows only `dump_s` later."""
        pid = os.fork()
        if pid != 0:
            self.children[pid] = (self.now + self.dump_s, os.waitpid(pid, 0)[1])
        return pid

    def waitpid(self, pid, _options):
        done_at, status = self.children[pid]
        return (pid, status) if self.now >= done_at else (0, 0)


WORLD = World()


class Shadow:
    """A module with some names replaced."""

    def __init__(self, module, **names):
        self.__dict__.update(names)
        self.__module = module

    def __getattr__(self, name):
        return getattr(self.__module, name)


class FakeSocket:

    def __init__(self, *_):
        WORLD.sockets += 1
        self.number = WORLD.sockets
        self.inbox = []

    def setsockopt(self, *_):
        pass

    def setblocking(self, _):
        pass

    def getsockopt(self, *_):
        return 0

    def fileno(self):
        return self.number

    def connect(self, address):
        WORLD.effects.append(('dial', self.number, '%s:%d' % address))
        raise OSError(socket.errno.EINPROGRESS, 'in progress')

    def send(self, data):
        length = struct.unpack('i', data[:4])[0]
        assert length == len(data) - 4, 'one frame at a time'
        message = pickle.loads(zlib.decompress(data[4:]))
        WORLD.effects.append(('send', self.number, message))
        WORLD.now += WORLD.send_s
        return len(data)

    def recv(self, _):
        if not self.inbox:
            raise OSError(socket.errno.EAGAIN, 'nothing there')
        return self.inbox.pop(0)

    def close(self):
        WORLD.effects.append(('close', self.number))


class FakePoller:

    def __init__(self):
        self.callbacks = {}

    def subscribe(self, descriptor, callback, _mask):
        self.callbacks[descriptor] = callback

    def unsubscribe(self, descriptor):
        self.callbacks.pop(descriptor, None)

    def poll(self, _timeout):
        pass

    def event(self, descriptor, mask):
        callback = self.callbacks.get(descriptor)
        if callback:
            callback(descriptor, mask)


class FakeServer:

    def __init__(self, *_, **__):
        pass

    def bind(self):
        pass

    def unbind(self):
        pass


class NoPartner:
    """Nobody answers at the start: the members are those that are configured."""

    def __init__(self, *_):
        pass

    def getMembers(self):
        return None


def bare(value):
    """The opcodes of wire::pickle's encoder: protocol 2 without a memo."""
    if value is None:
        return b'N'
    if value is True or value is False:
        return b'\x88' if value else b'\x89'
    if isinstance(value, int):
        if 0 <= value < 1 << 8:
            return b'K' + struct.pack('<B', value)
        if 0 <= value < 1 << 16:
            return b'M' + struct.pack('<H', value)
        return b'J' + struct.pack('<i', value)
    if isinstance(value, float):
        return b'G' + struct.pack('>d', value)
    if isinstance(value, str):
        text = value.encode()
        return b'X' + struct.pack('<I', len(text)) + text
    if isinstance(value, TCPNode):
        return b'cpysyncobj.node\nTCPNode\n' + bare(value.id) + b'\x85R'
    if isinstance(value, list):
        return b'](' + b''.join(map(bare, value)) + b'e'
    if isinstance(value, tuple):
        return b'(' + b''.join(map(bare, value)) + b't'
    if isinstance(value, dict):
        return b'}(' + b''.join(bare(k) + bare(v) for k, v in value.items()) + b'u'
    raise TypeError(type(value))


def dumps(value):
    """An entry in fragments is pickled by the real pickler, commands are not."""
    if isinstance(value, tuple) and len(value) == 3 and isinstance(value[0], bytes):
        return REAL_PICKLE.dumps(value)
    return b'\x80\x02' + bare(value) + b'.'


def rank(node):
    """Members by address, then clients by arrival: small hashes keep small sets in
    their order."""
    return int(node.id.split(':')[0].split('.')[3]) - 1 if ':' in node.id else 5 + int(node.id)


REAL_PICKLE = syncobj.pickle
SyncObjConf = raft.SyncObjConf


def patch():
    Node.__hash__ = rank
    TCPNode.ip = property(lambda node: node.host)
    for module in (syncobj, transport, tcp_connection):
        module.monotonicTime = WORLD.monotonic
    syncobj.random = types.SimpleNamespace(random=WORLD.random)
    syncobj.pickle = Shadow(REAL_PICKLE, dumps=dumps)
    syncobj.createPoller = lambda _: FakePoller()
    syncobj.PIPE_NOTIFIER_ENABLED = False
    serializer.os = Shadow(os, fork=WORLD.fork, waitpid=WORLD.waitpid)
    tcp_connection.socket = Shadow(socket, socket=FakeSocket)
    transport.TcpServer = FakeServer
    raft.SyncObjUtility = NoPartner
    raft.SyncObjConf = lambda **kwargs: SyncObjConf(**kwargs, **WORLD.extra)
    raft.time = types.SimpleNamespace(time=lambda: WORLD.wall)


class Host:

    def __init__(self):
        self.store = None
        self.prefix = ''
        self.seen, self.parts = {}, {}
        self.dump_seen = None

    def private(self, name):
        return self.store.__dict__['_SyncObj__' + name]

    # Events

    def start(self, folder, lost, chance, address, members, limits):
        if self.store:
            # Closes the files; what they hold stays as it is.
            self.private('raftLog')._destroy()
            self.store = None
        self.prefix = os.path.join(folder, address)
        for name in lost.split(','):
            if name in FILES and os.path.exists(self.prefix + FILES[name]):
                os.remove(self.prefix + FILES[name])
            if name == 'torn':
                with open(self.prefix + '.journal', 'r+b') as journal:
                    journal.truncate(100)
        limits = decode(limits)
        WORLD.sockets = 0
        WORLD.chance = int(chance)
        WORLD.send_s, WORLD.dump_s = limits.pop('send'), limits.pop('dump')
        WORLD.extra = limits
        self.seen, self.parts = {}, {}
        self.store = raft.KVStoreTTL(None, None, None, self_addr=address,
                                     partner_addrs=decode(members), data_dir=folder)

    def accept(self):
        conf = self.store.conf
        connection = tcp_connection.TcpConnection(
            poller=self.store._poller, socket=FakeSocket(), timeout=conf.connectionTimeout,
            sendBufferSize=conf.sendBufferSize, recvBufferSize=conf.recvBufferSize)
        self.private('transport')._onNewIncomingConnection(connection)

    def established(self, number):
        self.store._poller.event(int(number), POLL_EVENT_TYPE.WRITE)

    def closed(self, number):
        self.store._poller.event(int(number), POLL_EVENT_TYPE.ERROR)

    def received(self, number, value):
        data = zlib.compress(pickle.dumps(decode(value), 2))
        callback = self.store._poller.callbacks.get(int(number))
        if callback:
            connection = callback.__self__
            inbox = connection._TcpConnection__socket.inbox
            inbox.append(struct.pack('i', len(data)) + data)
        self.store._poller.event(int(number), POLL_EVENT_TYPE.READ)

    def tick(self):
        self.store.doTick(0)

    def propose(self, command, ticket):
        callback = None
        if ticket != '-':
            def callback(result, error):
                WORLD.effects.append(('done', int(ticket), error, result if error == 0 else None))
        self.store._applyCommand(decode(command), callback)

    def compact(self):
        self.store.forceLogCompaction()

    def dump(self, data):
        temporary = self.prefix + '.model'
        with open(temporary, 'wb') as file:
            file.write(decode(data))
        shutil.move(temporary, self.prefix + '.dump')
        self.dump_seen = self.dump_stamp()

    # State

    def dump_stamp(self):
        try:
            stat = os.stat(self.prefix + '.dump')
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def dump_content(self):
        try:
            state, last, prev, members = self.private('serializer').deserialize()
        except FileNotFoundError:
            return None
        except Exception:
            with open(self.prefix + '.dump', 'rb') as file:
                return file.read()
        return dict(sorted(state.items())), last, prev, sorted(node.id for node in members)

    def journal(self):
        content = self.private('raftLog')._FileJournal__journalFile._ResizableFile__mm[:]
        return len(content), zlib.crc32(content)

    def meta(self):
        try:
            with open(self.prefix + '.journal.meta', 'rb') as file:
                return pickle.loads(file.read())
        except FileNotFoundError:
            return None

    def links(self):
        for node, connection in self.private('transport')._connections.items():
            made = connection._TcpConnection__socket
            if made or isinstance(node, TCPNode):
                yield node, (connection.state, made and made.number,
                             connection._TcpConnection__lastReadTime)

    def state(self):
        get = self.private

        def names(nodes):
            return [node.id for node in sorted(nodes, key=rank)]

        def by_node(pairs):
            return [(node.id, value) for node, value in sorted(pairs, key=lambda p: rank(p[0]))]

        waiting = sorted(get('commandsWaitingCommit').items())
        yield 'state', get('raftState')
        yield 'term', get('raftCurrentTerm')
        yield 'voted_for', get('votedForNodeId')
        yield 'votes', get('votesCount')
        yield 'leader', get('raftLeader') and get('raftLeader').id
        yield 'deadline', float(get('raftElectionDeadline'))
        yield 'transferring', self.store.__dict__.get('_SyncObj__transferInProgress', False)
        yield 'commit', get('raftCommitIndex')
        yield 'applied', get('raftLastApplied')
        yield 'leader_commit', get('leaderCommitIndex')
        yield 'log', list(get('raftLog')[0:])
        yield 'members', names(get('otherNodes'))
        yield 'clients', names(get('readonlyNodes'))
        yield 'connected', names(get('connectedNodes') - {None})
        yield 'connected_to_none', None in get('connectedNodes')
        yield 'links', [(node, *link) for node, link in by_node(self.links())]
        yield 'next', by_node(get('raftNextIndex').items())
        yield 'match', by_node(get('raftMatchIndex').items())
        yield 'responses', by_node(get('lastResponseTime').items())
        yield 'noop', get('noopIDx')
        yield 'next_append', float(get('newAppendEntriesTime'))
        yield 'queue', len(get('commandsQueue')._FastQueue__queue)
        yield 'replies', sorted(get('commandsWaitingReply'))
        yield 'commits', [(index, [term for term, _ in calls]) for index, calls in waiting]
        yield 'fragments', get('recvTransmission') or None
        yield 'data', self.store._KVStoreTTL__data
        yield 'limb', self.store._KVStoreTTL__limb
        yield 'code_version', get('enabledCodeVersion')
        yield 'ready', get('onReadyCalled')
        yield 'local_log', self.store.applied_local_log
        yield 'journal', self.journal()
        yield 'meta', self.meta()
        stamp = self.dump_stamp()
        if stamp != self.dump_seen:
            self.dump_seen = stamp
            self.seen.pop('dump', None)
            yield 'dump', self.dump_content()

    def unchanged(self, name, value):
        """Whether a large part consists of the same objects as last time: entries
        and stored values are never changed in place."""
        if name not in ('log', 'data', 'limb'):
            return False
        parts = list(value) if name == 'log' else [part for pair in value.items() for part in pair]
        last, self.parts[name] = self.parts.get(name), parts
        return last is not None and len(last) == len(parts) and all(map(operator.is_, last, parts))

    def changes(self):
        changed = []
        for name, value in self.state() if self.store else ():
            if self.unchanged(name, value):
                continue
            word = encode(value)
            if self.seen.get(name) != word:
                self.seen[name] = word
                changed.append(encode(name) + word)
        return changed

    def answer(self, verb, now, wall, *words):
        WORLD.now, WORLD.wall, WORLD.effects = float(now), float(wall), []
        try:
            getattr(self, verb)(*words)
        except Exception as error:
            WORLD.effects.append(('raised', type(error).__name__))
        effects = encode(WORLD.effects)
        changed = self.changes()
        return 't2;%sd%d;%s' % (effects, len(changed), ''.join(changed))


def main():
    logging.disable(logging.CRITICAL)
    patch()
    host = Host()
    for line in sys.stdin:
        sys.stdout.write(host.answer(*line.split()) + '\n')
        sys.stdout.flush()


if __name__ == '__main__':
    main()
