"""The commands and the HTTP of a witness, asked on its machine."""

import json
import subprocess

from rig import paths

PORT = 8272


def command(machine, *argv, limit_s=90):
    """`pg-witness ...` as an operator there runs it."""
    return subprocess.run([*machine.enter, paths.pg_witness(), *argv], capture_output=True,
                          text=True, timeout=limit_s, stdin=subprocess.DEVNULL)


def show(machine, name, *argv):
    """The JSON that a command prints."""
    done = command(machine, name, "--json", *argv)
    assert done.stderr == "", done.stderr
    return json.loads(done.stdout)


_ASK = """
import http.client, json, sys
host, port, method, path, headers = json.loads(sys.argv[1])
connection = http.client.HTTPConnection(host, port, timeout=70)
connection.request(method, path, headers=headers)
answer = connection.getresponse()
body = answer.read().decode()
print(json.dumps([answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), body]))
"""


def http(machine, path, method="GET", host="127.0.0.1", port=PORT, headers=None):
    """Status, headers and body of one request."""
    done = machine.run(paths.python(), "-c", _ASK,
                       json.dumps([host, port, method, path, headers or {}]),
                       capture_output=True, text=True, timeout=80)
    return tuple(json.loads(done.stdout))
