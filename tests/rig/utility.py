"""PySyncObj's utility client (what `syncobj_admin` is), from here or from a machine.

As a program: utility.py ADDRESS JSON-COMMAND LIMIT_S, password in `RAFT_PASSWORD`,
the answer as JSON."""

import json
import os
import subprocess
import sys

from pysyncobj.utility import TcpUtility


def ask(address, command, password=None, limit_s=5.0, machine=None):
    """The answer of the member at `address`, or None when there was none in time."""
    if machine is None:
        try:
            return _plain(TcpUtility(password, limit_s).executeCommand(address, list(command)))
        except Exception:
            return None
    environment = dict(os.environ)
    if password is not None:
        environment["RAFT_PASSWORD"] = password
    try:
        done = subprocess.run(
            [*machine.enter, sys.executable, __file__, address, json.dumps(command), str(limit_s)],
            env=environment, capture_output=True, text=True, timeout=limit_s + 5)
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None


def _plain(value):
    """Python members answer with node objects where ours says an address."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return getattr(value, "id", value)


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], json.loads(sys.argv[2]), os.environ.get("RAFT_PASSWORD"),
                         float(sys.argv[3]))))
