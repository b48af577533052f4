"""Stories of end-to-end about what guests may say on the wire, and who hears it. Each gets a Host."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import time

NEEDS_KVM = {"guard", "guard_spoofing", "guard_flushed", "guard_changes", "guard_outlives", "storm", "trace"}
LAN = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'
LAN6 = LAN + 'ipv6 = "2001:db8:98::1/64"\nra = { autonomous = false }\n'
MAC = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")
EVERYBODY = b"\xff" * 6
HEAR_S = 20.0


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def address(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def ethernet(kind, rest, sender=MAC, to=EVERYBODY):
    return to + sender + struct.pack(">H", kind) + rest


def arp(sender_ip, sender=MAC):
    return ethernet(0x806, bytes.fromhex("0001080006040001") + sender + address(sender_ip)
                    + bytes(6) + address("10.9.8.1"))


def ipv4(source, to, protocol, rest):
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(rest), 1, 0, 64, protocol, 0)
    head += address(source) + address(to)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xffff) + (total >> 16)
    return ethernet(0x800, head[:10] + struct.pack(">H", ~total & 0xffff) + head[12:] + rest)


def ipv6(source, next_header, rest):
    return ethernet(0x86dd, struct.pack(">IHBB", 6 << 28, len(rest), next_header, 255)
                    + address(source) + address("ff02::1") + rest)


def udp(source, to):
    return struct.pack(">HHHH", source, to, 16, 0) + bytes(8)


def icmpv6(source, kind, rest):
    """The guard does not look at checksums."""
    return ipv6(source, 58, bytes([kind]) + bytes(3) + rest)


def claim(kind, source, target):
    """Neighbour solicitation (135) or advertisement (136)."""
    return icmpv6(source, kind, bytes(4) + address(target))


FORBIDDEN = {
    "lladdr": ethernet(0x88b6, bytes(46), sender=OTHER),
    "control": ethernet(0x88cc, bytes(46), to=bytes.fromhex("0180c200000e")),
    "tag": ethernet(0x8100, struct.pack(">HH", 0, 0x88b6) + bytes(46)),
    "llc": ethernet(46, bytes.fromhex("aaaa03000000") + bytes(40)),
    "arp": arp("10.9.8.1"),
    "ipv4_source": ipv4("10.9.8.1", "10.9.8.255", 6, bytes(20)),
    "dhcp": ipv4("10.9.8.10", "255.255.255.255", 17, udp(67, 68)),
    "router": ipv6("fe80::1", 58, bytes([134]) + bytes(15)),
    "ipv6_header": ipv6("fe80::1", 60, bytes([58, 9, 1, 4, 0, 0, 0, 0])),
}
# The same reasons in other clothes, and those that only a switch with IPv6 has.
SPOOFED = [
    ("lladdr", ethernet(0x806, arp("10.9.8.10")[14:], sender=OTHER)),
    ("lladdr", ethernet(0x88b6, bytes(46), sender=bytes(6))),
    ("control", ethernet(0x8808, bytes(46), to=bytes.fromhex("0180c2000001"))),
    ("tag", ethernet(0x88a8, struct.pack(">HHHH", 5, 0x8100, 6, 0x800) + bytes(46))),
    ("llc", ethernet(38, bytes.fromhex("424203") + bytes(43))),
    ("arp", arp("10.9.8.11")),
    ("arp", ethernet(0x806, arp("10.9.8.10", sender=OTHER)[14:])),
    ("arp", ethernet(0x806, bytes.fromhex("00010800060400") + b"\2" + arp("10.9.8.1")[22:])),
    ("arp", ethernet(0x806, bytes.fromhex("000608000604") + arp("10.9.8.10")[20:])),
    ("ipv4_source", ipv4("10.9.8.11", "10.9.8.255", 17, udp(53, 53))),
    ("ipv4_source", ipv4("0.0.0.0", "255.255.255.255", 17, udp(53, 53))),
    ("ipv4_source", ipv4("192.0.2.7", "224.0.0.1", 1, bytes(8))),
    ("dhcp", ipv4("10.9.8.10", "255.255.255.255", 17, udp(67, 67))),
    ("dhcp", ipv4("10.9.8.10", "10.9.8.255", 17, udp(4000, 68))),
    ("dhcp", ipv6("fe80::10", 17, udp(547, 546))),
    ("dhcp", ipv6("fe80::10", 17, udp(4000, 546))),
    ("router", icmpv6("fe80::10", 137, bytes(36))),
    ("router", ipv6("fe80::10", 0, bytes([58, 0, 1, 4, 0, 0, 0, 0, 134]) + bytes(15))),
    ("ipv6_header", ipv6("fe80::10", 44, bytes([60, 0, 0, 1, 0, 0, 0, 7]) + bytes(8))),
    ("ipv6_source", ipv6("2001:db8:98::66", 59, bytes(8))),
    ("ipv6_source", ipv6("2001:db8:98::1", 6, bytes(20))),
    ("ipv6_source", ipv6("2001:db8:7::1", 17, udp(53, 53))),
    ("neighbour", claim(136, "fe80::10", "2001:db8:98::1")),
    ("neighbour", claim(136, "fe80::10", "2001:db8:98::66")),
    ("neighbour", claim(135, "::", "2001:db8:98::1")),
    ("neighbour", claim(135, "::", "2001:db8:98::66")),
]
HONEST = [
    arp("10.9.8.10"),
    ipv4("10.9.8.10", "10.9.8.255", 6, bytes(20)),
    ipv4("0.0.0.0", "255.255.255.255", 17, udp(68, 67)),
    ipv6("fe80::10", 58, bytes([133]) + bytes(7)),
]
# With the address that is the VM's on a switch with IPv6.
HONEST6 = [
    ipv6("2001:db8:98::a", 6, bytes(20)),
    claim(136, "2001:db8:98::a", "2001:db8:98::a"),
    claim(136, "fe80::10", "fe80::10"),
    claim(135, "::", "2001:db8:98::a"),
    claim(135, "fe80::10", "2001:db8:98::1"),
    ipv6("fe80::10", 17, udp(546, 547)),
]


class Wire:
    """A guest that says what it is told, and the ear of this host on its switch."""

    def __init__(self, host):
        self.host = host
        self.sent = 0
        self.ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.ear.bind(("br-lan", 0))
        host.console("a", r"wire: 02:00:00:00:00:01 ready")

    def say(self, *frames, how=""):
        self.host.console("a", rf"sent {self.sent + len(frames)}\b",
                          stdin="".join(how + frame.hex() + "\n" for frame in frames))
        self.sent += len(frames)

    def heard(self, *frames):
        """Which of these are heard."""
        mark = ethernet(0x88b5, bytes([self.sent % 256]) + bytes(45))
        self.say(*frames, mark)
        heard = []
        while True:
            check(select.select([self.ear], [], [], HEAR_S)[0], "the end of the frames never came")
            frame, where = self.ear.recvfrom(2048)
            if where[2] == socket.PACKET_OUTGOING:
                continue
            if frame == mark:
                return heard
            heard.append(frame)


def machine(host, more=""):
    return (f'[vm.a]\nmemory = "16M"\nboot = "{host.guest("wire")}"\ninterface = [{{ switch = "lan", '
            f'lladdr = "02:00:00:00:00:01", ipv4 = "10.9.8.10"{more} }}]\n')


def apply(host):
    done = subprocess.run([host.binary, "apply", "-y", "-f", host.path("vmhost.toml")],
                          capture_output=True, text=True)
    check(done.returncode == 0, f"apply: {done.stderr}")


def dropped(host):
    """Reason -> frames, without those that are none."""
    families = json.loads(host.ctl("metrics", "--json").stdout)
    samples = [sample for family in families
               if family["name"] == "vmhost_vm_interface_guard_dropped_frames_total"
               for sample in family["samples"]]
    wrong = [sample for sample in samples if sample["value"] and
             (sample["labels"]["vm"], sample["labels"]["interface"]) != ("a", "0")]
    check(not wrong, f"of another: {wrong}")
    return {sample["labels"]["reason"]: sample["value"] for sample in samples if sample["value"]}


def test_guard(host):
    """Nothing that a guest says for others is heard, and the reason is counted."""
    host.run(LAN + machine(host))
    wire = Wire(host)
    check(wire.heard(*HONEST) == HONEST, "honest frames got lost")
    for reason, frame in FORBIDDEN.items():
        check(wire.heard(frame) == [], f"{reason} was heard")
    check(dropped(host) == dict.fromkeys(FORBIDDEN, 1), f"counters: {dropped(host)}")


def test_guard_spoofing(host):
    """Each kind of lie is dropped under its own reason, and what only looks like one passes."""
    host.run(LAN6 + machine(host, ', ipv6 = "2001:db8:98::a"'))
    wire = Wire(host)
    honest = HONEST + HONEST6
    heard = wire.heard(*honest)
    check(heard == honest, f"honest frames got lost: {[honest.index(one) for one in heard]}")
    check(wire.heard(*(frame for _, frame in SPOOFED)) == [], "some were heard")
    counted = {}
    for reason, _ in SPOOFED:
        counted[reason] = counted.get(reason, 0) + 1
    check(dropped(host) == counted, f"counters: {dropped(host)}, not {counted}")


def test_guard_changes(host):
    """Another address in the file moves the guard; without a guard all is heard; no restart."""
    host.run(LAN + machine(host))
    wire = Wire(host)
    pid = host.row("a")["pid"]
    old, new = arp("10.9.8.10"), arp("10.9.8.11")
    check(wire.heard(old, new) == [old], "the guard is not there")
    host.write(LAN + machine(host).replace("10.9.8.10", "10.9.8.11"))
    apply(host)
    check(wire.heard(old, new) == [new], "the guard is still for the old address")
    host.write(LAN + machine(host, ", guard = false"))
    apply(host)
    spoofed = [FORBIDDEN[reason] for reason in ("arp", "ipv4_source", "dhcp", "router", "llc")]
    check(wire.heard(*spoofed) == spoofed, "the guard is still there")
    check(host.row("a")["pid"] == pid, "the guest was restarted")


def test_guard_outlives(host):
    """The guest of a killed daemon is guarded all the time, and by the next daemon."""
    host.run(LAN + machine(host))
    wire = Wire(host)
    check(wire.heard(FORBIDDEN["arp"]) == [], "the guard is not there")
    host.process.send_signal(signal.SIGKILL)
    host.process.wait()
    host.run(LAN + machine(host))
    check(wire.heard(FORBIDDEN["arp"], HONEST[0]) == [HONEST[0]], "the guard did not come along")
    check(dropped(host) == {"arp": 2}, f"counters: {dropped(host)}")
    host.end()
    left = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True)
    check("vmhost-e2e" not in left.stdout, f"left behind: {left.stdout}")


def test_guard_flushed(host):
    """Somebody loads a firewall, which begins with flushing everything: the guard comes back."""
    host.run(LAN + machine(host))
    wire = Wire(host)
    check(wire.heard(FORBIDDEN["arp"]) == [], "the guard is not there")
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    end = time.monotonic() + HEAR_S
    while "guard restored" not in host.ctl("events").stdout:
        check(time.monotonic() < end, "the guard does not come back")
        time.sleep(0.05)
    check(wire.heard(FORBIDDEN["arp"], HONEST[0]) == [HONEST[0]], "the guard is not what it was")
    check(host.ctl("events").stdout.count("guard restored") == 1, "it is restored for ever")


def test_storm(host):
    """A guest that shouts all the time is heard as often as the switch allows."""
    host.run(LAN.replace("\n", "\nstorm = { frames = 1, burst = 3 }\n", 1) + machine(host))
    wire = Wire(host)
    shout = ethernet(0x88b6, bytes(46))
    wire.say(shout, how="*")
    count = dropped(host).get("storm", 0)
    check(0 < count <= 47, f"of 50 frames {count} were dropped")


def frames_of(data):
    """Of a pcap file with nanoseconds, in this machine's byte order."""
    check(data[:24] == struct.pack("=IHHIIII", 0xa1b23c4d, 2, 4, 0, 0, 262144, 1), f"{data[:24]}")
    at, frames = 24, []
    while at < len(data):
        seconds, nanoseconds, kept, length = struct.unpack_from("=IIII", data, at)
        check(kept == length and nanoseconds < 10**9 and abs(seconds - time.time()) < 3600,
              "the head of a frame")
        frames.append(data[at + 16:at + 16 + kept])
        at += 16 + kept
    check(at == len(data), "the file is cut off")
    return frames


