"""Stories of end-to-end about two hosts that share a LAN over VXLAN: each in a network namespace of
its own, with a guest, a wire between them. Each gets a Host, and makes the other."""

import contextlib
import os
import re
import shutil
import signal
import subprocess

NEEDS_KVM = {"vxlan"}
MACS = {"a": "02:00:00:00:00:0a", "b": "02:00:00:00:00:0b"}


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def neighbour(host):
    """Another host, in a namespace at the other end of a wire."""
    place = subprocess.Popen(["unshare", "-n", "-m", "sh", "-c",
                              "mount -t sysfs none /sys && echo there && exec sleep 1000"],
                             stdout=subprocess.PIPE)
    other = type(host)(host.binary, host.guests)
    other.name = "other"  # Ethernet addresses of bridges follow from it
    other.prefix = ["nsenter", "-t", str(place.pid), "-n", "-m"]
    try:
        check(place.stdout.readline() == b"there\n", "no namespace")
        ip("link", "add", "wire-a", "type", "veth", "peer", "name", "wire-b", "netns",
           str(place.pid))
        ip("addr", "add", "192.0.2.1/24", "dev", "wire-a")
        ip("link", "set", "wire-a", "up")
        for words in ("addr add 192.0.2.2/24 dev wire-b", "link set wire-b up", "link set lo up"):
            subprocess.run([*other.prefix, "ip", *words.split()], check=True)
        yield other
        other.end()
    finally:
        if other.process and other.process.poll() is None:
            other.process.kill()
        shutil.rmtree(other.folder, ignore_errors=True)
        place.kill()
        place.wait()
        subprocess.run(["ip", "link", "del", "wire-a"], stderr=subprocess.DEVNULL)


def file_of(host, name):
    number = {"a": 1, "b": 2}[name]
    return (f'[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.{number}/24"\ndhcp = false\n'
            f'vxlan = {{ id = 42, local = "192.0.2.{number}", peers = ["192.0.2.{3 - number}"] }}\n'
            f'[vm.{name}]\nmemory = "16M"\nboot = "{host.guest("ping")}"\n'
            f'command_line = "10.9.8.{number}0"\ninterface = [{{ switch = "lan", '
            f'lladdr = "{MACS[name]}", ipv4 = "10.9.8.{number}0" }}]\n')


class Pinger:
    """The guest of a host, and what it has said by now."""

    def __init__(self, host, name):
        self.host, self.name, self.asked = host, name, 0

    def asks(self, address, size, answer):
        self.asked += 1
        text = self.host.console(self.name, rf"(?s)((no )?reply.*?\n.*?){{{self.asked}}}",
                                 stdin=f"ping {address} {size}\n")
        said = re.findall(r"(?:no )?reply.*", text)[-1].strip()
        check(said.startswith(answer), f"{self.name} pings {address} with {size} bytes: {said}")


def known_behind(host, device_kind):
    """Ethernet addresses that a host's bridge has learned, or was told, by device."""
    shown = subprocess.run([*host.prefix, "ip", "-o", "link", "show", "type", device_kind],
                           capture_output=True, text=True, check=True).stdout
    name = re.search(r"\d+: ([^:@]+)[:@]", shown)[1]
    table = subprocess.run([*host.prefix, "bridge", "fdb", "show", "dev", name],
                           capture_output=True, text=True, check=True).stdout
    return table


def test_vxlan(host):
    """Guests of two hosts reach each other as on one switch, and again after one host's death."""
    with neighbour(host) as other:
        host.run(file_of(host, "a"))
        other.run(file_of(other, "b"))
        a, b = Pinger(host, "a"), Pinger(other, "b")
        text = host.console("a", r"ping: .* mtu \d+")
        check(f"{MACS['a']} 10.9.8.10 mtu 1450" in text, text)
        a.asks("10.9.8.20", 1450 - 28, "reply 1422")
        a.asks("10.9.8.20", 1500 - 28, "no reply, and it is there")
        b.asks("10.9.8.10", 56, "reply 56")
        for one, address in (("b", "10.9.8.1"), ("a", "10.9.8.2")):
            {"a": a, "b": b}[one].asks(address, 56, "reply 56")  # the other host itself

        for one, here, there, peer in ((host, "a", "b", "192.0.2.2"), (other, "b", "a", "192.0.2.1")):
            segment = known_behind(one, "vxlan")
            check(f"{MACS[there]} dst {peer}" in segment and MACS[here] not in segment,
                  f"behind the segment of {here}: {segment}")
            check(MACS[here] in known_behind(one, "tun"), f"the tap of {here}")

        # Its guest goes on without its daemon, and with the next one.
        pid = other.row("b")["pid"]
        other.process.send_signal(signal.SIGKILL)
        other.process.wait()
        a.asks("10.9.8.20", 100, "reply 100")
        other.run(file_of(other, "b"))
        check(other.row("b")["pid"] == pid, "the guest is another process")
        a.asks("10.9.8.20", 101, "reply 101")
        b.asks("10.9.8.10", 102, "reply 102")

        # The whole host dies, and comes back.
        other.process.send_signal(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        other.process.wait()
        a.asks("10.9.8.20", 103, "no reply")
        other.run(file_of(other, "b"))
        other.console("b", r"ping: .* mtu 1450")
        a.asks("10.9.8.20", 104, "reply 104")
        check(other.end() == 0, "the other host's end")
        left = subprocess.run([*other.prefix, "ip", "-o", "link"], capture_output=True, text=True)
        check("br-lan" not in left.stdout and "vxlan" not in left.stdout, f"left: {left.stdout}")
