"""Stories of end-to-end about snapshots. Each gets a Host."""

import hashlib
import json
import os
import re
import signal
import subprocess
import time

from state_stories import LIMIT_S, check, last_round


def machine(host, more="", disk="a.img"):
    """A guest that notices when its disk is not as it left it: see endure.c."""
    with open(host.path("tools.raw"), "wb") as tools:
        tools.truncate(1 << 20)
    return (f'[vm.a]\nmemory = "16M"\nboot = "{host.guest("endure")}"\nenable = false\n'
            f'disk = [{{ path = "{disk}", size = "1M" }}, {{ path = "b.qcow2", size = "2M" }},\n'
            f'        {{ path = "tools.raw", read_only = true }}]\n{more}')


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def files(host):
    return sorted(os.listdir(host.path("snapshots/a")))


def rounds(host, more):
    """The guest's output, some rounds from now on."""
    before = last_round(host.console("a", r"round \d+ tick \d+\r\n"))
    text = host.console("a", rf"round {before[0] + more} tick \d+\r\n|FAIL.*\n", limit_s=120)
    check("FAIL" not in text, text[-500:])
    return text


def listed(host):
    """Names of the snapshots, in order."""
    return re.findall(r"^\d{4}-\S+ \S+ +\S+ (\S+)$", host.ctl("snapshot", "a").stdout, re.M)


def go_back(host, name):
    host.ctl("start", "-S", name, "a")
    text = rounds(host, 10)
    check("round 1 tick" not in text, "it began anew")
    return text


def test_snapshot(host):
    """Made while the guest writes; gone back to from later, more than once; removed."""
    host.run(machine(host), "--debug-exit")
    done = host.ctl("snapshot", "a", "one", status=1)
    check("vm a is not running" in done.stderr, done.stderr)
    check(listed(host) == [] and not os.path.exists(host.path("snapshots")), "snapshots of nothing")
    host.ctl("start", "a")
    text = host.console("a", r"round 9 tick \d+\r\n")
    check(host.ctl("snapshot", "a", "one").stderr == "vmctl: made snapshot one of vm 1\n", "words")
    frozen = [digest(host.path(name)) for name in ("a.img", "b.qcow2")]
    check(files(host) == ["1.qcow2", "2.qcow2", "one.state", "record.json"], files(host))
    done = host.ctl("snapshot", "a", "one", status=1)
    check("vm a: it has a snapshot one already" in done.stderr, done.stderr)
    # So far that every sector that the guest keeps is another one; reboots stay on the overlay.
    rounds(host, 70)
    check([digest(host.path(name)) for name in ("a.img", "b.qcow2")] == frozen,
          "what a snapshot has was written to")
    host.ctl("pause", "a")
    host.ctl("snapshot", "a", "two")
    check(host.row("a")["state"] == "paused", "a paused guest stays so")
    host.ctl("unpause", "a")
    rounds(host, 3)
    check(listed(host) == ["one", "two"], host.ctl("snapshot", "a").stdout)
    done = host.ctl("start", "-S", "one", "a", status=1)
    check("already running" in done.stderr, done.stderr)
    host.ctl("stop", "-fw", "a")

    go_back(host, "one")
    check(files(host) == ["1.qcow2", "2.qcow2", "5.qcow2", "6.qcow2", "one.state", "record.json",
                          "two.state"], files(host))
    host.ctl("stop", "-fw", "a")
    text = go_back(host, "two")
    check(last_round(text)[0] > 79, text[-200:])
    host.ctl("stop", "-fw", "a")
    text = go_back(host, "one")
    check(last_round(text)[0] < 40, text[-200:])
    host.console("a", r"endure: ok", stdin="q")
    host.stopped("a")
    done = host.ctl("start", "-S", "three", "a", status=1)
    check("vm a: it has no snapshot three" in done.stderr, done.stderr)

    # The disks are a chain that a plain start, another daemon and vmctl create know.
    host.end()
    host.run(machine(host), "--debug-exit")
    check(listed(host) == ["one", "two"], "the record after a restart")
    host.ctl("snapshot", "-d", "a", "two")
    check("two.state" not in files(host) and "3.qcow2" not in files(host), files(host))
    host.ctl("start", "a")
    rounds(host, 10)
    host.ctl("snapshot", "-d", "a", "one")
    check(listed(host) == [], "a removed snapshot")
    host.ctl("stop", "-fw", "a")
    check(len(files(host)) == 3, files(host))
    for name in files(host)[:2]:
        path = host.path("snapshots/a/" + name)
        done = subprocess.run([host.binary, "image", "check", "--json", path], capture_output=True,
                              text=True, timeout=LIMIT_S)
        check(json.loads(done.stdout)["corruptions"] == 0, done.stdout + done.stderr)
    subprocess.run([host.vmctl, "create", "-i", path, host.path("whole.raw")], check=True,
                   capture_output=True, timeout=LIMIT_S)
    check([digest(host.path(name)) for name in ("a.img", "b.qcow2")] == frozen, "the frozen files")


