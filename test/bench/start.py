"""From the command to the guest's first instruction.

The guest's first act is one byte on its serial line. Ours: `vmctl start -c`
of a VM on a running host, from the start of vmctl to that byte on its standard
output; so it holds the client, the parent, a new process, the machine, and the
way back through the console. The peer: `qemu-system-x86_64 -M microvm -accel
kvm` with the same ELF file, from the start of the program to the byte.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time

summary = "command to first guest instruction, against QEMU's microvm"

GUEST = "hello"
LIMIT_S = 60


def first_byte(command):
    """Milliseconds from the start of the command to its first byte of output."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    try:
        byte = os.read(process.stdout.fileno(), 1)
        took_ms = (time.monotonic() - begin) * 1000
        if not byte:
            raise SystemExit(f"start: {command[0]} ended without a byte from the guest")
        return took_ms
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def measure(bench):
    qemu = shutil.which("qemu-system-x86_64")
    if not qemu or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise SystemExit("start: needs qemu-system-x86_64 and /dev/kvm")
    guest = os.path.join(bench.guests, GUEST + ".elf")
    folder = tempfile.mkdtemp(prefix="vmhost-bench-")
    os.chmod(folder, 0o755)
    socket, file, vmctl = (os.path.join(folder, name) for name in ("sock", "toml", "vmctl"))
    os.symlink(bench.binary, vmctl)
    with open(file, "w") as out:
        out.write(f'[host]\nuser = "nobody"\nstate = "{folder}"\n[control]\nsocket = "{socket}"\n'
                  f'[vm.a]\nenable = false\nmemory = "64M"\nboot = "{guest}"\n')
    daemon = subprocess.Popen([bench.binary, "run", "-f", file, "--log", "error"],
                              stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + LIMIT_S
        while not os.path.exists(socket):
            if daemon.poll() is not None or time.monotonic() > end:
                raise SystemExit("start: vmhost did not come up")
            time.sleep(0.01)

        def ours():
            took_ms = first_byte([vmctl, "-s", socket, "start", "-c", "a"])
            subprocess.run([vmctl, "-s", socket, "stop", "-w", "a"], capture_output=True)
            return took_ms

        def peer():
            return first_byte([qemu, "-M", "microvm,isa-serial=on,pit=on,pic=on", "-accel", "kvm",
                               "-m", "64", "-nodefaults", "-no-user-config", "-display", "none",
                               "-serial", "stdio", "-kernel", guest])

        ours_ms, peer_ms = bench.interleave(ours, peer)
        yield bench.Row("command to first guest instruction", "ms", ours_ms, peer_ms,
                        "qemu microvm", "ahead of the peer",
                        lambda mine, other: mine < other)
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)
