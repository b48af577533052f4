"""Stories of end-to-end about a changed file: plan, apply, reload. Each gets a Host."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time

LIMIT_S = 60.0
NEEDS_KVM = {"plan_and_apply", "apply_moves", "apply_and_a_service", "apply_switches", "apply_fails_and_converges", "reload"}


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def machine(host, name, more="", memory="16M"):
    return f'[vm.{name}]\nmemory = "{memory}"\nboot = "{host.guest("idle")}"\n{more}'


def vmhost(host, *words, status=0, stdin=None):
    done = subprocess.run([host.binary, words[0], "-f", host.path("vmhost.toml"), *words[1:]],
                          capture_output=True, text=True, timeout=LIMIT_S, input=stdin)
    check(done.returncode == status,
          f"vmhost {' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def running(host):
    """Name -> pid of what runs."""
    rows = json.loads(host.ctl("status", "--json").stdout)
    return {row["name"]: row["pid"] for row in rows if row["state"] == "running"}


def await_log(host, pattern):
    end = time.monotonic() + LIMIT_S
    while not re.search(pattern, host.logged()):
        check(time.monotonic() < end, f"no {pattern!r} in the log")
        time.sleep(0.05)


def test_plan_and_apply(host):
    """Four kinds of change: one guest restarts, one starts, one ends, one does not notice."""
    names = ("a", "b", "d")
    host.run("".join(machine(host, name) for name in names))
    before = running(host)
    check("nothing to do" in vmhost(host, "plan"), "a plan without changes")
    host.write(machine(host, "a", memory="24M") + machine(host, "b", 'owner = "nobody"\n')
               + machine(host, "c"))
    plan = vmhost(host, "plan")
    for line in (r'^~ vm a: memory "16M" -> "24M" \(restart\)  \S+vmhost.toml:8$',
                 r'^~ vm b: owner "root" -> "nobody"  \S+vmhost.toml:13$',
                 r"^\+ vm c: added \(start\)  \S+vmhost.toml:14$",
                 r"^- vm d: removed \(stop\)$",
                 r"^4 changes; guests that restart: 1, that stop: 1$"):
        check(re.search(line, plan, re.M), f"no {line!r} in the plan:\n{plan}")
    check(running(host) == before, "a plan is no more than that")
    rows = json.loads(vmhost(host, "plan", "--json"))
    check([row["effect"] for row in rows["changes"]] == ["restart", "none", "start", "stop"],
          f"{rows}")
    check("nobody is there to be asked" in vmhost(host, "apply", status=1, stdin=""), "unasked")
    check(running(host) == before, "nobody agreed")
    told = vmhost(host, "apply", "-y")
    for line in ("vm a: ended", "vm a: started", "vm d: removed", "vm c: added, id 4"):
        check(line in told, f"no {line!r} in\n{told}")
    after = running(host)
    check(set(after) == {"a", "b", "c"}, f"{after}")
    check(after["b"] == before["b"] and after["a"] != before["a"], f"{before} {after}")
    check(host.row("a")["max_memory_bytes"] == 24 << 20, "the new memory")
    check(host.row("b")["owner"] == "nobody", "the new owner")
    check("nothing to do" in vmhost(host, "plan"), "a second plan")
    check("nothing to do" in vmhost(host, "apply", "-y"), "a second apply")


def test_apply_refused(host):
    """What cannot be had, and who may not ask, change nothing."""
    host.run(machine(host, "a", "enable = false\n"))
    good = open(host.path("vmhost.toml")).read()
    host.write(machine(host, "a", "enable = false\nmemroy = 3\n"))
    check("did you mean" in vmhost(host, "apply", "-y", status=1), "a bad file")
    with open(host.path("vmhost.toml"), "w") as out:
        out.write(good.replace('user = "nobody"', 'user = "daemon"'))
    check(re.search(r"host: user .*\(new daemon\)", vmhost(host, "plan")), "only a new daemon")
    check("cannot be applied: host.user" in vmhost(host, "apply", "-y", status=1), "refused")
    with open(host.path("vmhost.toml"), "w") as out:
        out.write(good)
    os.chmod(host.path("vmhost.toml"), 0o644)
    os.chmod(host.socket, 0o666)
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           host.binary, "plan", "-f", host.path("vmhost.toml")],
                          capture_output=True, text=True, timeout=LIMIT_S)
    check(done.returncode == 1 and "plan is for root" in done.stderr, f"{done}")


def test_apply_switches(host):
    """A switch comes, gets another address under a running guest, and goes."""
    def lan(address):
        return f'[switch.lan]\ninterface = "br-lan"\nipv4 = "{address}/24"\n'

    def addresses():
        return subprocess.run(["ip", "-4", "-o", "addr", "show", "dev", "br-lan"],
                              capture_output=True, text=True).stdout

    nic = 'interface = [{ switch = "lan", ipv4 = "10.9.8.5" }]\n'
    host.run(machine(host, "a"))
    host.write(lan("10.9.8.1") + machine(host, "a") + machine(host, "n", nic))
    vmhost(host, "apply", "-y")
    check("10.9.8.1/24" in addresses() and set(running(host)) == {"a", "n"}, addresses())
    before = running(host)
    host.write(lan("10.9.8.2") + machine(host, "a") + machine(host, "n", nic))
    check(re.search(r'switch lan: ipv4 .*\(reconnect\)', vmhost(host, "plan")), "the effect")
    vmhost(host, "apply", "-y")
    check("10.9.8.2/24" in addresses() and "10.9.8.1/" not in addresses(), addresses())
    check(running(host) == before, "no guest restarts for that")
    services = [open(f"/proc/{pid}/cmdline").read().split("\0")[2] for pid in host.processes()
                if pid != host.process.pid]
    check(services.count("dhcp") == 1, f"{services}")
    host.write(machine(host, "a"))
    vmhost(host, "apply", "-y")
    check(addresses() == "" and running(host) == {"a": before["a"]}, "the switch is gone")


def test_apply_fails_and_converges(host):
    """A step that fails says so, the rest stands, and a second apply does what is left."""
    host.run(machine(host, "a"))
    image = host.path("later.img")
    host.write(machine(host, "a", memory="24M")
               + machine(host, "b", f'disk = [{{ path = "{image}" }}]\n'))
    told = vmhost(host, "apply", "-y", status=1)
    check("later.img" in told, told)
    check(host.row("a")["max_memory_bytes"] == 24 << 20 and "a" in running(host), "a is done")
    check("nothing to do" in vmhost(host, "plan"), "the model is as the file says")
    with open(image, "wb") as out:
        out.truncate(1 << 20)
    host.ctl("start", "b")
    check(set(running(host)) == {"a", "b"}, "b runs")
    host.write('[switch.lan]\ninterface = "br-lan"\nports = ["no-such"]\n'
               + machine(host, "a", memory="16M")
               + machine(host, "b", f'disk = [{{ path = "{image}" }}]\n'))
    told = vmhost(host, "apply", "-y", status=1)
    check("no-such" in told, told)
    check("a" in running(host), "a guest that was taken down for a change is back")
    host.write(machine(host, "a", memory="16M")
               + machine(host, "b", f'disk = [{{ path = "{image}" }}]\n'))
    vmhost(host, "apply", "-y")
    check(host.row("a")["max_memory_bytes"] == 16 << 20, "the second apply does the rest")


def test_apply_moves(host):
    """Ports and addresses change hands between switches; what reload leaves is in the next plan."""
    subprocess.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"], check=True)
    try:
        def two(first, second, more=""):
            return (f'[switch.x]\ninterface = "br-x"\nports = ["{first}"]\nipv4 = "10.9.8.1/24"\n{more}'
                    f'[switch.y]\ninterface = "br-y"\nports = ["{second}"]\nipv4 = "10.9.9.1/24"\n'
                    + machine(host, "a", 'interface = [{ switch = "x", ipv4 = "10.9.8.5" }]\n'))
        host.run(two("v0", "v1"))
        before = running(host)
        host.write(two("v1", "v0"))
        vmhost(host, "apply", "-y")
        for link, bridge in (("v1", "br-x"), ("v0", "br-y")):
            check(os.path.realpath(f"/sys/class/net/{link}/master").endswith("/" + bridge), link)
        check(running(host) == before, "no guest restarts for that")
        host.write(two("v1", "v0", "mtu = 1400\n"))
        host.ctl("reload")
        check(running(host) == before, "a reload takes no guest down")
        check("mtu 1500 -> 1400 (restart)" in vmhost(host, "plan"), "what is left to do")
        vmhost(host, "apply", "-y")
        check(running(host) != before, "and is done by apply")
        check(open("/sys/class/net/br-x/mtu").read() == "1400\n", "the new MTU")
    finally:
        host.end()
        subprocess.run(["ip", "link", "del", "v0"], check=True)


def test_apply_and_a_service(host):
    """A service that cannot come up is tried until it can; one that is not wanted can come back."""
    lan = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'
    host.run(lan + machine(host, "a"))
    taken = socket.create_server(("127.0.0.1", 8123))
    more = '[install]\nlisten = ["127.0.0.1:8123"]\n'
    host.write(more + lan + "dhcp = { enable = false }\n" + machine(host, "a"))
    check("8123" in vmhost(host, "apply", "-y", status=1), "the port is taken")
    taken.close()
    end = time.monotonic() + LIMIT_S
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", 8123), timeout=1).close()
            break
        check(time.monotonic() < end, "HTTP does not come up by itself")
        time.sleep(0.1)
    host.write(lan + machine(host, "a"))
    vmhost(host, "apply", "-y")
    roles = [open(f"/proc/{pid}/cmdline").read().split("\0")[2] for pid in host.processes()]
    check("dhcp" in roles and "http" not in roles, f"{roles}")


def test_reload(host):
    """vmctl reload and SIGHUP take the file, but no guest down."""
    host.run(machine(host, "a"))
    before = running(host)
    host.write(machine(host, "a", memory="24M") + machine(host, "b"))
    host.ctl("reload")
    check(running(host)["a"] == before["a"] and "b" in running(host), "a runs on, b is there")
    host.ctl("stop", "-fw", "a")
    host.ctl("start", "a")
    check(host.row("a")["max_memory_bytes"] == 24 << 20, "its next start has the new memory")
    host.write(machine(host, "a", memory="24M"))
    host.process.send_signal(signal.SIGHUP)
    await_log(host, "vm b: removed")
    check(set(running(host)) == {"a"}, "b is gone")
    host.write("nonsense\n")
    host.process.send_signal(signal.SIGHUP)
    await_log(host, r"reload: \S+vmhost.toml:\d+")
    check(set(running(host)) == {"a"}, "a bad file changes nothing")