def test_snapshot_refused(host):
    """No space, too many files, other disks: the guest and its disks stay as they are."""
    os.mkdir(host.path("snapshots"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", host.path("snapshots")],
                   check=True)
    host.run(machine(host), "--debug-exit")
    host.ctl("start", "a")
    host.console("a", r"round 3 tick \d+\r\n")
    done = host.ctl("snapshot", "a", "one", status=1)
    check("No space left on device" in done.stderr, done.stderr)
    check(files(host) == [], files(host))
    rounds(host, 3)
    host.ctl("stop", "-fw", "a")
    host.end()
    subprocess.run(["umount", host.path("snapshots")], check=True)

    host.run(machine(host), "--debug-exit")
    host.ctl("start", "a")
    for i in range(7):
        host.ctl("snapshot", "a", f"s{i}")
    done = host.ctl("snapshot", "a", "s7", status=1)
    check(re.search(r"disk \S*a\.img: it consists of 8 files already", done.stderr), done.stderr)
    rounds(host, 3)
    host.ctl("stop", "-fw", "a")
    host.end()

    host.run(machine(host, disk="other.img"), "--debug-exit")
    before = files(host)
    done = host.ctl("start", "-S", "s3", "a", status=1)
    check(re.search(r"snapshot s3: it has a disk \S*/a\.img, the VM has not", done.stderr),
          done.stderr)
    check(files(host) == before, files(host))
    host.end()
    host.run(machine(host).replace('"16M"', '"32M"'), "--debug-exit")
    done = host.ctl("start", "-S", "s3", "a", status=1)
    check("memory: 16.0M in the saved machine, 32.0M here" in done.stderr, done.stderr)
    check(files(host) == before, files(host))
    # A file that is missing is not made anew.
    os.rename(host.path("a.img"), host.path("away"))
    done = host.ctl("start", "a", status=1)
    check("a.img: No such file" in done.stderr, done.stderr)
    os.rename(host.path("away"), host.path("a.img"))
    host.ctl("start", "a")
    rounds(host, 3)


def test_snapshot_cut_off(host):
    """The daemon is killed while a snapshot is made: it is there and whole, or not there."""
    made = []
    for delay_s in (0.0, 0.01, 0.03, 0.08, 0.2):
        host.run(machine(host), "--debug-exit")
        check(listed(host)[:len(made)] == made, "a snapshot is lost")
        made = listed(host)
        if host.row("a")["state"] == "running":  # it outlived the daemon
            rounds(host, 2)
            host.ctl("stop", "-fw", "a")
        if made:
            go_back(host, made[-1])
        else:
            host.ctl("start", "a")
            rounds(host, 10)
        asking = subprocess.Popen([host.vmctl, "-s", host.socket, "snapshot", "a",
                                   f"s{len(made)}"], stderr=subprocess.PIPE, text=True)
        time.sleep(delay_s)
        host.process.send_signal(signal.SIGKILL)
        host.process.wait()
        said = asking.communicate(timeout=LIMIT_S)[1]
        if "made snapshot" in said:
            made.append(f"s{len(made)}")
        time.sleep(1)  # the role processes see that they are alone
    host.run(machine(host), "--debug-exit")
    check(listed(host)[:len(made)] == made, "a snapshot is lost")
    check(made, "no snapshot was made in time")
    rounds(host, 2)
    host.ctl("stop", "-fw", "a")
    for name in listed(host):
        go_back(host, name)
        host.ctl("stop", "-fw", "a")


NEEDS_KVM = {"snapshot", "snapshot_refused", "snapshot_cut_off"}
