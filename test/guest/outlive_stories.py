"""Stories of end-to-end about guests that outlive their daemon, and the daemon that takes them over.
Each gets a Host."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

LIMIT_S = 60.0
NEEDS_KVM = {"outlive_kill", "outlive_links", "outlive_choices", "outlive_file", "outlive_instance",
             "upgrade"}
LAN = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not (result := condition()):
        check(time.monotonic() < end, f"waited for {what}")
        time.sleep(0.02)
    return result


def machine(host, name, guest="idle", more="", memory="16M"):
    return f'[vm.{name}]\nmemory = "{memory}"\nboot = "{host.guest(guest)}"\n{more}'


def kill(host):
    host.process.send_signal(signal.SIGKILL)
    host.process.wait()


def again(host, text):
    """The daemon is killed, and another one comes."""
    kill(host)
    host.run(text)


def rows(host):
    return {row["name"]: row for row in json.loads(host.ctl("status", "--json").stdout)}


def pids(host):
    return {name: row["pid"] for name, row in rows(host).items() if row["pid"]}


def taps():
    """Name -> index and bridge, of the taps that are there."""
    found = {}
    for name in os.listdir("/sys/class/net"):
        if os.path.exists(f"/sys/class/net/{name}/tun_flags"):
            with open(f"/sys/class/net/{name}/ifindex") as file:
                bridge = os.path.realpath(f"/sys/class/net/{name}/master")
                found[name] = (int(file.read()), os.path.basename(bridge))
    return found


def rounds_of(text):
    return [int(number) for number in re.findall(r"round (\d+) tick \d+\r?\n", text)]


def test_outlive_kill(host):
    """kill -9 of the daemon: guests, consoles, disks and their log go on as if nothing had been."""
    with open(host.path("a.img"), "wb") as image:
        image.truncate(1 << 20)
    text = (machine(host, "a", "endure", 'disk = [{ path = "a.img" }]\nconsole_log = true\n')
            + machine(host, "b", "timer", 'owner = "nobody"\n'))
    host.run(text)
    host.console("a", r"round 3 tick")
    host.ctl("pause", "b")
    before = rows(host)
    watching = subprocess.Popen([host.vmctl, "-s", host.socket, "console", "a"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    os.set_blocking(watching.stdout.fileno(), False)
    heard = []

    def hears(count):
        data = watching.stdout.read()
        heard.append((data or b"").decode(errors="replace"))
        return len(rounds_of("".join(heard))) >= count

    wait_until(lambda: hears(2), "the console to say something")
    kill(host)
    so_far = len(rounds_of("".join(heard)))
    wait_until(lambda: hears(so_far + 5), "the console to go on without a daemon")
    roles = wait_until(lambda: (lambda now: now if len(now) == 2 else None)(
        [pid for pid in host.processes() if pid != watching.pid]), "the services to end")
    check(sorted(roles) == sorted(row["pid"] for row in before.values()), "other processes")
    host.run(text)
    after = rows(host)
    for name in ("a", "b"):
        for key in ("pid", "id", "state", "owner", "reboots", "max_memory_bytes"):
            check(after[name][key] == before[name][key],
                  f"{name}: {key} was {before[name][key]}, is {after[name][key]}")
    check(after["a"]["counters"]["port_exits"] > before["a"]["counters"]["port_exits"], "counters")
    so_far = len(rounds_of("".join(heard)))
    wait_until(lambda: hears(so_far + 3), "the console to go on with the next daemon")
    watching.kill()
    watching.communicate()
    host.console("a", r"round \d+ tick")  # another client
    # In the log of the console no line is missing, whoever wrote it.
    with open(host.path("console/a.log")) as log:
        numbers = rounds_of(log.read())
    check(numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"gaps: {numbers}")
    check(host.ctl("start", "a", status=1).stderr.strip(), "a running guest was started")
    host.ctl("unpause", "b")
    host.ctl("stop", "-fw", "b")
    check(rows(host)["b"]["state"] == "stopped", "b runs")
    host.ctl("start", "b")
    again(host, text)
    check(set(pids(host)) == {"a", "b"}, "a second time")
    # Its end is noticed, although it is no child of this daemon's.
    os.kill(pids(host)["a"], signal.SIGKILL)
    wait_until(lambda: rows(host)["a"]["state"] == "stopped", "the end to be noticed")
    check("its process ended" in rows(host)["a"]["note"], rows(host)["a"]["note"])


def test_outlive_links(host):
    """Taps stay with their guest and its bridge, and go with it; the lease stays."""
    plug = 'interface = [{ switch = "lan" }]\n'
    # With every service: the next daemon finds their ports free.
    text = (LAN + f'ipv6 = "2001:db8:98::1/64"\n[tftp]\ndirectory = "{host.folder}"\n'
            + machine(host, "a", more=plug) + machine(host, "b", more=plug))
    host.run(text)
    before = taps()
    check(set(before) == {"a-if0", "b-if0"} and before["a-if0"][1] == "br-lan", f"{before}")
    again(host, text)
    check(taps() == before, f"{before} became {taps()}")
    host.ctl("stop", "-fw", "a")
    check(set(taps()) == {"b-if0"}, "the tap of a guest that is gone")
    host.ctl("start", "a")
    check(taps()["b-if0"] == before["b-if0"], "b was touched")
    # The end of one without a daemon leaves nothing.
    kill(host)
    os.kill(host.processes()[0], signal.SIGKILL)
    host.run(text)
    check(set(pids(host)) == {"a", "b"}, "the one that ended is started again")


def test_outlive_choices(host):
    """What was stopped by hand stays so for the next daemon; an orderly end forgets it."""
    text = "".join(machine(host, name) for name in ("a", "b")) + machine(host, "c") + "enable = false\n"
    host.run(text)
    host.ctl("stop", "-fw", "b")
    host.ctl("start", "c")
    again(host, text)
    check(set(pids(host)) == {"a", "c"}, f"{pids(host)}")
    check(sorted(os.listdir(host.path("run"))) ==
          ["a.json", "a.sock", "b.json", "c.json", "c.sock", "model.toml"],
          f"{os.listdir(host.path('run'))}")
    check(host.end() == 0, "exit status")
    check(os.listdir(host.path("run")) == [], f"left: {os.listdir(host.path('run'))}")
    host.run(text)
    check(set(pids(host)) == {"a", "b"}, f"{pids(host)}")
    # Records of another boot, and of processes that are others by now, mean nothing.
    kill(host)
    with open(host.path("run/a.json")) as file:
        record = json.load(file)
    for key, value in (("boot", "another"), ("start_ticks", 1)):
        stranger = dict(record, **{key: value, "pid": os.getpid()})
        with open(host.path("run/x.json"), "w") as file:
            json.dump(stranger, file)
        host.run(text)
        check(set(pids(host)) == {"a", "b"}, f"{pids(host)}")
        check(not os.path.exists(host.path("run/x.json")), "a record of nobody")
        kill(host)
    for spoilt in ("", "{", "[]", '{"format": 1}', "\0" * 100):
        with open(host.path("run/x.json"), "w") as file:
            file.write(spoilt)
        host.run(text)
        check(set(pids(host)) == {"a", "b"}, f"{pids(host)}")
        kill(host)
    host.run(text)


def test_outlive_file(host):
    """A file that changed meanwhile waits for the next plan; no guest is lost, and two of a name
    are none."""
    text = "".join(machine(host, name) for name in ("a", "b", "d"))
    host.run(text)
    before = pids(host)
    changed = machine(host, "a", memory="24M") + machine(host, "b") + machine(host, "c")
    again(host, changed)
    check(pids(host) == before, f"{before} became {pids(host)}")
    plan = subprocess.run([host.binary, "plan", "-f", host.path("vmhost.toml")],
                          capture_output=True, text=True, timeout=LIMIT_S).stdout
    for line in (r'^~ vm a: memory "16M" -> "24M" \(restart\)', r"^\+ vm c: added \(start\)",
                 r"^- vm d: removed \(stop\)"):
        check(re.search(line, plan, re.M), f"no {line!r} in the plan:\n{plan}")
    done = subprocess.run([host.binary, "apply", "-y", "-f", host.path("vmhost.toml")],
                          capture_output=True, text=True, timeout=LIMIT_S)
    check(done.returncode == 0, done.stderr)
    after = pids(host)
    check(set(after) == {"a", "b", "c"} and after["b"] == before["b"], f"{after}")
    # Killed in the middle of an apply, until one comes through.
    for delay_s in (0.0, 0.02, 0.05, 0.1, 0.2):
        text = (machine(host, "a", memory="32M" if delay_s in (0.02, 0.1) else "40M") +
                machine(host, "b") + machine(host, f"n{int(delay_s * 100)}"))
        host.write(text)
        asking = subprocess.Popen([host.binary, "apply", "-y", "-f", host.path("vmhost.toml")],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay_s)
        again(host, text)
        asking.wait(LIMIT_S)
        check(pids(host).get("b") == before["b"], "b was lost")
        done = subprocess.run([host.binary, "apply", "-y", "-f", host.path("vmhost.toml")],
                              capture_output=True, text=True, timeout=LIMIT_S)
        check(done.returncode == 0, done.stderr)
        now = rows(host)
        check(set(now) == {"a", "b", f"n{int(delay_s * 100)}"} and len(pids(host)) == 3, f"{now}")
        check(len(host.processes()) == 2 + 3, f"{len(host.processes())} processes")
    # Without the configuration of before they are those of the file, or of nobody.
    kill(host)
    os.unlink(host.path("run/model.toml"))
    host.run(machine(host, "b"))
    now = rows(host)
    check(len(pids(host)) == 3 and now["b"]["pid"] == before["b"], f"{now}")
    host.ctl("stop", "-fw", "a")
    wait_until(lambda: "a" not in rows(host), "a VM of no file to go")


def test_outlive_instance(host):
    """An instance stays what it is: its owner's, with its addresses, gone when it ends."""
    text = (LAN + machine(host, "t", more='enable = false\ninterface = [{ switch = "lan" }]\n'
                                          '[vm.t.allow_instance]\nowner = "nobody"\n'))
    host.run(text)
    host.ctl("start", "-t", "t", "i", "-L")
    before = rows(host)["i"]
    again(host, text)
    after = rows(host)["i"]
    for key in ("pid", "id", "owner", "state"):
        check(before[key] == after[key], f"{key}: {before} became {after}")
    again(host, text)
    host.ctl("stop", "-fw", "i")
    wait_until(lambda: "i" not in rows(host), "the instance to go")
    check(taps() == {}, f"{taps()}")


