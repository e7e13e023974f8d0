"""The key-value store as the Raft leader streams it to a client that knows nothing yet.

As a program: store.py MEMBERS LIMIT_S, the members' addresses joined by commas, the
password in `RAFT_PASSWORD`; prints the leader's address and the store as JSON, or
nothing in time."""

import json
import os
import sys
import threading

from patroni.dcs.raft import KVStoreTTL


def main():
    members, password, limit_s = sys.argv[1].split(","), os.environ.get("RAFT_PASSWORD"), float(sys.argv[2])
    ready = threading.Event()
    store = KVStoreTTL(ready.set, None, None, partner_addrs=members, password=password, patronictl=True,
                       commandsWaitLeader=False)
    store.startAutoTick()
    if not ready.wait(limit_s):
        sys.exit(1)
    while True:
        try:
            content = store.get("", recursive=True)
            break
        except RuntimeError:
            pass  # It changed under the iteration.
    leader = store._getLeader()
    print(json.dumps({"leader": leader and leader.id, "store": content}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
