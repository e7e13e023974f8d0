"""PySyncObj's utility client (what `syncobj_admin` is), from here or from a machine."""

import functools
import threading

import pysyncobj.utility
from pysyncobj.utility import TcpUtility

# One for all questions: a key is derived from the password for each.
pysyncobj.utility.getEncryptor = functools.cache(pysyncobj.utility.getEncryptor)


def ask(address, command, password=None, limit_s=5.0, machine=None):
    """The answer of the member at `address`, or None when there was none in time."""
    def asked():
        try:
            return _plain(TcpUtility(password, limit_s).executeCommand(address, list(command)))
        except Exception:
            return None

    return machine.do(asked) if machine else asked()


def _plain(value):
    """Python members answer with node objects where ours says an address."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return getattr(value, "id", value)
