"""Stories of end-to-end about guests that send all the time: who they harm. Each gets a Host."""

import re
import subprocess
import threading

from guard_stories import LAN6, Wire, check, dropped, machine

NEEDS_KVM = {"flood"}
MANY = 2500  # frames for two stars before a line of wire.c
OWN, CHANGING = "020000000001", "02????????01"


def arp(sender, hardware, source, target):
    return f"ffffffffffff{sender}08060001080006040001{hardware}{source}000000000000{target}"


def neighbour(sender, kind, source, to, target):
    return (f"{to}{sender}86dd6000000000183aff{source}ff020000000000000000000000000001"
            f"{kind:02x}00000000000000{target}")


LINK_LOCAL = "fe80" + "0" * 26 + "10"
NETWORK = "20010db800980000" + "?" * 16
# What a switch remembers of senders, and a host of its neighbours; the reason that counts it.
FLOODS = {
    "lladdr": arp(CHANGING, CHANGING, "0a09080a", "0a090801"),
    "arp": arp(OWN, OWN, "0a0908??", "0a090801"),
    "ipv6_source": neighbour(OWN, 135, NETWORK, "020000000009", "20010db8009800000000000000000001"),
    "neighbour": neighbour(OWN, 136, LINK_LOCAL, "020000000009", NETWORK),
    "storm": arp(OWN, OWN, "0a09080a", "0a09????"),
}


def remembered():
    """Neighbours of this host on the switch, and addresses behind its ports."""
    def count(*words):
        return len(subprocess.run(words, capture_output=True, text=True,
                                  check=True).stdout.splitlines())
    return (count("ip", "neigh", "show", "dev", "br-lan"),
            count("bridge", "fdb", "show", "br", "br-lan"))


def memory_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


def test_flood(host):
    """Floods of ARP and neighbour discovery: dropped and counted, and nobody else notices."""
    quiet = 'storm = { frames = 100, burst = 200 }\n'
    host.run(LAN6 + quiet + machine(host, ', ipv6 = "2001:db8:98::a"') +
             f'[vm.b]\nmemory = "16M"\nboot = "{host.guest("ping")}"\ncommand_line = "10.9.8.11"\n'
             'interface = [{ switch = "lan", lladdr = "02:00:00:00:00:0b", ipv4 = "10.9.8.11" }]\n')
    wire = Wire(host)
    host.console("b", r"ping: .* 10\.9\.8\.11")
    answered = len(re.findall("reply 56", host.console("b", "reply 56", stdin="ping 10.9.8.1 56\n")))
    before, size = remembered(), memory_kib(host.process.pid)
    lines = len(host.logged().splitlines())
    for reason, frame in FLOODS.items():
        flood = threading.Thread(target=say, args=(wire, frame))
        flood.start()
        while flood.is_alive():
            answered += 1
            text = host.console("b", rf"(?s)(reply 56.*){{{answered}}}|no reply",
                                stdin="ping 10.9.8.1 56\n")
            check("no reply" not in text, f"{reason}: another guest does not reach the host")
        flood.join()
        now = remembered()
        check(now[0] <= before[0] + 2 and now[1] <= before[1] + 2,
              f"{reason}: neighbours and addresses: {before} before, {now} now")
    counts = dropped(host)
    for reason in ("lladdr", "ipv6_source", "neighbour"):
        check(counts.get(reason) == MANY, f"{reason}: {counts}")
    # Both go to everybody: the storm is looked for first.
    check(counts.get("arp", 0) > 0 and counts.get("storm", 0) > MANY, f"{counts}")
    check(host.row("a")["state"] == "running", "the flooding guest ended")
    check(memory_kib(host.process.pid) < size + 2048, "the daemon has grown")
    check(len(host.logged().splitlines()) < lines + 20, "each frame is a line of the log")


def say(wire, frame):
    wire.sent += 1
    wire.host.console("a", rf"sent {wire.sent}\b", stdin=f"**{frame}\n")
