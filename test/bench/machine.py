"""The machine against QEMU's: the same guests, in turn, on this machine's KVM and in the lab.

On this machine's /dev/kvm our own bare-metal guests run: first instruction, a flood of
exits, a disk, a network device, and what an idle guest costs. In the lab (test/lab: KVM in
software emulation) they run again, and a Linux kernel boots to its init; those rows begin with
"lab:". VMHOST_BENCH_PARTS=host (or lab) takes one half.

The clock is outside: a guest writes BEGIN and END lines around each part, and both sides
hand them to a pipe. QEMU gets an I/O thread for its disk. Networks are in net.py.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

summary = "start, exits, disk and memory of the machine, against QEMU"

LIMIT_S = 100
SILENCE_S = 45
ATTEMPTS = 5
DISK_BYTES = 128 << 20
MEMORY_MIB = 64
LINUX_MEMORY_MIB = 192
KERNEL_LINE = "console=ttyS0 panic=-1 random.trust_cpu=on"


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def own_network():
    """A network namespace of our own, so that no bridge or tap appears on the host."""
    clone_newnet = 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if libc.unshare(clone_newnet) != 0:
        raise SystemExit(f"machine: unshare: {os.strerror(ctypes.get_errno())}; run it as root")
    run("ip", "link", "set", "lo", "up")
    try:
        yield
    finally:
        libc.setns(before, clone_newnet)
        os.close(before)


class Lost(Exception):
    """A guest that ended, began anew or fell silent before it had said what is waited for."""


class Guest:
    """A running guest: its console as lines with the time they came."""

    def __init__(self, command):
        self.begin = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.pending, self.queue, self.first = b"", [], None
        self.kernels = 0  # that began

    def line(self):
        """(seconds since the start, text), or None at the end."""
        while not self.queue:
            if not select.select([self.process.stdout], [], [], SILENCE_S)[0]:
                raise Lost(f"a guest said nothing for {SILENCE_S} s")
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            now = time.monotonic() - self.begin
            if not data:
                return None
            self.first = now if self.first is None else self.first
            *lines, self.pending = (self.pending + data).split(b"\n")
            self.kernels += sum(b"Linux version" in line for line in lines)
            self.queue += [(now, line.strip(b"\r").decode("ascii", "replace")) for line in lines]
            if now > LIMIT_S:
                raise Lost("a guest takes too long")
        return self.queue.pop(0)

    def until(self, *starts):
        """The first line that begins with one of these."""
        heard = []
        while (got := self.line()) is not None:
            if got[1].startswith(starts):
                return got
            heard = (heard + [got[1]])[-10:]
        raise Lost(f"a guest ended before {starts[0]!r}: {heard}"
                   f"{self.process.stderr.read().decode()[-500:]}")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Ours:
    """vmhost with one VM for each guest; more: a name, the guest and its keys for others."""
    name = "vmhost"

    def __init__(self, bench, folder, disk, linux, more=()):
        self.socket, file = os.path.join(folder, "sock"), os.path.join(folder, "toml")
        self.vmctl = os.path.join(folder, "vmctl")
        self.bridge = "br-ours"
        os.symlink(bench.binary, self.vmctl)
        os.makedirs(os.path.join(folder, "state"), exist_ok=True)
        vm = (f'[vm.%s]\nenable = false\nmemory = "{MEMORY_MIB}M"\n'
              f'boot = "{bench.guests}/%s.elf"\n%s\n')
        text = (f'[host]\nname = "bench"\nuser = "nobody"\nstate = "{folder}/state"\n'
                f'[control]\nsocket = "{self.socket}"\n'
                f'[switch.lan]\ninterface = "{self.bridge}"\nstorm = false\n')
        for guest in ("hello", "idle", "bench_flood"):
            text += vm % (guest.replace("_", "-"), guest, "")
        text += vm % ("bench-block", "bench_block", f'disk = [{{ path = "{disk}" }}]')
        for one in more:
            text += vm % one
        if linux:
            text += (f'[vm.linux]\nenable = false\nmemory = "{LINUX_MEMORY_MIB}M"\n'
                     f'boot = "{linux[0]}"\ninitrd = "{linux[1]}"\ncommand_line = "{KERNEL_LINE}"\n')
        with open(file, "w") as out:
            out.write(text)
        self.daemon = subprocess.Popen([bench.binary, "run", "-f", file, "--log", "error"],
                                       stdin=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not os.path.exists(self.socket):
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise SystemExit("machine: vmhost did not come up")
            time.sleep(0.01)

    def start(self, guest, vm=None, **_):
        vm = vm or guest.replace("_", "-")
        self.running = Guest([self.vmctl, "-s", self.socket, "start", "-c", vm])
        self.running.vm = vm
        return self.running

    def pid(self):
        status = json.loads(subprocess.run([self.vmctl, "-s", self.socket, "status", "--json"],
                                           capture_output=True, check=True).stdout)
        return next(vm["pid"] for vm in status if vm["name"] == self.running.vm)

    def stop(self, guest):
        guest.close()
        subprocess.run([self.vmctl, "-s", self.socket, "stop", "-f", "-w", guest.vm],
                       capture_output=True)

    def close(self):
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(30)
        except subprocess.TimeoutExpired:
            self.daemon.kill()


class Qemu:
    """A QEMU machine type for the same guests."""

    def __init__(self, bench, machine, disk, linux):
        self.program = shutil.which("qemu-system-x86_64") or sys.exit(
            "machine: needs qemu-system-x86_64")
        self.guests, self.machine, self.disk, self.linux = bench.guests, machine, disk, linux
        self.name = f"qemu {machine}"
        self.type = "microvm,isa-serial=on,pit=on,pic=on" if machine == "microvm" else machine
        self.bridge = "br-qemu"

    def make_links(self, *taps):
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "link", "set", self.bridge, "up")
        for tap in taps:
            run("ip", "tuntap", "add", tap, "mode", "tap", "vnet_hdr")
            run("ip", "link", "set", tap, "master", self.bridge, "up")

    def start(self, guest, disk=False, tap=None, vhost=False, append="", **_):
        memory = LINUX_MEMORY_MIB if guest == "linux" else MEMORY_MIB
        command = [self.program, "-M", self.type, "-accel", "kvm", "-m",
                   str(memory), "-nodefaults", "-no-user-config", "-display", "none", "-serial",
                   "stdio", "-no-reboot"]
        if guest == "linux":
            command += ["-kernel", self.linux[0], "-initrd", self.linux[1], "-append", KERNEL_LINE]
        else:
            command += ["-kernel", os.path.join(self.guests, guest + ".elf"), "-append", append]
        if disk:
            command += ["-object", "iothread,id=io", "-drive",
                        f"if=none,id=d,format=raw,file={self.disk}", "-device",
                        "virtio-blk-pci,drive=d,iothread=io,disable-legacy=on"]
        if tap:
            # Two taps of one bridge are two guests: the last digit tells them apart.
            command += ["-netdev", f"tap,id=n,ifname={tap},script=no,downscript=no,"
                        f"vhost={'on' if vhost else 'off'}", "-device",
                        "virtio-net-pci,netdev=n,disable-legacy=on,romfile=,"
                        f"mac=52:54:00:12:34:5{tap[-1]}"]
        self.running = Guest(command)
        return self.running

    def stop(self, guest):
        guest.close()

    def close(self):
        pass


# ---- what is measured: each takes a side and gives its figures by name

def first_instruction(side):
    guest = side.start("hello")
    guest.until("hello")
    side.stop(guest)
    return {"command to first guest instruction": guest.first * 1000}


def flood(side):
    guest = side.start("bench_flood")
    begin, line = guest.until("FLOOD")
    end, _ = guest.until("END")
    side.stop(guest)
    return {"serial flood": int(line.split()[1]) / (end - begin) / 1000}


def parts(guest, figures, unit_of):
    """BEGIN … END pairs up to END all."""
    while True:
        begin, line = guest.until("BEGIN", "END all")
        if line.startswith("END"):
            return
        _, name, count, length = line.split()
        end, _ = guest.until("END " + name)
        figures[name] = unit_of(name, int(count), int(length), end - begin)


def disk(side):
    guest, figures = side.start("bench_block", disk=True), {}
    parts(guest, figures, lambda name, count, length, seconds:
          count / seconds / 1000 if name.startswith("random") else count * length / seconds / 1e6)
    side.stop(guest)
    return {"disk " + name: value for name, value in figures.items()}


def private_bytes(pid, guest_bytes):
    """Private memory of a process beside its guest's RAM, the mapping of that size or more."""
    total, skip = 0, False
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            word = line.split()[0]
            if not word.endswith(":"):
                first, _, last = word.partition("-")
                skip = int(last, 16) - int(first, 16) >= guest_bytes - (2 << 20)
            elif word in ("Private_Clean:", "Private_Dirty:") and not skip:
                total += int(line.split()[1]) * 1024
    return total


