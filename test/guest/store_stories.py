"""Stories of end-to-end about what is remembered: ids, addresses, who asked for what. Each gets a
Host."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

LIMIT_S = 60.0
NEEDS_KVM = {"remembered_instance", "remembered_adopted", "audit"}
LAN = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/28"\n'  # few addresses: hashes collide


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def machine(host, name, more="enable = false\n", wire="{ switch = \"lan\" }, { local = true }"):
    return (f'[vm.{name}]\nmemory = "16M"\nboot = "{host.guest("idle")}"\n'
            f'interface = [{wire}]\n{more}')


def vmhost(host, command, *words, status=0):
    done = subprocess.run([host.binary, *command.split(), "-f", host.path("vmhost.toml"), *words],
                          capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
    check(done.returncode == status,
          f"vmhost {command} {' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def facts(host, name):
    """What explain says, by what: (value, source, line)."""
    return {fact["what"]: (fact["value"], fact["source"], fact["line"])
            for fact in json.loads(vmhost(host, "explain", "--json", name))}


def identity(host, names):
    """All that must stay: by name, id and addresses."""
    out = {}
    for name in names:
        told = facts(host, name)
        out[name] = [told[what][0] for what in sorted(told)
                     if what in ("id", "uid") or what.endswith(("lladdr", "ipv4"))]
        check(len(out[name]) == 6, f"{name}: {told}")
        check(str(host.row(name)["id"]) == told["id"][0], f"status and explain of {name}")
    return out


def kill(host):
    """The daemon and whatever outlives it; what they leave on the host stays, but for the ports of
    DHCP, which the kernel frees when it comes to that."""
    for pid in host.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    host.process.wait()
    end = time.monotonic() + LIMIT_S
    while host.processes() or ":0043 " in open("/proc/self/net/udp").read():
        check(time.monotonic() < end, "they do not end")
        time.sleep(0.02)


def as_user(host, uid, *words):
    return subprocess.run([host.vmctl, "-s", host.socket, *words], user=uid, group=uid,
                          extra_groups=[], capture_output=True, text=True, timeout=LIMIT_S)


def test_remembered_ids(host):
    """Ids and addresses outlive the daemon, kill -9, another order, and going and coming back."""
    names = [f"vm{i}" for i in range(8)]
    host.run(LAN + "".join(machine(host, name) for name in names))
    before = identity(host, names)
    check(len({tuple(one) for one in before.values()}) == len(names), f"{before}")
    kill(host)
    turned = list(reversed(names))
    host.run(LAN + machine(host, "new") + "".join(machine(host, name) for name in turned))
    check(identity(host, names) == before, f"after kill -9: {before} {identity(host, names)}")
    check(host.row("new")["id"] == 9, "an id is given once")
    # Two go while the daemon runs, one of them comes back; another is there in between.
    host.write(LAN + "".join(machine(host, name) for name in names[2:]) + machine(host, "more"))
    vmhost(host, "apply", "-y")
    rest = identity(host, names[2:])
    check(rest == {name: before[name] for name in names[2:]}, f"{rest}")
    gone = facts(host, "vm0")
    check(gone["id"] == (before["vm0"][0], "remembered", 0), f"of a VM that is gone: {gone}")
    taken = set(identity(host, ["more"])["more"])
    check(not taken & {value for one in before.values() for value in one}, f"{taken}")
    listed = {row["name"]: row for row in json.loads(vmhost(host, "explain", "--json"))}
    check(set(listed) == {*names, "new", "more"} and listed["vm2"]["in_file"]
          and not listed["vm0"]["in_file"], f"{listed}")
    check(set(listed["vm0"]["addresses"]) <= set(before["vm0"]), f"{listed['vm0']}")
    check(re.search(rf"^ +{before['vm0'][0]} .* the file  vm0 fe:", vmhost(host, "explain"), re.M),
          vmhost(host, "explain"))
    vmhost(host, "forget", "vm1")
    check("nothing is remembered" in vmhost(host, "forget", "vm1", status=1), "twice")
    check("vm vm2 is there" in vmhost(host, "forget", "vm2", status=1), "of one that is there")
    host.write(LAN + "".join(machine(host, name) for name in names) + machine(host, "more"))
    vmhost(host, "apply", "-y")
    after = identity(host, names)
    check(after["vm0"] == before["vm0"], f"what came back: {after['vm0']} {before['vm0']}")
    check(after["vm1"][0] != before["vm1"][0], "what was forgotten")
    shown = vmhost(host, "config show")
    for one in after.values():
        check(all(f'"{value}"' in shown for value in one if "." in value or ":" in value),
              f"config show has not {one}:\n{shown}")
    check(os.stat(host.path("host.db")).st_mode & 0o777 == 0o600, "mode of host.db")


def test_remembered_adopted(host):
    """A guest that outlives its daemon, and the VMs beside it, are who they were; so they are in
    the file's order of then, and what was derived does not become the file's word."""
    host.run(LAN + machine(host, "a", "") + machine(host, "b"))
    before = identity(host, ["a", "b"])
    pid = host.row("a")["pid"]
    host.process.kill()
    host.process.wait()
    host.run(LAN + machine(host, "b") + machine(host, "a", ""))
    check(host.row("a")["pid"] == pid, "a runs on")
    check(identity(host, ["a", "b"]) == before, f"{before} {identity(host, ['a', 'b'])}")
    check("nothing to do" in vmhost(host, "plan"), "another order is no change")
    host.write(LAN + machine(host, "new") + machine(host, "b") + machine(host, "a", ""))
    vmhost(host, "apply", "-y")
    check(identity(host, ["a", "b"]) == before, "behind a new one")
    told = facts(host, "a")
    check(told["interface[0].ipv4"][1] == "remembered" and told["owner"][1] == "default"
          and told["vm"][1] == "file", f"{told}")
    check(host.row("a")["pid"] == pid, "a still runs")


def test_remembered_conflict(host):
    """A file that gives away what a VM has is refused, at its line; one that says so for both is not."""
    host.run(LAN + machine(host, "a") + machine(host, "b"))
    mine = facts(host, "a")["interface[0].ipv4"][0]
    given = f'{{ switch = "lan", ipv4 = "{mine}" }}'
    host.write(LAN + machine(host, "a") + machine(host, "b", wire=given))
    for verb in (("plan",), ("apply", "-y")):
        told = vmhost(host, *verb, status=1)
        check(re.search(rf"vmhost.toml:\d+:\d+: vm.b.interface\[0\].ipv4: {mine} is what "
                        r"vm.a.interface\[0\] has had so far", told), told)
    other = next(f"10.9.8.{i}" for i in range(2, 15)
                 if f"10.9.8.{i}" not in (mine, facts(host, "b")["interface[0].ipv4"][0]))
    host.write(LAN + machine(host, "a", wire=f'{{ switch = "lan", ipv4 = "{other}" }}')
               + machine(host, "b", wire=given))
    vmhost(host, "apply", "-y")
    check(facts(host, "b")["interface[0].ipv4"][:2] == (mine, "file"), "the file wins")
    check(facts(host, "a")["interface[0].ipv4"][:2] == (other, "file"), "for both")


def test_remembered_refused(host):
    """A damaged store, a newer one, and one of others end the start; no place for one does not."""
    def start(text):
        host.run(LAN + machine(host, "a"), wait=False)
        check(host.process.wait(LIMIT_S) == 1, "it came up")
        check(re.search(text, host.logged()), f"no {text!r} in {host.logged()}")
    store = host.path("host.db")
    with open(store, "wb") as out:
        out.write(b"x" * 10000)
    os.chmod(store, 0o666)
    start(r"host\.db: others may write to it, mode 666")
    os.chmod(store, 0o600)
    start(r"host\.db: file is not a database: put a copy back, or move it away")
    os.unlink(store)
    host.run(LAN + machine(host, "a"))
    check(host.end() == 0, "a new one")
    with open(store, "r+b") as out:
        out.seek(60)  # user_version
        out.write((99).to_bytes(4, "big"))
    start(r"host\.db: is of version 99, written by a newer vmhost; this one knows \d")
    os.unlink(store)
    with open(host.write(LAN + machine(host, "a"))) as file:
        text = file.read()
    with open(host.path("nowhere.toml"), "w") as out:
        out.write(text.replace(f'state = "{host.folder}"', 'state = "/nowhere"'))
    log = open(host.log_path, "w+")
    host.process = subprocess.Popen([host.binary, "run", "-f", host.path("nowhere.toml")],
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    end = time.monotonic() + LIMIT_S
    while "up: " not in host.logged():
        check(time.monotonic() < end and host.process.poll() is None, host.logged())
        time.sleep(0.05)
    check(host.logged().count("kept until vmhost ends") == 1, host.logged())
    check(host.row("a")["id"] == 1, "an id all the same")


def test_explain(host):
    """Each answer with its line, default, rule or time; with a daemon and without one."""
    text = (LAN + machine(host, "t", 'owner = "nobody"\nenable = false\n')
            + '[vm.i]\ninstance_of = "t"\nenable = false\n')
    host.run(text)
    lines = open(host.path("vmhost.toml")).read().split("\n")
    told = vmhost(host, "explain", "i")
    owner = lines.index('owner = "nobody"') + 1
    for line in (rf"^vm +i +\S+vmhost.toml:{lines.index('[vm.i]') + 1}$",
                 rf"^owner +nobody +\S+vmhost.toml:{owner}, of its template t$",
                 r"^id +2 +remembered since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: for this name$",
                 r"^uid +2113929218 +derived: vm_uids of \[host\], 2113929216 by the default",
                 r"^interface\[0\].switch +lan +\S+vmhost.toml:\d+, of its template t$",
                 r"^interface\[0\].ipv4 +10.9.8.\d+ +remembered since .*: a free address of "
                 r"10.9.8.1/28, switch.lan.ipv4 by \S+vmhost.toml:\d+$",
                 r"^interface\[1\].ipv4 +100.* by the default$", r"^state +stopped +now$"):
        check(re.search(line, told, re.M), f"no {line!r} in\n{told}")
    running = facts(host, "i")
    host.end()
    del running["state"]
    check(facts(host, "i") == running, f"without a daemon: {facts(host, 'i')}\n{running}")
    check("has no vm nobody" in vmhost(host, "explain", "nobody", status=1), "an unknown VM")
    # Who may not read the store is told the rule instead.
    os.chmod(host.path("vmhost.toml"), 0o644)
    told = subprocess.run([host.binary, "explain", "-f", host.path("vmhost.toml"), "i"],
                          user=65534, group=65534, extra_groups=[], capture_output=True, text=True,
                          timeout=LIMIT_S)
    check(told.returncode == 0 and re.search(r"^id +- +unknown: .*host.db", told.stdout, re.M),
          f"{told}")


def test_remembered_instance(host):
    """An instance that comes back has its id; another user's of that name is another VM."""
    host.run(LAN + machine(host, "t", 'enable = false\nallow_instance = { owner = ":2" }\n'))
    os.chmod(host.socket, 0o666)

    def start(uid):
        done = subprocess.run([host.vmctl, "-s", host.socket, "start", "-t", "t", "i"], user=uid,
                              group=2, extra_groups=[], capture_output=True, text=True,
                              timeout=LIMIT_S)
        check(done.returncode == 0, f"{done}")
        told = facts(host, "i")
        check(told["vm"][1] == "command", f"{told}")
        host.ctl("stop", "-fw", "i")
        end = time.monotonic() + LIMIT_S
        while '"name"' in host.ctl("status", "--json", "i").stdout:
            check(time.monotonic() < end, "i is still there")
            time.sleep(0.05)
        return {what: told[what][0] for what in told
                if what in ("id", "uid") or what.endswith(("lladdr", "ipv4"))}
    one, other = start(1001), start(1002)
    check(all(one[what] != other[what] for what in one), f"{one} {other}")
    check(start(1001) == one, "the first one's again")
    host.end()
    host.run(LAN + machine(host, "t", 'enable = false\nallow_instance = { owner = ":2" }\n'))
    os.chmod(host.socket, 0o666)
    check(start(1002) == other, "after a restart, too")


