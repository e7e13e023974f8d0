"""Machines: network namespaces joined by a switch, which can be unplugged from
it and cut off from one another. Needs root, iproute2 and nftables.

The switch is a bridge in a namespace of its own, so nothing of all this shows
in the host's network, and any number of networks can use the same addresses."""

import ctypes
import ipaddress
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

PREFIX = "pgw"
#: Of linux/sched.h.
CLONE_NEWNET = 0x4000_0000
_SETS = ("from4", "to4", "from6", "to6")


def _ip(*argv, check=True):
    done = subprocess.run(["ip", *argv], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise OSError(f"ip {' '.join(argv)}: {done.stderr.strip()}")
    return done


class Machine:
    """One machine: a name, an address, and what runs there."""

    def __init__(self, network, name, address):
        self.network = network
        self.name = name
        self.address = address
        self.namespace = f"{network.name}-{name}"
        self.enter = ["ip", "netns", "exec", self.namespace]
        self._port = f"to-{name}"[:15]

    def _make(self):
        _ip("netns", "add", self.namespace)
        _ip("-n", self.network.switch, "link", "add", "name", self._port, "type", "veth",
            "peer", "name", "eth0", "netns", self.namespace)
        _ip("-n", self.network.switch, "link", "set", "dev", self._port, "master", "switch", "up")
        _ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        sets = "".join(
            f"set {name} {{ type ipv{name[-1]}_addr; }}\n" for name in _SETS)
        # What `isolate` and `lose` put into the chains `any_in` and `any_out` holds for
        # all that passes the interface.
        self._nft(f"""table inet cut {{
            {sets}
            chain any_in {{ }}
            chain any_out {{ }}
            chain turned {{ }}
            chain in {{ type filter hook input priority 0; ip saddr @from4 drop; ip6 saddr @from6 drop; iifname "eth0" jump any_in; }}
            chain out {{ type filter hook output priority 0; ip daddr @to4 drop; ip6 daddr @to6 drop; oifname "eth0" jump any_out; }}
            chain turn {{ type nat hook output priority -100; oifname "eth0" jump turned; }}
        }}""")

    def _nft(self, rules):
        subprocess.run([*self.enter, "nft", "-f", "-"], input=rules, check=True, text=True,
                       capture_output=True)

    def run(self, *argv, check=True, **kwargs):
        """Runs a command there and waits for it."""
        return subprocess.run([*self.enter, *map(str, argv)], check=check, **kwargs)

    def do(self, work):
        """What the function `work` returns when it runs there: the sockets that it opens are
        the machine's. A process for each question would cost a hundred times its time."""
        def there():
            with open(f"/run/netns/{self.namespace}") as namespace:
                # Of this thread alone, which ends with the work.
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns to {self.namespace}")
            return work()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(there).result()

    def pids(self):
        """All processes of the machine."""
        found = _ip("netns", "pids", self.namespace, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def crash(self):
        """The power cut: the interface is gone, then every process at once."""
        self.unplug()
        self.kill_all()

    def kill_all(self):
        for _ in range(100):
            pids = self.pids()
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        raise AssertionError(f"processes of {self.namespace} do not end: {self.pids()}")

    def unplug(self):
        """Pulls the cable: what is under way hangs, nothing is refused."""
        _ip("-n", self.network.switch, "link", "set", "dev", self._port, "down")

    def plug(self):
        _ip("-n", self.network.switch, "link", "set", "dev", self._port, "up")

    def block(self, other, inward=True, outward=True):
        """Drops packets from (`inward`) and to (`outward`) another machine."""
        version = ipaddress.ip_address(other.address).version
        self._nft("".join(
            f"add element inet cut {name}{version} {{ {other.address} }}\n"
            for name, wanted in (("from", inward), ("to", outward)) if wanted))

    def isolate(self, by):
        """Cuts the machine off from all others: `unplug`, `drop` or `reject`.

        `reject` answers, as a router does whose route is gone: everybody knows at once."""
        if by == "unplug":
            self.unplug()
            return
        self._everywhere("drop" if by == "drop" else "meta l4proto tcp reject with tcp reset")
        self._everywhere("drop" if by == "drop" else "reject")

    def lose(self, percent):
        """From now on so many of a hundred packets are lost on the way in, and on the way out."""
        self._everywhere(f"numgen random mod 100 < {percent} drop")

    def turn(self, port, to, mark):
        """What is dialled to `port` of others from now on reaches `to` on this machine in
        its place, unless it bears `mark`. Links of before do not turn: they are cut."""
        self._nft(f"add rule inet cut turned tcp dport {port} meta mark != {mark} redirect to :{to}")
        self._nft(f"add rule inet cut any_out tcp dport {port} reject with tcp reset\n"
                  f"add rule inet cut any_in tcp sport {port} reject with tcp reset")
        for _ in range(100):
            links = self.run("ss", "-Htn", "state", "established", f"dport = :{port}",
                             capture_output=True, text=True).stdout
            if not links:
                break
            time.sleep(0.1)
        self.unblock()
        assert not links, f"links of before live on: {links}"

    def _everywhere(self, rule):
        self._nft(f"add rule inet cut any_in {rule}\nadd rule inet cut any_out {rule}")

    def unblock(self):
        """Ends `block`, `isolate` and `lose`."""
        self._nft("".join(f"flush set inet cut {name}\n" for name in _SETS)
                  + "flush chain inet cut any_in\nflush chain inet cut any_out\n")

    def move(self, last_byte):
        """Another address in the same network; the old one is gone."""
        before, self.address = self.address, f"{self.network.subnet}.{last_byte}"
        # First: an address goes with the one that it was added to in the same network.
        _ip("-n", self.namespace, "addr", "del", f"{before}/24", "dev", "eth0")
        _ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")


class Network:
    """A switch and its machines, gone at the end of the `with`.

    `tag` distinguishes this process's networks. What a process that was killed
    has left behind is cleared by the next network that is made."""

    def __init__(self, tag="", subnet="10.77.0"):
        self.name = f"{PREFIX}{os.getpid()}{tag}"
        self.switch = f"{self.name}-switch"
        self.subnet = subnet
        self.machines = {}

    def __enter__(self):
        sweep()
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "name", "switch", "type", "bridge", "forward_delay", "0")
        _ip("-n", self.switch, "link", "set", "switch", "up")
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for machine in self.machines.values():
            machine.kill_all()
        for machine in self.machines.values():
            _ip("netns", "del", machine.namespace, check=False)
        _ip("netns", "del", self.switch, check=False)

    def machine(self, name, last_byte):
        """Adds a machine with the address `SUBNET.last_byte`."""
        machine = Machine(self, name, f"{self.subnet}.{last_byte}")
        self.machines[name] = machine
        machine._make()
        return machine

    def cut(self, one, other):
        """Cuts the line between two machines, both ways, at both ends."""
        one.block(other)
        other.block(one)

    def heal(self):
        for machine in self.machines.values():
            machine.unblock()
            machine.plug()


def sweep():
    """Removes the networks of processes that are no more."""
    for line in _ip("netns", "list", check=False).stdout.splitlines():
        namespace = line.split()[0] if line.split() else ""
        owner = namespace.removeprefix(PREFIX).partition("-")[0]
        digits = owner[:len(owner) - len(owner.lstrip("0123456789"))]
        if not namespace.startswith(PREFIX) or not digits or os.path.exists(f"/proc/{digits}"):
            continue
        for pid in _ip("netns", "pids", namespace, check=False).stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        _ip("netns", "del", namespace, check=False)