def memory(side):
    guest = side.start("idle")
    guest.until("idle")
    time.sleep(0.5)
    pid = side.pid() if isinstance(side, Ours) else guest.process.pid
    figure = private_bytes(pid, MEMORY_MIB << 20) / (1 << 20)
    side.stop(guest)
    return {"private memory of an idle VM": figure}


def linux_boot(side):
    guest = side.start("linux")
    took, _ = guest.until("BENCH init")
    if guest.kernels != 1:
        raise Lost("a guest was reset")
    side.stop(guest)
    return {"Linux kernel to init": took}


UNITS = {"command": ("ms", True), "serial": ("k/s", False), "disk random": ("k/s", False),
         "disk sequential": ("MB/s", False),
         "private": ("MiB", True), "Linux": ("s", True)}


def taken(what, side):
    """In the lab a guest of either side is lost or reset now and then, as its processor is an
    emulator with faults (see test/lab/run): what it was to tell is asked of another."""
    for _ in range(ATTEMPTS):
        try:
            return what(side)
        except Lost as lost:
            print(f"machine: {side.name}: once more: {lost}", file=sys.stderr, flush=True)
            side.stop(side.running)
    raise SystemExit(f"machine: {side.name}: {ATTEMPTS} guests in a row were lost")


def rows(bench, where, what, ours, peer, runs, units):
    """Rows of one measurement, the sides in turn."""
    values = {}
    for turn in range(runs + 1):  # the first warms caches and is not counted
        for index, side in enumerate((ours, peer)):
            for name, value in taken(what, side).items():
                if turn > 0:
                    values.setdefault(name, ([], []))[index].append(value)
    for name, (mine, others) in values.items():
        unit, less = next(units[key] for key in units if name.startswith(key))
        goal, met = "ahead of the peer", (lambda a, b: a < b) if less else (lambda a, b: a > b)
        if name.startswith("private"):
            goal, met = "ahead of the peer, at most 4 MiB", lambda a, b: a < b and a <= 4
        yield bench.Row(where + name, unit, mine, others, peer.name, goal, met)


