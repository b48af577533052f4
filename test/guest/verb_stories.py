"""Stories of end-to-end about vmctl's verbs: top, events, log, reset, stop of all; and about
starting in waves. Each gets a Host."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time

LIMIT_S = 60.0
NEEDS_KVM = {"top", "top_on_a_terminal", "events", "log", "log_rotates", "reset", "stop_all",
             "stop_all_in_vain", "wave_of_answers", "slow_start", "usage"}
SWITCH = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def machine(host, name, guest="idle", more=""):
    return f'[vm.{name}]\nmemory = "16M"\nboot = "{host.guest(guest)}"\n{more}'


def wait_for(condition, what):
    end = time.monotonic() + LIMIT_S
    while not (result := condition()):
        check(time.monotonic() < end, f"waited for {what}")
        time.sleep(0.05)
    return result


def events(host, *words):
    """What has happened, as (vm, kind)."""
    lines = host.ctl("events", "--json", *words).stdout.splitlines()
    return [(event["vm"], event["kind"]) for event in map(json.loads, lines)]


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, argv):
        self.text = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], argv)

    def read_until(self, pattern):
        end = time.monotonic() + LIMIT_S
        os.set_blocking(self.fd, False)
        while not re.search(pattern, self.text):
            check(time.monotonic() < end, f"no {pattern!r} in {self.text!r}")
            try:
                self.text += os.read(self.fd, 4096)
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # the other side is gone
                check(re.search(pattern, self.text), f"no {pattern!r} in {self.text!r}")

    def type(self, keys):
        os.write(self.fd, keys)

    def end(self):
        os.set_blocking(self.fd, True)
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 4096):
                self.text += data
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_top(host):
    """Rates of a guest that works on its disk, of one that sleeps, and of one that is not there."""
    host.run(machine(host, "busy", "endure", 'disk = [{ path = "a.img", size = "1M" }]\n')
             + machine(host, "idle") + machine(host, "off", more="enable = false\n"))
    host.console("busy", "round 2")
    done = host.ctl("top", "-d", "1", "-n", "2", "--json")
    times = [json.loads(line) for line in done.stdout.splitlines()]
    check(len(times) == 2, f"intervals: {done.stdout}")
    for one in times:
        check(one["interval_s"] > 0.5, f"interval: {one}")
        vms = {vm["name"]: vm for vm in one["vms"]}
        busy, off = vms["busy"], vms["off"]
        check(busy["exits_per_s"] > 10 and busy["cpu_pct"] > 0, f"busy: {busy}")
        check(busy["memory_bytes"] > 1 << 20, f"busy: {busy}")
        # A round is two requests of a sector and a flush.
        check(busy["disk_operations_per_s"] > 0 and busy["disk_read_bytes_per_s"] > 0
              # Of the last round one of the two may be counted.
              and abs(busy["disk_written_bytes_per_s"] - busy["disk_read_bytes_per_s"])
              * one["interval_s"] <= 1024, f"busy: {busy}")
        check(vms["idle"]["disk_operations_per_s"] == 0 and vms["idle"]["state"] == "running",
              f"idle: {vms['idle']}")
        check(off["state"] == "stopped" and off["cpu_pct"] == 0, f"off: {off}")
    text = host.ctl("top", "-d", "0.2", "-n", "3").stdout
    check(text.count("3 VMs, 2 run") == 3 and text.count("NAME") == 3, text)
    check("\033" not in text, "escapes without a terminal")
    row = host.row("busy")
    check(row["disks"][0]["flushes"] > 0 and row["disks"][0]["failed"] == 0, f"{row['disks']}")
    check(row["interfaces"] == [] and row["cpu_us"] > 0, f"row: {row}")
    # A reboot does not take counters back.
    for wrong in (["-d", "0"], ["-n", "0"], ["-d", "x"], ["busy"]):
        host.ctl("top", *wrong, status=1)


def test_top_on_a_terminal(host):
    """Keys, and a terminal that is as before."""
    host.run(machine(host, "a") + machine(host, "b"))
    top = Terminal([host.vmctl, "-s", host.socket, "top", "-d", "0.2"])
    top.read_until(rb"\x1b\[\?1049h")
    top.read_until(rb"by CPU.*\r\n.*NAME")
    for key, order in ((b"m", b"memory"), (b"d", b"disk"), (b"n", b"network"), (b"N", b"name"),
                       (b"c", b"CPU")):
        top.text = b""
        top.type(key)
        top.read_until(rb"by " + order + b";")
    top.type(b"q")
    check(top.end() == 0, "exit status")
    check(top.text.endswith(b"\x1b[?25h\x1b[?1049l"), top.text[-80:])
    top = Terminal([host.vmctl, "-s", host.socket, "top"])
    top.read_until(rb"by CPU")
    top.type(b"\x03")
    check(top.end() == 0 and top.text.endswith(b"\x1b[?1049l"), f"^C: {top.text[-80:]}")


def test_events(host):
    """What happened, in order; those who follow; an owner sees his own."""
    host.run(machine(host, "a", "reset") + machine(host, "b", more='enable = false\nowner = "1"\n'))
    wait_for(lambda: ("a", "crashed") in events(host), "the guest that reboots too quickly")
    seen = events(host, "a")
    check([kind for _, kind in seen][:2] == ["started", "rebooted"], f"events of a: {seen}")
    check(("", "up") in events(host), f"events: {events(host)}")
    follower = subprocess.Popen([host.vmctl, "-s", host.socket, "events", "-f", "--json", "b"],
                                stdout=subprocess.PIPE, text=True)
    gone = subprocess.Popen([host.vmctl, "-s", host.socket, "events", "-f"],
                            stdout=subprocess.PIPE, text=True)
    gone.stdout.readline()  # it is connected
    gone.kill()
    gone.communicate()
    host.ctl("start", "b")
    first = json.loads(follower.stdout.readline())
    check((first["vm"], first["kind"]) == ("b", "started"), f"first: {first}")
    check(abs(first["time_us"] / 1e6 - time.time()) < 60 and "id 2" in first["text"], f"{first}")
    host.ctl("pause", "b")
    host.ctl("unpause", "2")
    host.ctl("stop", "-fw", "b")
    kinds = [json.loads(follower.stdout.readline())["kind"] for _ in range(4)]
    check(kinds == ["paused", "unpaused", "stopping", "stopped"], f"followed: {kinds}")
    follower.kill()
    follower.communicate()
    os.chmod(host.socket, 0o666)

    def by(user, *words):
        return subprocess.run([host.vmctl, "-s", host.socket, "events", "--json", *words],
                              user=user, group=user, extra_groups=(), capture_output=True, text=True)
    own = [json.loads(line)["vm"] for line in by(1).stdout.splitlines()]
    check(own and set(own) == {"b"}, f"the owner sees {own}")
    check(by(2).stdout == "", "a stranger sees something")
    denied = by(1, "a")
    check(denied.returncode == 1 and "owner" in denied.stderr, denied.stderr)
    line = host.ctl("events", "b").stdout.splitlines()[0]
    check(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d b +started: id 2, pid \d+", line), line)
    host.ctl("log", "VERBOSE")
    host.ctl("log", "brief")
    host.ctl("log", "b", status=1)
    check(by(1).returncode == 0, "the daemon is well")


def test_log(host):
    """What a guest said: kept in a file, or while it runs; and what comes."""
    host.run(machine(host, "a", "clock", "console_log = true\n") + machine(host, "b", "clock")
             + machine(host, "c", more="enable = false\n"))
    for name in ("a", "b"):
        host.console(name, "tick")
        wait_for(lambda name=name: "tick" in host.ctl("log", name).stdout, "the log")
        follower = subprocess.Popen([host.vmctl, "-s", host.socket, "log", "-f", name],
                                    stdout=subprocess.PIPE, text=True)
        ticks = [int(re.match(r"tick (\d+)", follower.stdout.readline()).group(1))
                 for _ in range(12)]
        check(ticks == sorted(set(ticks)), f"ticks of {name}: {ticks}")
        if name == "b":
            host.ctl("stop", "-fw", "b")
            follower.communicate(timeout=LIMIT_S)
            check(follower.returncode == 0, "the end of a console without a log")
            break
        # A log goes on over the end of the VM.
        host.ctl("stop", "-fw", "a")
        host.ctl("start", "a")
        wait_for(lambda: int(re.match(r"(?:tick )?(\d+)|", follower.stdout.readline()).group(1) or
                             99) < ticks[0] + 3, "the next run in the log")
        follower.kill()
        follower.communicate()
    host.ctl("stop", "-fw", "a")
    check(host.ctl("log", "a").stdout.count("tick ") > 10, "the log of a VM that has ended")
    for name in ("b", "c"):
        refused = host.ctl("log", name, status=1).stderr
        check("no console log is kept" in refused and "not running" in refused, refused)
    check("not found" in host.ctl("log", "nobody", status=1).stderr, "the log of nobody")
    terminal = Terminal([host.vmctl, "-s", host.socket, "log", "a"])
    check(terminal.end() == 0 and b"\r\ntick" in terminal.text, terminal.text[:200])


def test_log_rotates(host):
    """Who follows loses nothing when the file is full and another takes its name."""
    os.mkdir(host.path("console"))
    with open(host.path("console/a.log"), "w") as log:
        log.write("x" * ((1 << 20) - 2000) + "\n")
    host.run(machine(host, "a", "bench_flood",
                     'enable = false\nconsole_log = { size = "1M", count = 3 }\n'))
    follower = subprocess.Popen([host.vmctl, "-s", host.socket, "log", "-f", "a"],
                                stdout=subprocess.PIPE, text=True)
    text = follower.stdout.readline()  # the old lines
    check(text.count("x") == (1 << 20) - 2000, f"{len(text)} bytes of what was there before")
    host.ctl("start", "a")
    while "END flood" not in text:
        text += follower.stdout.readline()
    follower.kill()
    follower.communicate()
    check(sorted(os.listdir(host.path("console"))) == ["a.log", "a.log.1"], "no other file began")
    check(text.count(".") >= 29000 and "FLOOD" in text, f"{text.count('.')} dots were followed")
    whole = host.ctl("log", "a").stdout
    check(whole.count(".") == text.count(".") and whole.startswith("xx"), "files, oldest first")


def test_reset(host):
    """What is forgotten ends, and comes back with the file."""
    host.run(SWITCH + machine(host, "a", more='interface = [{ switch = "lan" }]\n')
             + machine(host, "b"))
    names = lambda: {row["name"]: row for row in  # noqa: E731
                     json.loads(host.ctl("status", "--json").stdout)}
    pid = names()["a"]["pid"]
    host.ctl("reset", "switches")
    check("br-lan" not in os.listdir("/sys/class/net"), "the bridge is still there")
    check(names()["a"]["pid"] == pid, "a guest did not survive its switch")
    plan = subprocess.run([host.binary, "plan", "-f", host.path("vmhost.toml")],
                          capture_output=True, text=True).stdout
    check("+ switch lan" in plan and "made anew" in plan, plan)
    host.ctl("reload")
    check("br-lan" in os.listdir("/sys/class/net"), "the bridge did not come back")
    check(names()["a"]["pid"] == pid, "reload took a guest down")
    host.ctl("reset", "VMS")
    check(names() == {} and len(host.processes()) == 3, f"after reset vms: {names()}")
    check("br-lan" in os.listdir("/sys/class/net"), "reset vms took a switch")
    check(host.ctl("status", status=1).stdout.split()[-1] == "NAME", "the head of an empty list")
    host.ctl("reload")
    check({row["state"] for row in names().values()} == {"running"}, f"after reload: {names()}")
    # One that is not in the file goes as well.
    host.ctl("start", "-b", host.guest("idle"), "-m", "16M", "new")
    host.ctl("reset")
    check(names() == {} and "br-lan" not in os.listdir("/sys/class/net"), f"after reset: {names()}")
    host.ctl("reload")
    check(set(names()) == {"a", "b"}, f"after the last reload: {names()}")
    kinds = [kind for vm, kind in events(host) if vm == ""]
    check(kinds.count("reset") == 3 and kinds[-1] == "changed", f"events: {kinds}")
    host.ctl("reset", "everything", status=1)


def test_stop_all(host):
    """All are asked before the first has ended, and each end is told when it comes."""
    host.run("".join(machine(host, name, "stop", 'command_line = "v"\n') for name in "abc")
             + machine(host, "d", more="enable = false\n"))
    for name in "abc":
        host.console(name, "listening")
    done = host.ctl("stop", "-a", "-w")
    lines = done.stderr.splitlines()
    check(sorted(lines) == [f"stopping vm {name}: terminated vm {number}"
                            for number, name in enumerate("abc", 1)], done.stderr)
    kinds = [kind for vm, kind in events(host) if vm]
    check(kinds.index("stopped") > len(kinds) - 4 and kinds.count("stopping") == 3, f"{kinds}")
    check(host.ctl("stop", "-aw").stderr == "", "nothing is left to be stopped")
    # On a terminal what is left is counted.
    for name in "ab":
        host.ctl("start", name)
        host.console(name, "listening")
    terminal = Terminal([host.vmctl, "-s", host.socket, "stop", "-aw"])
    check(terminal.end() == 0, terminal.text)
    check(b"2 left" in terminal.text and b"1 left" in terminal.text, terminal.text)
    check(terminal.text.count(b"terminated vm") == 2, terminal.text)
    host.ctl("start", "a")
    done = host.ctl("stop", "-a", "-f")
    check(done.stderr == "stopping vm a: requested to shutdown vm 1\n", done.stderr)
    host.stopped("a")


def test_stop_all_in_vain(host):
    """One that does not end holds up no other; one that was asked before is waited for."""
    slow = 'command_line = "s"\nstop_timeout = "3s"\n'
    host.run(machine(host, "a", "stop", slow) + machine(host, "b", "stop", 'command_line = "v"\n'))
    for name in "ab":
        host.console(name, "listening")
    host.ctl("stop", "a")
    done = host.ctl("stop", "-aw")
    check(done.stderr == "stopping vm b: terminated vm 2\nstopping vm a: terminated vm 1\n",
          done.stderr)


def test_wave_of_answers(host):
    """delay = "boot": the next is started when the last has its driver or lease, or is late."""
    host.run('[host.start]\nparallel = 1\ndelay = "boot"\n'
             + machine(host, "a", "stop", 'command_line = "v"\n')
             + machine(host, "b", "idle", 'start_timeout = "1s"\n')
             + machine(host, "c", "hello") + machine(host, "d"), "--debug-exit")
    seen = events(host)
    order = [("a", "started"), ("a", "answered"), ("b", "started"), ("b", "no answer"),
             ("c", "started"), ("d", "started"), ("", "up")]
    check([seen.index(one) for one in order] == sorted(seen.index(one) for one in order), f"{seen}")
    check(("d", "answered") not in seen, "the last one was waited for")


def test_slow_start(host):
    """A process that says nothing while it starts does not hold up those behind it."""
    host.host_keys = 'answer_timeout = "1s"\nstart = { parallel = 1 }\n'
    text = machine(host, "a") + machine(host, "b")

    def process_of_a():
        for pid in host.processes():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"vm/a" in file.read():
                    return pid
        return None

    # It is stopped as soon as it is there; when it was up before that, the host is tried again.
    for _ in range(20):
        host.run(text, wait=False)
        end = time.monotonic() + LIMIT_S
        while not (pid := process_of_a()):
            check(time.monotonic() < end, "no process of a")
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: "up: " in host.logged(), "the host to be up")
        if host.row("a")["state"] != "running":
            break
        os.kill(pid, signal.SIGKILL)
        host.end()
    else:
        check(False, "it was always up at once")
    check(host.row("b")["state"] == "running", "b waits")
    check(("a", "slow start") in events(host), f"{events(host)}")
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: host.row("a")["state"] == "running", "a to come up")


def test_usage(host):
    """Words that are cut, words that are wrong, and where complaints go."""
    host.run(machine(host, "a", more="enable = false\n"))

    def refused(*words, says):
        done = host.ctl(*words, status=1)
        check(says in done.stderr and not done.stdout, f"{words}: {done}")
    refused("sta", says="ambiguous argument: sta")
    refused("lo", says="ambiguous argument: lo")
    refused("re", says="ambiguous argument: re")
    refused("fly", says="unknown argument: fly")
    refused(says="usage:\tvmctl")
    refused("stop", says="missing id")
    refused("stop", "-x", "a", says="usage:\tvmctl stop [-fw] [id | -a]\n")
    refused("start", says="usage:\tvmctl start ")
    refused("status", "-q", says="usage:\tvmctl status ")
    refused("wait", "a", says="waiting for vm a: vm a is not running")
    refused("stop", "a", says="stopping vm a: failed: vm a is not running")
    refused("stop", "zz", says="stopping vm zz: vm not found")
    refused("stop", "77", says="stopping vm: vm not found")
    refused("pause", "a", says="vmctl: pause vm command failed: vm a is not running")
    refused("unpause", "a", says="vmctl: unpause vm command failed: vm a is not paused")
    refused("console", "a", says="console not found")
    refused("start", "-B", "floppy", "a", says="floppy")
    check(host.ctl("status", "-r", status=1).stdout.endswith("NAME\n"), "status -r of nothing")
    check(host.ctl("status", "zz", status=1).stdout.endswith("NAME\n"), "status of nobody")
    check(host.ctl("show").stdout == host.ctl("stat").stdout, "show is status")
    gone = subprocess.run([host.vmctl, "-s", host.path("no"), "status"], capture_output=True,
                          text=True)
    check(gone.returncode == 1 and gone.stderr ==
          f"vmctl: connect: {host.path('no')}: No such file or directory\n", gone.stderr)