def test_audit(host):
    """What was asked for, by whom and with what end; refusals are warnings, and counted."""
    host.run(LAN + machine(host, "a", "") + machine(host, "b"))
    os.chmod(host.socket, 0o666)
    host.ctl("pause", "a")
    host.ctl("unpause", "a")
    host.ctl("stop", "-fw", "a")
    host.ctl("start", "nobody", status=1)
    host.ctl("status")
    for words in (("stop", "-f", "b"), ("start", "b"), ("start", "b")):
        check(as_user(host, 4711, *words).returncode == 1, f"{words} by a stranger")
    check(host.logged().count("refused: uid 4711 (4711) may not start vm b") == 2, host.logged())
    host.write(LAN + machine(host, "a"))
    vmhost(host, "apply", "-y")
    told = json.loads(vmhost(host, "audit", "--json"))
    rows = [(row["uid"], row["verb"], row["vm"], row["arguments"].split("=")[0],
             row["outcome"].split(":")[0]) for row in told["rows"]]
    for row in ((0, "pause", "a", "", "ok"), (0, "unpause", "a", "", "ok"),
                (0, "stop", "a", "force", "ok"), (0, "start", "nobody", "", "not_found"),
                (4711, "stop", "b", "force", "denied"), (4711, "start", "b", "", "denied"),
                (0, "apply", "", "file", "ok")):
        check(row in rows, f"no {row} in {rows}")
    check(not any(row[1] in ("status", "plan", "refusals") for row in rows), f"{rows}")
    refusals = told["refusals"]
    check(refusals["total"] == 3 and refusals["by_verb"] == {"start": 2, "stop": 1}
          and refusals["by_uid"] == {"4711": 3}, f"{refusals}")
    text = vmhost(host, "audit", "-n", "3", "b")
    check(len(re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +4711 .*denied", text, re.M)) == 3
          and "3 requests were refused" in text, text)
    # Kept by the store, not by the daemon; and one that the daemon did not outlive is seen.
    host.ctl("start", "a")
    waiting = subprocess.Popen([host.vmctl, "-s", host.socket, "stop", "-w", "a"],
                               stderr=subprocess.DEVNULL)
    end = time.monotonic() + LIMIT_S
    while json.loads(vmhost(host, "audit", "--json", "-n", "1"))["rows"][0]["verb"] != "stop":
        check(time.monotonic() < end, "the row of a stop that is carried out")
        time.sleep(0.02)
    kill(host)
    waiting.wait(LIMIT_S)
    after = json.loads(vmhost(host, "audit", "--json"))
    check(after["rows"][:len(rows)] == told["rows"] and after["refusals"] is None, f"{after}")
    check(after["rows"][-1]["verb"] == "stop" and after["rows"][-1]["outcome"] == "no answer",
          f"{after['rows'][-1]}")
    host.run(LAN + machine(host, "a"))
    check(json.loads(vmhost(host, "audit", "--json"))["rows"] == after["rows"], "the next daemon's")