def measure_here(bench, linux, where, runs):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise SystemExit("machine: needs /dev/kvm")
    folder = tempfile.mkdtemp(prefix="vmhost-bench-")
    os.chmod(folder, 0o755)
    images = [os.path.join(folder, name) for name in ("ours.img", "peer.img")]
    for image in images:
        with open(image, "wb") as file:
            file.truncate(DISK_BYTES)
    ours = Ours(bench, folder, images[0], linux)
    q35, microvm = (Qemu(bench, machine, images[1], linux) for machine in ("q35", "microvm"))
    try:
        peers = {first_instruction: (microvm, q35), flood: (microvm, q35), disk: (q35,),
                 memory: (microvm, q35)}
        if linux:
            peers = {linux_boot: (microvm, q35), **peers}
        for what, sides in peers.items():
            for peer in sides:
                yield from rows(bench, where, what, ours, peer, runs, UNITS)
    finally:
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure_in_lab(bench, name):
    """The same in the lab, by the scenario of that name; its rows come back as JSON."""
    scenario = os.path.join(bench.root, "test/bench", name)
    process = subprocess.run([os.path.join(bench.root, "test/lab/run"), scenario, "--timeout",
                              "1800", "--memory", "2G", "--story"], stdout=sys.stderr)
    found = os.path.join(bench.root, "build/lab", name, "out/rows.json")
    if process.returncode != 0 or not os.path.exists(found):
        raise SystemExit(f"{name}: the lab's run failed")
    with open(found) as file:
        for line in file:
            line = json.loads(line)
            row = bench.Row(line["row"], line["unit"], line["ours_values"], line["peer_values"],
                            line["peer_name"], line["goal"])
            good = line["met"]
            row.met = None if good is None else (lambda mine, other, good=good: good)
            yield row


def measure(bench):
    lab = os.environ.get("VMHOST_BENCH_LAB")  # set inside the lab: kernel and initrd
    if lab:
        with own_network():
            yield from measure_here(bench, lab.split(), "lab: ", bench.runs)
        return
    halves = os.environ.get("VMHOST_BENCH_PARTS", "host,lab")
    if "host" in halves:
        with own_network():
            yield from measure_here(bench, None, "", bench.runs)
    if "lab" in halves:
        yield from measure_in_lab(bench, "machine-lab")
