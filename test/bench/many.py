"""Three hundred guests on one host: started, listed, stopped.

The guests do nothing but wait, with 4 MiB each, so that the figures are the host's own work.
Started in waves of as many as there are processors. There is no peer: no other program here does
all of it; the rows have goals instead.
"""

import os
import shutil
import subprocess
import tempfile
import time

summary = "300 tiny guests: start all, list, memory of all roles, stop all"

GUESTS = 300
GUEST = "idle"
LIMIT_S = 600


def memory_kib(pid):
    """Private memory, and what is shared divided by those who share it: proc(5) smaps_rollup."""
    sizes = {}
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            words = line.split()
            if len(words) == 3 and words[2] == "kB":
                sizes[words[0]] = int(words[1])
    return sizes["Pss:"]


def roles(binary):
    """(pid, role) of every process of the binary; the parent's role is "run"."""
    binary, found = os.path.realpath(binary), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe") == binary:
                words = open(f"/proc/{pid}/cmdline").read().split("\0")
                found.append((int(pid), words[2] if words[1] == "role" else words[1]))
        except OSError:
            continue
    return found


def once(bench, folder):
    socket, file, vmctl = (os.path.join(folder, name) for name in ("sock", "toml", "vmctl"))
    guest = os.path.join(bench.guests, GUEST + ".elf")
    with open(file, "w") as out:
        out.write(f'[host]\nname = "bench"\nuser = "nobody"\nstate = "{folder}"\n'
                  f'[control]\nsocket = "{socket}"\n')
        for i in range(GUESTS):
            out.write(f'[vm.g{i}]\nmemory = "4M"\nboot = "{guest}"\n')
    if not os.path.exists(vmctl):
        os.symlink(bench.binary, vmctl)
    begin = time.monotonic()
    log = open(os.path.join(folder, "log"), "w+")
    daemon = subprocess.Popen([bench.binary, "run", "-f", file, "--log", "notice"],
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        while "up: " not in open(log.name).read():
            if daemon.poll() is not None or time.monotonic() - begin > LIMIT_S:
                raise SystemExit("many: vmhost did not come up:\n" + open(log.name).read()[-2000:])
            time.sleep(0.02)
        start_s = time.monotonic() - begin
        listed = []
        for _ in range(5):
            at = time.monotonic()
            rows = subprocess.run([vmctl, "-s", socket, "status"], capture_output=True, text=True,
                                  check=True).stdout.splitlines()
            listed.append((time.monotonic() - at) * 1000)
        running = sum(" running " in row for row in rows)
        if running != GUESTS:
            raise SystemExit(f"many: {running} of {GUESTS} guests run")
        own, guests = 0, 0
        for pid, role in roles(bench.binary):
            if role == "vm":
                guests += memory_kib(pid)
            elif pid == daemon.pid or role in ("control", "dhcp", "http"):
                own += memory_kib(pid)
        at = time.monotonic()
        daemon.terminate()
        if daemon.wait(LIMIT_S) != 0:
            raise SystemExit("many: vmhost did not end well:\n" + open(log.name).read()[-2000:])
        return {"start": start_s, "list": sorted(listed)[len(listed) // 2],
                "services": own / 1024, "vm": guests / 1024 / GUESTS,
                "stop": time.monotonic() - at}
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
        log.close()


def measure(bench):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise SystemExit("many: needs /dev/kvm")
    if os.geteuid() != 0:
        raise SystemExit("many: needs root, for a user of its own per guest")
    folder = tempfile.mkdtemp(prefix="vmhost-bench-")
    os.chmod(folder, 0o755)
    runs = []
    try:
        for _ in range(bench.runs):
            runs.append(once(bench, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for key, name, unit, goal, met in (
            ("start", f"start {GUESTS} guests", "s", "", None),
            ("list", f"vmctl status of {GUESTS}", "ms", "<= 100 ms", lambda ours, _: ours <= 100),
            ("services", "parent and control together", "MiB", "<= 20 MiB",
             lambda ours, _: ours <= 20),
            ("vm", "each VM process, guest memory included", "MiB", "", None),
            ("stop", f"stop {GUESTS} guests", "s", "", None)):
        yield bench.Row(name, unit, [run[key] for run in runs], [], "", goal, met)
