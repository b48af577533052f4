"""The machine against QEMU's: the same guests, in turn, on this machine's KVM and in the lab.

On this machine's /dev/kvm our own bare-metal guests run: first instruction, a flood of
exits, a disk, a network device, and what an idle guest costs. In the lab (test/lab: KVM in
software emulation) they run again, and a Linux kernel boots to its init; those rows begin with
"lab:". VMHOST_BENCH_PARTS=host (or lab) takes one half.

The clock is outside: a guest writes BEGIN and END lines around each part, and both sides
hand them to a pipe. QEMU gets an I/O thread for its disk and the same kind of tap and
bridge as ours, without vhost, which ours does not have.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

summary = "start, exits, disk, network and memory of the machine, against QEMU"

LIMIT_S = 240
DISK_BYTES = 128 << 20
BLAST_MS = 700
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


class Guest:
    """A running guest: its console as lines with the time they came."""

    def __init__(self, command):
        self.begin = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.pending, self.queue, self.first = b"", [], None

    def line(self):
        """(seconds since the start, text), or None at the end."""
        while not self.queue:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            now = time.monotonic() - self.begin
            if not data:
                return None
            self.first = now if self.first is None else self.first
            *lines, self.pending = (self.pending + data).split(b"\n")
            self.queue += [(now, line.strip(b"\r").decode("ascii", "replace")) for line in lines]
            if now > LIMIT_S:
                raise SystemExit("machine: a guest takes too long")
        return self.queue.pop(0)

    def until(self, *starts):
        """The first line that begins with one of these."""
        heard = []
        while (got := self.line()) is not None:
            if got[1].startswith(starts):
                return got
            heard = (heard + [got[1]])[-10:]
        raise SystemExit(f"machine: a guest ended before {starts[0]!r}: {heard}"
                         f"{self.process.stderr.read().decode()[-500:]}")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Ours:
    """vmhost with one VM for each guest."""
    name = "vmhost"

    def __init__(self, bench, folder, disk, linux):
        self.socket, file = os.path.join(folder, "sock"), os.path.join(folder, "toml")
        self.vmctl = os.path.join(folder, "vmctl")
        self.bridge = "br-ours"
        os.symlink(bench.binary, self.vmctl)
        os.makedirs(os.path.join(folder, "state"), exist_ok=True)
        vm = (f'[vm.%s]\nenable = false\nmemory = "{MEMORY_MIB}M"\n'
              f'boot = "{bench.guests}/%s.elf"\n%s\n')
        text = (f'[host]\nname = "bench"\nuser = "nobody"\nstate = "{folder}/state"\n'
                f'[control]\nsocket = "{self.socket}"\n'
                f'[switch.lan]\ninterface = "{self.bridge}"\n')
        for guest in ("hello", "idle", "bench_flood"):
            text += vm % (guest.replace("_", "-"), guest, "")
        text += vm % ("bench-block", "bench_block", f'disk = [{{ path = "{disk}" }}]')
        text += vm % ("bench-net", "bench_net", 'interface = [{ switch = "lan" }]')
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

    def start(self, guest, **_):
        self.guest = guest.replace("_", "-")
        return Guest([self.vmctl, "-s", self.socket, "start", "-c", self.guest])

    def pid(self):
        status = json.loads(subprocess.run([self.vmctl, "-s", self.socket, "status", "--json"],
                                           capture_output=True, check=True).stdout)
        return next(vm["pid"] for vm in status if vm["name"] == self.guest)

    def stop(self, guest):
        guest.close()
        subprocess.run([self.vmctl, "-s", self.socket, "stop", "-f", "-w", self.guest],
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
        self.bridge, self.tap = "br-qemu", "tap-qemu"

    def make_links(self):
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "link", "set", self.bridge, "up")
        run("ip", "tuntap", "add", self.tap, "mode", "tap", "vnet_hdr")
        run("ip", "link", "set", self.tap, "master", self.bridge, "up")

    def start(self, guest, disk=False, net=False):
        memory = LINUX_MEMORY_MIB if guest == "linux" else MEMORY_MIB
        command = [self.program, "-M", self.type, "-accel", "kvm", "-m",
                   str(memory), "-nodefaults", "-no-user-config", "-display", "none", "-serial",
                   "stdio", "-no-reboot"]
        if guest == "linux":
            command += ["-kernel", self.linux[0], "-initrd", self.linux[1], "-append", KERNEL_LINE]
        else:
            command += ["-kernel", os.path.join(self.guests, guest + ".elf")]
        if disk:
            command += ["-object", "iothread,id=io", "-drive",
                        f"if=none,id=d,format=raw,file={self.disk}", "-device",
                        "virtio-blk-pci,drive=d,iothread=io,disable-legacy=on"]
        if net:
            command += ["-netdev", f"tap,id=n,ifname={self.tap},script=no,downscript=no,vhost=off",
                        "-device", "virtio-net-pci,netdev=n,disable-legacy=on,romfile="]
        return Guest(command)

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


def network(side, blast):
    guest, figures = side.start("bench_net", net=True), {}
    for name, length in (("send-small", 60), ("send-large", 1514)):
        begin, line = guest.until("BEGIN " + name)
        end, _ = guest.until("END " + name)
        count = int(line.split()[2])
        figures[name] = count / (end - begin) / 1000 if "small" in name else \
            count * length / (end - begin) / 1e6
    for name, length in (("receive-small", 60), ("receive-large", 1514)):
        guest.until("BEGIN " + name)
        sent = subprocess.run([blast, side.bridge, str(length), str(BLAST_MS)],
                              capture_output=True, check=True).stdout.split()
        _, line = guest.until("RECEIVED " + name)
        _, _, frames, taken = line.split()
        seconds = int(sent[1]) / 1e6
        figures[name] = int(frames) / seconds / 1000 if "small" in name else \
            int(taken) / seconds / 1e6
    side.stop(guest)
    return {"network " + name: value for name, value in figures.items()}


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
    side.stop(guest)
    return {"Linux kernel to init": took}


UNITS = {"command": ("ms", True), "serial": ("k/s", False), "disk random": ("k/s", False),
         "disk sequential": ("MB/s", False), "network send-small": ("k/s", False),
         "network receive-small": ("k/s", False), "network": ("MB/s", False),
         "private": ("MiB", True), "Linux": ("s", True)}


def rows(bench, where, what, ours, peer, runs):
    """Rows of one measurement, the sides in turn."""
    values = {}
    for turn in range(runs + 1):  # the first warms caches and is not counted
        for index, side in enumerate((ours, peer)):
            for name, value in what(side).items():
                if turn > 0:
                    values.setdefault(name, ([], []))[index].append(value)
    for name, (mine, others) in values.items():
        unit, less = next(UNITS[key] for key in UNITS if name.startswith(key))
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
    q35.make_links()
    try:
        peers = {first_instruction: (microvm, q35), flood: (microvm, q35), disk: (q35,),
                 memory: (microvm, q35)}
        if linux:
            peers = {linux_boot: (microvm, q35), **peers}
        for what, sides in peers.items():
            for peer in sides:
                yield from rows(bench, where, what, ours, peer, runs)
        yield from rows(bench, where, lambda side: network(side, bench.blast), ours, q35, runs)
    finally:
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)


def measure_in_lab(bench):
    """The same in the lab; its rows come back as JSON."""
    scenario = os.path.join(bench.root, "test/bench/machine-lab")
    process = subprocess.run([os.path.join(bench.root, "test/lab/run"), scenario, "--timeout",
                              "1800", "--memory", "2G", "--story"], stdout=sys.stderr)
    found = os.path.join(bench.root, "build/lab/machine-lab/out/rows.json")
    if process.returncode != 0 or not os.path.exists(found):
        raise SystemExit("machine: the lab's run failed")
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
        bench.blast = "/scenario/blast"
        with own_network():
            yield from measure_here(bench, lab.split(), "lab: ", bench.runs)
        return
    bench.blast = os.path.join(bench.root, "build/bench-blast")
    run("gcc", "-static", "-O2", "-o", bench.blast, os.path.join(bench.root, "test/bench/blast.c"))
    halves = os.environ.get("VMHOST_BENCH_PARTS", "host,lab")
    if "host" in halves:
        with own_network():
            yield from measure_here(bench, None, "", bench.runs)
    if "lab" in halves:
        yield from measure_in_lab(bench)
