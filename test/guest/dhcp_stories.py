"""Stories of end-to-end about DHCP, without a guest. Each gets a Host."""

import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import time

LIMIT_S = 60.0
SERVER, LEASES = "10.9.0.1", 10_000
LAN = (f'[switch.lan]\ninterface = "br-lan"\nports = ["near"]\nipv4 = "{SERVER}/16"\n'
       'dhcp = { range = "10.9.16.0-10.9.127.255", ping_check = false }\n')
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not (result := condition()):
        check(time.monotonic() < end, f"waited {LIMIT_S:.0f} s for {what}")
        time.sleep(0.02)
    return result


class Wire:
    """A veth: `near` is a port of the switch, frames come and go at `far`."""

    def __enter__(self):
        subprocess.run(["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"],
                       check=True)
        subprocess.run(["ip", "link", "set", "far", "up"], check=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(("far", 0x800))
        self.socket.setblocking(False)
        return self

    def __exit__(self, *_):
        self.socket.close()
        subprocess.run(["ip", "link", "delete", "near"], check=False)


def lladdr(number):
    return struct.pack(">HI", 0x0200, number)


def asked(kind, number, options=b""):
    """A frame with a message of a client, its number as xid; without a checksum, as clients may."""
    client = lladdr(number)
    message = struct.pack(">BBBBIHH16x6s202x4s3B", 1, 1, 6, 0, number, 0, 0, client,
                          b"\x63\x82\x53\x63", 53, 1, kind) + options + b"\xff"
    message = message.ljust(300, b"\0")
    head = struct.pack(">BBHHHBBH8s", 0x45, 0, 28 + len(message), 0, 0, 64, 17, 0,
                       bytes(4) + b"\xff" * 4)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xffff) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~total & 0xffff) + head[12:]
    udp = struct.pack(">HHHH", 68, 67, 8 + len(message), 0)
    return b"\xff" * 6 + client + b"\x08\x00" + head + udp + message


def answer_in(frame):
    """(xid, type, address as 4 bytes) of a reply, or None."""
    message = frame[42:]
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[36:38] != b"\0\x44":
        return None
    check(message[240:242] == b"\x35\x01", f"option 53 does not come first: {message[240:].hex()}")
    return struct.unpack(">I", message[4:8])[0], message[242], message[16:20]


class Clients:
    """Many at once: each asks until it is answered, and begins again when it is refused."""

    WINDOW, PATIENCE_S = 128, 0.25

    def __init__(self, wire):
        self.socket = wire.socket
        self.next = 1
        self.waiting = {}  # number -> [its last frame, when it went out]
        self.acked = {}    # number -> address

    def say(self, number, frame):
        self.waiting[number] = [frame, time.monotonic()]
        try:
            self.socket.send(frame)
        except OSError:  # the port is down or has no room: it asks again
            pass

    def run(self, until):
        """Until so many have been acknowledged."""
        end = time.monotonic() + LIMIT_S
        while len(self.acked) < until:
            check(time.monotonic() < end, f"{len(self.acked)} of {until} leases in {LIMIT_S:.0f} s")
            while len(self.waiting) < self.WINDOW:
                self.say(self.next, asked(DISCOVER, self.next))
                self.next += 1
            select.select([self.socket], [], [], 0.05)
            self.listen(until)
            now = time.monotonic()
            for number, (frame, since) in list(self.waiting.items()):
                if now - since > self.PATIENCE_S:
                    self.say(number, frame)

    def listen(self, until):
        while len(self.acked) < until:
            try:
                answer = answer_in(self.socket.recv(2048))
            except OSError:
                return
            if answer and answer[0] in self.waiting:
                self.take(*answer)

    def take(self, number, kind, address):
        if kind == OFFER:
            self.say(number, asked(REQUEST, number, b"\x32\x04" + address + b"\x36\x04"
                                   + socket.inet_aton(SERVER)))
        elif kind == NAK:  # an offer is forgotten when the server dies
            self.say(number, asked(DISCOVER, number))
        elif kind == ACK:
            del self.waiting[number]
            self.acked[number] = socket.inet_ntoa(address)