def test_upgrade(host):
    """Another program in the daemon's place: the same process and guests, and no other word."""
    binary = host.path("vmhost")
    shutil.copy(host.binary, binary)
    host.binary = binary
    os.unlink(host.vmctl)
    os.symlink(binary, host.vmctl)
    text = machine(host, "a", "timer") + machine(host, "b")
    host.run(text)
    try:
        upgrade(host, binary)
    finally:
        host.end()


def upgrade(host, binary):
    def ask(status=0):
        done = subprocess.run([binary, "upgrade", "-f", host.path("vmhost.toml")],
                              capture_output=True, text=True, timeout=LIMIT_S)
        check(done.returncode == status, f"{done.stdout}{done.stderr}\n{host.logged()}")
        return done.stdout + done.stderr

    def program():
        return os.stat(f"/proc/{host.process.pid}/exe").st_ino

    before, first = pids(host), program()
    for _ in range(2):
        shutil.copy(binary, binary + ".new")
        os.rename(binary + ".new", binary)
        check("upgraded; 2 of 2 guests run" in ask(), "what it says")
        check(program() == os.stat(binary).st_ino != first, "the program that runs")
        check(pids(host) == before, f"{before} became {pids(host)}")
        host.console("a", r"\w")
    # Ends of children are noticed by the program that did not start them; nothing stays behind.
    host.ctl("stop", "-fw", "b")
    children = subprocess.run(["ps", "-o", "stat=", "--ppid", str(host.process.pid)],
                              capture_output=True, text=True).stdout.split()
    check(len(children) == 2 and not any(state.startswith("Z") for state in children), f"{children}")
    # One that is not fit changes nothing.
    keep = binary + ".keep"
    os.rename(binary, keep)
    shutil.copy("/bin/false", binary)
    done = subprocess.run([keep, "upgrade", "-f", host.path("vmhost.toml")], capture_output=True,
                          text=True, timeout=LIMIT_S)
    check(done.returncode == 1 and "nothing was changed" in done.stderr, done.stderr)
    os.rename(keep, binary)
    check(pids(host) == {"a": before["a"]}, "a refused upgrade")
