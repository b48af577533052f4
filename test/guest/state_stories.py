"""Stories of end-to-end about saved guests. Each gets a Host."""

import os
import re
import subprocess

LIMIT_S = 60.0


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def machine(host, name, more=""):
    return (f'[vm.{name}]\nmemory = "16M"\nboot = "{host.guest("endure")}"\nenable = false\n'
            f'disk = [{{ path = "{name}.img", size = "1M", serial = "e2e-1" }}]\n{more}')


def send(host, vm, path, status=0):
    """vmctl send into a file; what it said."""
    with open(path, "wb") as out:
        done = subprocess.run([host.vmctl, "-s", host.socket, "send", vm], stdout=out,
                              stderr=subprocess.PIPE, text=True, timeout=LIMIT_S)
    check(done.returncode == status, f"send {vm}: exit {done.returncode}: {done.stderr}")
    return done.stderr


def receive(host, vm, path, status=0):
    with open(path, "rb") as state:
        done = subprocess.run([host.vmctl, "-s", host.socket, "receive", vm], stdin=state,
                              capture_output=True, text=True, timeout=LIMIT_S)
    check(done.returncode == status, f"receive {vm}: exit {done.returncode}: {done.stderr}")
    return done.stderr


def last_round(text):
    found = re.findall(r"round (\d+) tick (\d+)\r\n", text)
    return tuple(map(int, found[-1])) if found else (0, 0)


def test_save_and_restore(host):
    """A guest with timer, disk and memory to check goes on from a file, three times."""
    host.run(machine(host, "a"), "--debug-exit")
    host.ctl("start", "a")
    text = host.console("a", r"round 9 tick \d+\r\n")
    path = host.path("a.state")
    for _ in range(3):
        before = last_round(text)
        check(send(host, "a", path) == "vmctl: sent vm 1 successfully\n", "words of send")
        check(host.row("a")["state"] == "stopped", "a VM that was sent still exists")
        check(0 < os.path.getsize(path) < 4 << 20, f"{os.path.getsize(path)} bytes of state")
        check(receive(host, "a", path) == "vmctl: received vm 1 successfully\n", "words")
        text = host.console("a", rf"round {before[0] + 5} tick \d+\r\n")
        check("round 1 tick" not in text, "it began anew")
        now = last_round(text)
        check(now[1] > before[1], f"the timer went from {before} to {now}")
        check("FAIL" not in text, text)
    host.console("a", r"endure: ok after \d+ rounds", stdin="q")
    check("exit code 0" in host.stopped("a")["note"], "the end of the guest")


def test_restore_refused(host):
    """What cannot be honoured is named, nothing is left, and a failed save hurts nobody."""
    host.run(machine(host, "a") + machine(host, "b", "vcpus = 2\n") +
             machine(host, "c").replace('"16M"', '"32M"') +
             machine(host, "d").replace('e2e-1', 'e2e-2') +
             machine(host, "e").replace('"1M"', '"2M"'), "--debug-exit")
    path = host.path("a.state")
    said = send(host, "a", path, status=1)
    check("is not running" in said, said)
    host.ctl("start", "a")
    host.console("a", r"round 2 tick \d+")
    # Nobody reads: the sender is gone, the guest goes on.
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([host.vmctl, "-s", host.socket, "send", "a"], stdout=writing,
                          stderr=subprocess.PIPE, text=True, timeout=LIMIT_S)
    os.close(writing)
    check(done.returncode == 1 and "Broken pipe" in done.stderr, done.stderr)
    before = last_round(host.console("a", r"round \d+ tick \d+\r\n"))
    host.console("a", rf"round {before[0] + 2} tick")
    check(host.row("a")["state"] == "running", "a guest that was not saved must run")
    said = receive(host, "a", "/dev/null", status=1)
    check("already running" in said, said)
    send(host, "a", path)
    for name, text in (("b", "vcpus: 1 in the saved machine, 2 here"),
                       ("c", "memory: 16.0M in the saved machine, 32.0M here"),
                       ("d", "serial number e2e-1 in the saved machine, e2e-2 here"),
                       ("e", "disk 0: 1048576 bytes in the saved machine, 2097152 here")):
        said = receive(host, name, path, status=1)
        check(text in said, said)
        check(host.row(name)["state"] == "stopped", f"{name} is left")
    with open(path, "rb") as state:
        whole = state.read()
    for name, content, text in (("half", whole[:len(whole) // 2], "the state is cut short"),
                                ("other", b"x" * 5000, "not the state of a vmhost machine"),
                                ("flip", whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:],
                                 "damaged")):
        with open(host.path(name), "wb") as out:
            out.write(content)
        said = receive(host, "a", host.path(name), status=1)
        check(text in said, said)
        check(host.row("a")["state"] == "stopped", "something is left")
    receive(host, "a", path)
    host.console("a", r"endure: ok", stdin="q")


NEEDS_KVM = {"save_and_restore", "restore_refused"}
