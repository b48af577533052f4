"""Stories of the villain: a guest of ours that does one class of nonsense after the other to every
device (villain/*.c, a topic each). Afterwards it is at rest with every device honest, or it has
ended for a reason that has a name; the VM process has not grown, does not spin, has said little
and has counted.
"""

import json
import re
import subprocess
import time

# Topics that end by themselves: what the log says then.
ENDS = {
    "vmmci": "the guest powered itself off",
    "inflight": "exit code 0",
    "triple": "rebooted too quickly, 3 times in a row",
    "nowhere": r"vcpu 0: kvm: internal error .* at rip 0xe",
    "init": r"vcpu 0: kvm: .* at rip",
}
SURVIVES = ["registers", "descriptors", "chains", "indexes", "change", "pci", "msix", "ports",
            "platform", "processor", "net", "block", "scsi", "console", "virtio_console"]
# Those whose nonsense must show in the machine's count of it.
COUNTED = {"descriptors", "chains", "indexes", "change", "net", "virtio_console"}

LIMIT_S = 280.0     # these machines are slow and shared; alone, no topic takes half a minute
MAX_LOG_LINES = 60  # of a whole story, at the level "debug"
GUEST_KIB = 16 << 10
MAX_GROWTH_KIB = 4 << 10  # beside the guest's own memory
MAX_IDLE_TICKS = 50       # of the 100 that one spinning thread uses in a second


def private_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"RssAnon:\s+(\d+)", status.read())[1])


def used_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def start(kit, host, topic, *options, disk="a.img"):
    with open(host.path("cd.iso"), "wb") as medium:
        medium.write(b"c" * (32 * 2048))
    more = (f'vcpus = {2 if topic == "change" else 1}\n'
            f'disk = [{{ path = "{disk}", size = "1M" }}]\n'
            # Unguarded: the device is to see what the guard would drop an answer to.
            'interface = [{ switch = "lan", guard = false }]\nvirtio_console = true\n')
    if topic == "scsi":
        more += f'cdrom = "{host.path("cd.iso")}"\n'
    return host.run(kit.SWITCH + kit.vm(host, "a", f"villain-{topic}", more), *options)


def type_without_pause(host):
    """On the virtio console, as long as the VM takes it; nobody reads what is said there."""
    with open(host.path("typed"), "wb") as typed:
        typed.write(b"typed without a pause\n" * 20000)
    with open(host.path("typed"), "rb") as typed:
        subprocess.Popen([host.vmctl, "-s", host.socket, "console", "-p", "virtio", "a"],
                         stdin=typed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def survives(kit, host, topic, disk="a.img"):
    start(kit, host, topic, disk=disk)
    pid = host.row("a")["pid"]
    before = private_kib(pid)
    if topic == "virtio_console":
        type_without_pause(host)
    text = host.console("a", r"villain: \w+ survived, \d+ devices are honest|FAIL.*\n", limit_s=LIMIT_S)
    kit.check("FAIL" not in text, text[-500:])
    row = host.row("a")
    kit.check(row["state"] == "running" and row["pid"] == pid, f"the VM process ended: {row}")
    grown = private_kib(pid) - before
    kit.check(grown < GUEST_KIB + MAX_GROWTH_KIB, f"the VM process has grown by {grown} KiB")
    ticks = used_ticks(pid)
    time.sleep(1)
    ticks = used_ticks(pid) - ticks
    kit.check(ticks < MAX_IDLE_TICKS, f"the VM process spins: {ticks} ticks in a second")
    host.ctl("stop", "-fw", "a")
    if topic in COUNTED:
        found = re.search(r"(\d+) malformed requests", host.logged())
        kit.check(found and int(found[1]) > 0, "no malformed request was counted")


def ends(kit, host, topic):
    start(kit, host, topic, "--debug-exit")
    kit.wait_until(lambda: "vm a ended" in host.logged(), "the end of the guest", LIMIT_S)
    kit.check(re.search(f"vm a ended: .*{ENDS[topic]}", host.logged()), host.logged())
    if topic == "triple":
        kit.check("vm a rebooted, by a triple fault" in host.logged(), host.logged())
    if topic == "inflight":
        kit.check(host.logged().count("vm a rebooted") == 2, "resets with requests in flight")


def storm(kit, host, disk="a.img"):
    """Held, looked at and let go again in the middle of everything, then ended from outside."""
    start(kit, host, "storm", disk=disk)
    pid = host.row("a")["pid"]
    host.console("a", r"turn \d+", limit_s=LIMIT_S)
    for _ in range(10):
        host.ctl("pause", "a")
        kit.check(host.row("a")["state"] == "paused", "state while paused")
        ticks = used_ticks(pid)
        time.sleep(0.3)
        ticks = used_ticks(pid) - ticks
        kit.check(ticks < 15, f"a paused guest uses the processor: {ticks} ticks in 0.3 s")
        host.ctl("unpause", "a")
        time.sleep(0.1)
    # The ring is replayed, then what comes.
    seen = max(int(turn) for turn in re.findall(r"turn (\d+)", host.console("a", r"turn \d+\r")))
    host.console("a", rf"turn {seen + 160}\r", limit_s=LIMIT_S)
    kit.check(host.row("a")["pid"] == pid, "the VM process ended")
    host.ctl("stop", "-fw", "a")


def qcow2(kit, host):
    """Ranges, types and queues, then a storm that is cut off, on qcow2: its tables stay right."""
    for act in (lambda: survives(kit, host, "block", "a.qcow2"),
                lambda: storm(kit, host, "a.qcow2")):
        act()
        host.end()
        done = subprocess.run([host.binary, "image", "check", "--json", host.path("a.qcow2")],
                              capture_output=True, text=True, timeout=kit.LIMIT_S)
        # What was cut off may have left a cluster that nothing refers to, and no worse.
        kit.check(json.loads(done.stdout)["corruptions"] == 0, done.stdout + done.stderr)


def stories(kit):
    """{"test_villain_TOPIC": function of a host}"""
    def story(topic, judge):
        def run(host):
            judge(kit, host, topic)
            lines = host.logged().count("\n")
            kit.check(lines <= MAX_LOG_LINES, f"{lines} lines in the log")
        return run
    return ({f"test_villain_{topic}": story(topic, survives) for topic in SURVIVES} |
            {f"test_villain_{topic}": story(topic, ends) for topic in ENDS} |
            {"test_villain_storm": story("storm", lambda *given: storm(*given[:2])),
             "test_villain_qcow2": story("qcow2", lambda *given: qcow2(*given[:2]))})
