"""Stories of end-to-end about the DHCP clients of others, each behind a port of a switch in a
network namespace of its own: what the client says it was told, and what was on the wire, field by
field. Each gets a Host."""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess

import guard_stories
from boot_stories import Skip
from dhcp_stories import ACK, DISCOVER, OFFER, REQUEST, check, dhcp_process, wait_until

NEEDS_KVM = {"dhcp_rogue"}

SERVER, BROADCAST, DNS = "10.9.8.1", "10.9.8.255", ("9.9.9.9", "149.112.112.112")
LAN = (f'[switch.lan]\ninterface = "br-lan"\nports = ["near"]\nipv4 = "{SERVER}/24"\n'
       '[switch.lan.dhcp]\nrange = "10.9.8.100-10.9.8.109"\nlease_time = "2h"\n'
       f'domain_name = "example.org"\ndomain_name_servers = ["{DNS[0]}", "{DNS[1]}"]\n')
LEASE_S = 7200
# What a client may have been told, whatever it calls it.
EXPECTED = {"mask": {"255.255.255.0", "24"}, "router": {SERVER}, "server": {SERVER},
            "dns": {" ".join(DNS)}, "domain": {"example.org"}, "broadcast": {BROADCAST},
            "lease": {str(LEASE_S)}, "t1": {str(LEASE_S // 2)}, "t2": {str(LEASE_S * 7 // 8)}}
NETWORKD = "/lib/systemd/systemd-networkd"


# ---- the wire ---------------------------------------------------------------

class Place:
    """A namespace with a client's interface `far`; what passes its other end is kept."""

    def __init__(self, host):
        # Stories have processes and links of their own, but the names of namespaces are shared.
        self.host, self.name, self.frames = host, os.path.basename(host.folder), []

    def __enter__(self):
        def ip(*words):
            subprocess.run(["ip", *words], check=True)
        ip("netns", "add", self.name)
        ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", self.name)
        ip("link", "set", "near", "up")
        self.lladdr = json.loads(subprocess.run(
            ["ip", "-n", self.name, "-j", "link", "show", "far"], check=True,
            capture_output=True).stdout)[0]["address"]
        self.ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.ear.bind(("near", 0))
        self.ear.setblocking(False)
        return self

    def __exit__(self, *_):
        self.ear.close()
        subprocess.run(["ip", "link", "delete", "near"], check=False)
        subprocess.run(["ip", "netns", "delete", self.name], check=False)

    @contextlib.contextmanager
    def client(self, script):
        """A shell script in the namespace, with /run and its kind for itself; ended afterwards."""
        log = open(self.host.path("client.log"), "w+")
        process = subprocess.Popen(["ip", "netns", "exec", self.name, "sh", "-ec", script],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        except AssertionError as error:
            log.seek(0)
            raise AssertionError(f"{error}; the client: {log.read()[-1500:]}") from None
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()

    def messages(self):
        """Those of DHCP so far, as (sent by the client, frame)."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, where = self.ear.recvfrom(2048)
                if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[34:38] in (
                        b"\0\x44\0\x43", b"\0\x43\0\x44"):
                    self.frames.append((where[2] != socket.PACKET_OUTGOING, frame))
        return self.frames


def options_of(message):
    """Code -> data, and the codes in order; what follows END is to be zeros."""
    found, at = {}, 240
    while message[at] != 255:
        code, length = message[at], message[at + 1]
        check(code != 0, "a pad before END: pxeboot does not skip one")
        check(code not in found, f"option {code} is there twice")
        found[code] = message[at + 2:at + 2 + length]
        at += 2 + length
    check(not any(message[at + 1:]), "something follows END")
    return found


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def check_reply(frame, asked, kind, address, lladdr):
    """Every field of a reply to the frame `asked`."""
    own = socket.inet_aton(SERVER)
    with open("/sys/class/net/br-lan/address") as file:
        bridge = bytes.fromhex(file.read().strip().replace(":", ""))
    client = bytes.fromhex(lladdr.replace(":", ""))
    request, message = asked[42:], frame[42:]
    wanted = options_of_request(request)
    broadcast = request[10] & 0x80
    check(frame[:6] == client and frame[6:12] == bridge, f"Ethernet: {frame[:12].hex()}")
    ip = frame[14:34]
    check(ip[0] == 0x45 and struct.unpack(">H", ip[2:4])[0] == len(frame) - 14, "IP length")
    check(ip[6:10] == b"\x40\x00\x40\x11", f"IP: fragment, TTL, protocol: {ip[6:10].hex()}")
    check(checksum(ip) == 0xffff, "IP checksum")
    check(ip[12:16] == own, "IP source")
    check(ip[16:] == (b"\xff" * 4 if broadcast else address), f"IP destination: {ip[16:].hex()}")
    udp = frame[34:]
    check(udp[:4] == b"\0\x43\0\x44" and struct.unpack(">H", udp[4:6])[0] == len(udp), "UDP")
    check(udp[6:8] != b"\0\0" and checksum(ip[12:] + b"\0\x11" + udp[4:6] + udp) == 0xffff,
          "UDP checksum")
    check(len(message) >= 300, f"{len(message)} bytes")
    check(message[:4] == b"\x02\x01\x06\x00", f"op, htype, hlen, hops: {message[:4].hex()}")
    check(message[4:8] == request[4:8], "xid")
    check(message[8:12] == b"\0\0" + request[10:12], "secs, flags")
    check(message[12:16] == request[12:16] and message[16:20] == address, "ciaddr, yiaddr")
    check(message[20:24] == own and message[24:28] == bytes(4), "siaddr, giaddr")
    check(message[28:44] == client + bytes(10), "chaddr")
    check(message[44:108] == SERVER.encode().ljust(64, b"\0"), "sname")
    check(message[108:240] == bytes(128) + b"\x63\x82\x53\x63", "file, cookie")
    options = options_of(message)
    check(list(options)[:2] == [53, 54], f"order: {list(options)}")
    times = [struct.pack(">I", LEASE_S * part // 8) for part in (8, 4, 7)]
    for code, data in ((53, bytes([kind])), (54, own), (51, times[0]), (58, times[1]),
                       (59, times[2]), (1, b"\xff\xff\xff\0"), (3, own), (15, b"example.org"),
                       (6, b"".join(map(socket.inet_aton, DNS))), (61, wanted.get(61))):
        check(options.get(code) == data, f"option {code}: {options.get(code)}, not {data}")
    check(options.get(28, socket.inet_aton(BROADCAST)) == socket.inet_aton(BROADCAST), "option 28")
    check(52 not in options, "dhcpleased reads no overloaded fields")
    others = set(options) - set(wanted.get(55, b"")) - {53, 54, 51, 58, 59, 61}
    check(others <= {1, 3, 6, 12, 15, 28}, f"options that nobody asked for: {others}")


def options_of_request(message):
    found, at = {}, 240
    while at < len(message) and message[at] != 255:
        if message[at] == 0:
            at += 1
            continue
        found[message[at]] = message[at + 2:at + 2 + message[at + 1]]
        at += 2 + message[at + 1]
    return found


def check_exchange(place, address):
    """The last exchange on the wire, and that nobody else had a say."""
    raw = socket.inet_aton(address)
    last = {}
    for by_client, frame in place.messages():
        kind = (options_of_request(frame[42:]) if by_client else options_of(frame[42:]))[53][0]
        check(by_client == (kind in (DISCOVER, REQUEST)), f"a message of type {kind}")
        last[kind] = frame
    check(set(last) == {DISCOVER, OFFER, REQUEST, ACK}, f"types of messages: {set(last)}")
    chosen = options_of_request(last[REQUEST][42:])
    check((chosen[50], chosen[54]) == (raw, socket.inet_aton(SERVER)), "what it asks for")
    check_reply(last[OFFER], last[DISCOVER], OFFER, raw, place.lladdr)
    check_reply(last[ACK], last[REQUEST], ACK, raw, place.lladdr)


# ---- clients ----------------------------------------------------------------

def variables(path):
    """NAME=value lines of a file that appears."""
    def look():
        with contextlib.suppress(FileNotFoundError), open(path) as file:
            return dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
        return None
    return wait_until(look, "the client to have a lease")


def obtain(host, script, lease, names):
    """Runs a client that leaves NAME=value lines in a file; names: ours -> the client's."""
    with Place(host) as place:
        host.run(LAN)
        with place.client(script) as client:
            check(client.poll() is None, "it ended at once")
            told = variables(lease)
            address = told[names.pop("address")]
            check(address.startswith("10.9.8.10"), f"address {address}")
            for ours, theirs in names.items():
                check(told.get(theirs) in EXPECTED[ours],
                      f"{theirs} is {told.get(theirs)}, not of {EXPECTED[ours]}")
            check_exchange(place, address)
            done = subprocess.run([host.binary, "leases", "-s", host.socket, "--json"],
                                  check=True, capture_output=True, text=True)
            rows = [row for row in json.loads(done.stdout) if row["lladdr"] == place.lladdr]
            check([(row["address"], row["state"]) for row in rows] == [(address, "bound")],
                  f"leases: {rows}")
            check(rows[0]["messages"] == 2 and rows[0]["dropped"] == 0, f"leases: {rows}")
        check(host.end() == 0, "exit status after SIGTERM")


def hook(host, when):
    """A script that leaves its environment in a file, and its name and the file's."""
    script, lease = host.path("hook"), host.path("lease")
    with open(script, "w") as file:
        file.write(f'#!/bin/sh\n[ {when} ] || exit 0\nenv > {lease}.new\nmv {lease}.new {lease}\n')
    os.chmod(script, 0o755)
    return script, lease


def needs(program):
    if not shutil.which(program):
        raise Skip(f"{program} is missing")


def test_dhcp_udhcpc(host):
    needs("udhcpc")
    script, lease = hook(host, '"$1" = bound')
    obtain(host, f"ip link set far up; exec udhcpc -f -i far -s {script} -O broadcast", lease,
           {"address": "ip", "mask": "mask", "router": "router", "dns": "dns", "domain": "domain",
            "server": "serverid", "lease": "lease", "broadcast": "broadcast"})


def test_dhcp_dhclient(host):
    needs("dhclient")
    script, lease = hook(host, '"$reason" = BOUND')
    name = "new_"
    obtain(host, f"ip link set far up; exec dhclient -4 -d -1 -cf /dev/null -lf {host.path('l')} "
                 f"-pf {host.path('p')} -sf {script} far", lease,
           {"address": name + "ip_address", "mask": name + "subnet_mask",
            "router": name + "routers", "dns": name + "domain_name_servers",
            "domain": name + "domain_name", "server": name + "dhcp_server_identifier",
            "lease": name + "dhcp_lease_time", "broadcast": name + "broadcast_address"})


def test_dhcp_dhcpcd(host):
    needs("dhcpcd")
    script, lease = hook(host, '"$reason" = BOUND')
    name = "new_"
    obtain(host, "mount -t tmpfs none /run; mount -t tmpfs none /var/lib/dhcpcd; "
                 f"exec dhcpcd -B -4 --noipv4ll --noarp -f /dev/null -c {script} far", lease,
           {"address": name + "ip_address", "mask": name + "subnet_mask",
            "router": name + "routers", "dns": name + "domain_name_servers",
            "domain": name + "domain_name", "server": name + "dhcp_server_identifier",
            "lease": name + "dhcp_lease_time", "broadcast": name + "broadcast_address",
            "t1": name + "dhcp_renewal_time", "t2": name + "dhcp_rebinding_time"})


def test_dhcp_networkd(host):
    """Without the rest of systemd: a /sys that cannot be written to tells it that there is no udev
    to wait for."""
    needs(NETWORKD)
    lease = host.path("lease")
    with open(host.path("far.network"), "w") as file:
        file.write("[Match]\nName=far\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"
                   "IPv6AcceptRA=no\n")
    obtain(host, "mount -t tmpfs none /run; mkdir -p /run/systemd/network /run/systemd/netif; "
                 "cd /run/systemd/netif; mkdir leases links lldp; "
                 "chown -R systemd-network /run/systemd/netif; "
                 f"cp {host.path('far.network')} /run/systemd/network; mount -o remount,ro /sys; "
                 f"(until cat leases/* > {lease}.new 2>&-; do sleep 0.1; done; "
                 f"mv {lease}.new {lease}) & exec {NETWORKD}", lease,
           {"address": "ADDRESS", "mask": "NETMASK", "router": "ROUTER", "dns": "DNS",
            "domain": "DOMAINNAME", "server": "SERVER_ADDRESS", "lease": "LIFETIME", "t1": "T1",
            "t2": "T2", "broadcast": "BROADCAST"})


def test_dhcp_rogue(host):
    """A guest answers a client sooner than the server does, by broadcast and directly: nobody hears
    it, it is counted, and the client has its lease from the server."""
    needs("udhcpc")
    script, lease = hook(host, '"$1" = bound')
    with Place(host) as place:
        host.run(LAN + guard_stories.machine(host))
        guest = guard_stories.Wire(host)
        server = dhcp_process(host)
        os.kill(server, signal.SIGSTOP)
        with place.client(f"ip link set far up; exec udhcpc -f -i far -s {script}"):
            _, asked = wait_until(lambda: next(iter(place.messages()), None), "a DISCOVER")
            rogue = socket.inet_aton("10.9.8.10")
            message = (b"\x02" + asked[43:58] + socket.inet_aton("10.9.8.66") + rogue
                       + asked[66:282] + bytes([53, 1, OFFER, 54, 4]) + rogue
                       + bytes([51, 4, 0, 0, 255, 0, 255])).ljust(300, b"\0")
            udp = struct.pack(">HHHH", 67, 68, 8 + len(message), 0) + message
            offer = guard_stories.ipv4("10.9.8.10", "255.255.255.255", 17, udp)
            guest.say(offer, asked[6:12] + offer[6:])
            os.kill(server, signal.SIGCONT)
            told = variables(lease)
        check(told["serverid"] == SERVER and told["ip"].startswith("10.9.8.10"), f"lease: {told}")
        check(not [frame for by_client, frame in place.messages()
                   if not by_client and frame[26:30] == rogue], "the rogue was heard")
        check(guard_stories.dropped(host) == {"dhcp": 2}, f"{guard_stories.dropped(host)}")
        check(host.end() == 0, "exit status after SIGTERM")