def listed(host):
    """Ethernet address -> address of every lease that holds."""
    def ask():
        done = subprocess.run([host.binary, "leases", "-s", host.socket, "--json"],
                              capture_output=True, text=True, timeout=LIMIT_S)
        return json.loads(done.stdout) if done.returncode == 0 else None
    rows = wait_until(ask, "the list of leases")  # the service may be about to start again
    return {row["lladdr"]: row["address"] for row in rows if row["state"] == "bound"}


def dhcp_process(host):
    for pid in host.processes():
        with open(f"/proc/{pid}/cmdline", "rb") as words:
            if b"\0dhcp\0" in words.read():
                return pid
    return None


def test_dhcp_killed(host):
    """kill -9, of the DHCP process and of the whole host, at random moments of 10,000 exchanges:
    every lease that a client was told of is listed afterwards, and each is one client's."""
    seed = int(os.environ.get("VMHOST_E2E_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    with Wire() as wire:
        host.run(LAN)
        clients = Clients(wire)
        for i, point in enumerate(sorted(chance.sample(range(1, LEASES), 6))):
            clients.run(point)
            time.sleep(chance.random() * 0.004)  # it goes on with what it has been asked
            if i % 2:
                host.process.kill()
                host.process.wait()
                host.run(LAN)
            else:
                pid = dhcp_process(host)
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: dhcp_process(host) not in (None, pid), "another DHCP process")
            check_all(clients, listed(host), f"seed {seed}, after kill {i + 1} at {point}")
        clients.run(LEASES)
        check_all(clients, listed(host), f"seed {seed}, in the end")
        check(host.end() == 0, "exit status after SIGTERM")
        host.run(LAN)
        check_all(clients, listed(host), f"seed {seed}, after an orderly end")


def check_all(clients, leases, when):
    lost = [(number, address) for number, address in clients.acked.items()
            if leases.get(lladdr(number).hex(":")) != address]
    check(not lost, f"{when}: {len(lost)} of {len(clients.acked)} leases are lost: {lost[:5]}")
    check(len(set(clients.acked.values())) == len(clients.acked), f"{when}: one address for two")


def answer_to(wire, frame):
    """Code -> instances of the options of what comes back."""
    def look():
        wire.socket.send(frame)
        while select.select([wire.socket], [], [], 0.5)[0]:
            reply = wire.socket.recv(2048)
            if answer_in(reply):
                return reply[42:]
        return None
    message = wait_until(look, "an answer")  # the port may not be up yet
    found, at = {}, 240
    while message[at] != 255:
        found.setdefault(message[at], []).append(message[at + 2:at + 2 + message[at + 1]])
        at += 2 + message[at + 1]
    return found


def test_dhcp_long_options(host):
    """64 KB of options: as many as the client has room for, long ones in parts; and no more than a
    file may have."""
    codes = (*range(160, 208), *range(212, 228))  # those between are numbers, for pxelinux

    def options(count):
        each = ", ".join(f'{code} = "{code}{"x" * (count - 3)}"' for code in codes)
        return LAN.replace(" }", f", options = {{ {each} }} }}")

    with Wire() as wire:
        host.run(options(1024))
        large, small = (
            answer_to(wire, asked(DISCOVER, number, b"\x39\x02" + most + b"\x37\x01\xaa"))
            for number, most in ((1, b"\x05\xdc"), (2, b"\x02\x40")))
        parts = large.get(170, [])
        check([len(part) for part in parts] == [255] * 4 + [4], f"parts: {parts}")
        check(b"".join(parts) == b"170" + b"x" * 1021, f"the option: {parts}")
        for found, left_out in ((large, 63), (small, 64)):
            check({1, 3, 51, 53, 54, 58, 59} <= set(found), f"options: {set(found)}")
            check(f"there is no room for {left_out} of the options" in host.logged(), "the log")
        check(170 not in small, "1 KB in a message of 576 bytes")
        check(host.end() == 0, "exit status after SIGTERM")
    done = subprocess.run([host.binary, "config", "check", "-f", host.write(options(1025))],
                          capture_output=True, text=True, timeout=LIMIT_S)
    check(done.returncode == 1 and "switch.lan.dhcp.options.160: has 1025 bytes, and 1024 is the "
          "most" in done.stderr, f"config check: {done.stderr}")