def test_trace(host):
    """vmhost net trace writes what a guest sends, also what its guard drops; ^C ends it."""
    host.run(LAN + machine(host))
    wire = Wire(host)
    file = host.path("trace.pcap")

    def trace(*words, **more):
        return subprocess.Popen([host.binary, "net", "trace", "-s", host.socket, *words],
                                stderr=subprocess.PIPE, **more)

    tracing = trace("-w", file, "a")
    end = time.monotonic() + HEAR_S
    while not os.path.exists(file) or os.path.getsize(file) < 24:
        check(time.monotonic() < end and tracing.poll() is None, "the trace does not begin")
        time.sleep(0.02)
    said = [*HONEST, *FORBIDDEN.values()]
    wire.say(*said)
    tracing.send_signal(signal.SIGINT)
    told = tracing.communicate(timeout=HEAR_S)[1].decode()
    check(tracing.returncode == 0 and " frames, 0 lost" in told, f"its end: {told}")
    with open(file, "rb") as written:
        frames = [frame for frame in frames_of(written.read()) if frame[6:12] in (MAC, OTHER)]
    check(frames == said, f"{len(frames)} frames of {len(said)}")

    tracing = trace("-c", "2", "a:0", stdout=subprocess.PIPE)
    begun = tracing.stdout.read(24)
    wire.say(HONEST[0], HONEST[1])
    rest, told = tracing.communicate(timeout=HEAR_S)
    check(len(frames_of(begun + rest)) == 2 and b"2 frames" in told, f"two frames: {told}")

    for words, text in ((("a:1",), b"vm a: has no interface 1"), (("b",), b"not found"),
                        (("a:x",), b'"x" is no interface')):
        tracing = trace(*words, stdout=subprocess.DEVNULL)
        told = tracing.communicate(timeout=HEAR_S)[1]
        check(tracing.returncode == 1 and text in told, f"{words}: {told}")
    tracing = trace("a", stdout=subprocess.PIPE)
    tracing.stdout.read(24)
    host.ctl("stop", "-fw", "a")
    tracing.communicate(timeout=HEAR_S)
    check(tracing.returncode == 0, "the end of the VM is the end of the trace")
