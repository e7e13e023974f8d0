"""The card's network: addresses of both families, from the file and from servers; the
loss of the link and its return; and what is open."""

import sys
from pathlib import Path

import pytest
from guest import BOOT_LIMIT_S, PAGE, Wire, extract, on
from rig.process import Process, await_that

pytestmark = [pytest.mark.timeout(1800), pytest.mark.on_demand]

#: From qemu's hardware address for the first card, 52:54:00:12:34:56 (RFC 4291).
BY_ITSELF = "fd78::5054:ff:fe12:3456"


class Servers:
    """DHCP, and routers' advertisements: dnsmasq."""

    def __init__(self, cluster, address):
        self.log = cluster.folder / "dnsmasq"
        before = self.said()
        self._process = Process(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
             f"--interface={Wire.device}", "--bind-interfaces", "--dhcp-authoritative",
             f"--dhcp-range={address},{address},2m", "--dhcp-range=fd78::,ra-only,64",
             "--enable-ra", "--log-dhcp", "--log-facility=-",
             f"--dhcp-leasefile={cluster.folder / 'leases'}"], self.log, cluster.machine)
        await_that(lambda: "DHCP, IP range" in self.said()[len(before):], 30, self.said)

    def said(self):
        return self.log.read_text() if self.log.exists() else ""

    def await_said(self, text, times=1):
        await_that(lambda: self.said().count(text) >= times, BOOT_LIMIT_S, self.said)

    def end(self):
        self._process.terminate()


def page_at(witness, address, *options):
    return "pg-witness" in (witness.fetch(f"http://{address}:{PAGE}/", *options) or "")


@on("virt", cluster="wired")
def test_addresses_of_the_file_and_their_gateways(wired):
    witness = wired.witness
    witness.configure(appliance={"address": f"{Wire.guest}/24", "gateway": Wire.host,
                                 "address6": f"{Wire.guest6}/64", "gateway6": Wire.host6})
    witness.start()
    witness.await_status()
    assert f"{witness.address} is no address of this machine" not in witness.output()
    for address, far in ((Wire.guest, Wire.far), (f"[{Wire.guest6}]", Wire.far6)):
        await_that(lambda: page_at(witness, address), BOOT_LIMIT_S, witness.output)
        # From another network: the answer must take the gateway.
        assert page_at(witness, address, "--interface", far)
    # Nobody advertises; nothing else was made up.
    assert not page_at(witness, f"[{BY_ITSELF}]")


@on("virt", cluster="wired")
def test_addresses_of_servers_and_a_link_that_goes_and_comes(wired):
    witness = wired.witness
    witness.configure()
    witness.start()
    witness.await_line("Waiting for an address")
    servers = Servers(wired, Wire.guest)
    witness.await_status()
    await_that(lambda: page_at(witness, f"[{BY_ITSELF}]"), BOOT_LIMIT_S, witness.output)
    assert not any("address" in note for note in witness.notes())

    # A lease of two minutes is renewed in time, by its own server.
    servers.await_said("DHCPACK", times=2)
    assert servers.said().count("DHCPDISCOVER") <= servers.said().count("DHCPOFFER")

    witness.monitor("set_link net off")
    witness.await_line("No link on the network interface")
    assert witness.status() is None
    acknowledged = servers.said().count("DHCPACK")
    witness.monitor("set_link net on")
    witness.await_line("the link is back")
    servers.await_said("DHCPACK", times=acknowledged + 1)
    witness.await_status()
    assert witness.output().count("is PID 1") == 1

    # The server has changed its mind: the address goes, and that is said.
    servers.end()
    servers = Servers(wired, "10.78.0.10")
    witness.monitor("set_link net off")
    witness.await_line("No link on the network interface", times=2)
    witness.monitor("set_link net on")
    witness.await_line("the address is 10.78.0.10/24")
    witness.await_line(f"self_addr {witness.address} is no longer an address of this machine")
    await_that(lambda: page_at(witness, "10.78.0.10"), BOOT_LIMIT_S, witness.output)
    assert not page_at(witness, Wire.guest)
    servers.end()


@on("virt")
def test_the_cable_in_another_port(booted):
    witness = booted.witness
    witness.more = ["-netdev", "user,id=spare", "-device", "virtio-net-device,netdev=spare"]
    witness.configure()
    witness.start()
    witness.await_line("the address is 10.0.2.15/24")
    first = witness.output().partition(": the address is")[0].split()[-1]
    other = {"eth0": "eth1", "eth1": "eth0"}[first]
    witness.await_line("http: the status is at")
    # Only what is dialled at `net` reaches the guest.
    witness.monitor(f"set_link {'spare' if witness.page('/') is None else 'net'} off")
    witness.await_line(f"{other}: the address is 10.0.2.15/24")


@on("virt", cluster="wired")
def test_nothing_but_raft_and_the_page_is_open(wired):
    witness = wired.witness
    witness.configure(appliance={"address": f"{Wire.guest}/24", "address6": f"{Wire.guest6}/64"})
    witness.start()
    witness.await_status()
    for address, expected in ((Wire.guest, {2222, PAGE}), (Wire.guest6, {PAGE})):
        assert set(open_ports(wired.machine, address)) == expected
    # FAT hides the password from all but the witness, and the page does not say it.
    assert witness.notes()
    assert "secret" not in witness.page("/status.json") + witness.page("/events.json")
    assert "secret" in extract(witness.image, "pg-witness.json").decode()
    assert "holds a password" not in witness.output()


def open_ports(machine, address):
    """Of all TCP ports those that do not refuse a connection."""
    scan = Path(__file__).with_name("port_scan.py")
    done = machine.run(sys.executable, scan, address, capture_output=True, text=True)
    return [int(port) for port in done.stdout.split()]
