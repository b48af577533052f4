"""The network against QEMU's: frames of our own bare-metal guest to and from this host, and from
one guest to another, through the same kind of tap and bridge.

Rows: without and with our frame guard (which the peer has not); and, where the kernel has
/dev/vhost-net, all of them again with frames that it moves, on both sides. Small frames have 60
bytes and are told per second, large ones have 1514 and are told in bytes. What is received counts,
by the time that the sender took.

As in machine.py, one half runs on this machine's /dev/kvm and one in the lab ("lab: ").
VMHOST_BENCH_PARTS=host (or lab) takes one half.
"""

import os
import shutil
import subprocess
import sys
import tempfile

from machine import Lost, Ours, Qemu, measure_in_lab, own_network, rows, run

summary = "throughput and frames of guests, with and without guard and vhost, against QEMU"

BLAST_MS = 700
UNITS = {"send small": ("k/s", False), "send large": ("MB/s", False),
         "receive small": ("k/s", False), "receive large": ("MB/s", False),
         "guest to guest small": ("k/s", False), "guest to guest large": ("MB/s", False)}
SIZES = (("small", 60), ("large", 1514))


def rate(size, frames, byte_count, seconds):
    return frames / seconds / 1000 if size == "small" else byte_count / seconds / 1e6


class Way:
    """How the frames of a side go: which VM or tap."""

    def __init__(self, guarded, vhost):
        self.guarded, self.vhost = guarded, vhost
        self.name = " ".join(word for word, is_so in (("guarded", guarded), ("vhost", vhost)) if is_so)

    def vm(self, role):
        return f"{role}-{self.name}".replace(" ", "-").rstrip("-")

    def start(self, side, role):
        peer = role == "peer"
        return side.start("bench_net", vm=self.vm(role), vhost=self.vhost, tap=f"tap{int(peer)}",
                          append=role)


def vms(ways):
    """Ours of every way, as machine.Ours takes them."""
    for way in ways:
        for role in ("main", "peer"):
            yield (way.vm(role), "bench_net", f'command_line = "{role}"\ninterface = [{{ switch = "lan", '
                   f'guard = {str(way.guarded).lower()}, vhost = {str(way.vhost).lower()} }}]')


def with_host(side, way, blast):
    guest, figures = way.start(side, "main"), {}
    for size, length in SIZES:
        begin, line = guest.until("BEGIN send-" + size)
        end, _ = guest.until("END send-" + size)
        count = int(line.split()[2])
        figures["send " + size] = rate(size, count, count * length, end - begin)
    for size, length in SIZES:
        guest.until("BEGIN receive-" + size)
        sent = subprocess.run([blast, side.bridge, str(length), str(BLAST_MS)],
                              capture_output=True, check=True).stdout.split()
        _, line = guest.until("RECEIVED receive-" + size)
        _, _, frames, taken = line.split()
        figures["receive " + size] = rate(size, int(frames), int(taken), int(sent[1]) / 1e6)
    side.stop(guest)
    return figures


def between_guests(side, way):
    receiver = way.start(side, "main")
    try:
        receiver.until("BEGIN receive-small")
        sender, figures = way.start(side, "peer"), {}
        for size, _ in SIZES:
            begin, _ = sender.until("BEGIN " + size)
            end, _ = sender.until("END " + size)
            _, line = receiver.until("RECEIVED receive-" + size)
            _, _, frames, taken = line.split()
            figures["guest to guest " + size] = rate(size, int(frames), int(taken), end - begin)
        side.stop(sender)
    except Lost:
        side.stop(receiver)
        raise
    side.stop(receiver)
    return figures


def measure_here(bench, where, runs):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise SystemExit("net: needs /dev/kvm")
    ways = [Way(guarded, vhost) for vhost in (False, True) for guarded in (False, True)]
    if not os.path.exists("/dev/vhost-net"):
        print("net: no rows of vhost: this kernel has no /dev/vhost-net", file=sys.stderr)
        ways = [way for way in ways if not way.vhost]
    folder = tempfile.mkdtemp(prefix="vmhost-bench-")
    os.chmod(folder, 0o755)
    ours = Ours(bench, folder, "none.img", None, list(vms(ways)))
    peer = Qemu(bench, "q35", None, None)
    peer.make_links("tap0", "tap1")
    try:
        for way in ways:
            place = f"{where}{way.name} ".lstrip()
            yield from rows(bench, place, lambda side: with_host(side, way, bench.blast),  # noqa: B023
                            ours, peer, runs, UNITS)
            yield from rows(bench, place, lambda side: between_guests(side, way),  # noqa: B023
                            ours, peer, runs, UNITS)
    finally:
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure(bench):
    if os.environ.get("VMHOST_BENCH_LAB"):  # set inside the lab
        bench.blast = "/scenario/blast"
        with own_network():
            yield from measure_here(bench, "lab: ", bench.runs)
        return
    bench.blast = os.path.join(bench.root, "build/bench-blast")
    run("gcc", "-static", "-O2", "-o", bench.blast, os.path.join(bench.root, "test/bench/blast.c"))
    halves = os.environ.get("VMHOST_BENCH_PARTS", "host,lab")
    if "host" in halves:
        with own_network():
            yield from measure_here(bench, "", bench.runs)
    if "lab" in halves:
        yield from measure_in_lab(bench, "net-lab")
