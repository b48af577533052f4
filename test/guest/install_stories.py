"""Stories of end-to-end about installations: answer files that are given out once, what opens them
again, and the installer's kernel. Each gets a Host."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import media

LIMIT_S = 60.0
NEEDS_KVM = {"install_kernel", "install_adopted", "install_phases", "install_fails",
             "install_percent", "install_unprepared"}
A, B = "10.9.8.10", "10.9.8.11"
MAC_A, MAC_B = "fe:e1:bb:d1:00:01", "fe:e1:bb:d1:00:02"
LAN = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\nports = ["near"]\n'


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not (result := condition()):
        check(time.monotonic() < end, f"waited for {what}")
        time.sleep(0.02)
    return result


def machine(name, address, lladdr, more="", install=""):
    return (f'[vm.{name}]\nenable = false\nmemory = "16M"\n'
            f'interface = [{{ switch = "lan", ipv4 = "{address}", lladdr = "{lladdr}" }}]\n{more}'
            f'[vm.{name}.install]\nhostname = "{name}-host"\nroot_password = "secret-of-{name}"\n'
            f'{install}')


TWO = LAN + machine("a", A, MAC_A, 'owner = "1000"\n') + machine("b", B, MAC_B)


@contextlib.contextmanager
def clients(host):
    """A namespace behind a port of the switch that has the addresses of both VMs."""
    name = os.path.basename(host.folder)

    def ip(*words):
        subprocess.run(["ip", *words], check=True)
    ip("netns", "add", name)
    try:
        ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", name)
        ip("link", "set", "near", "up")
        for address in (A, B, "10.9.8.99"):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "far")
        ip("-n", name, "link", "set", "far", "up")
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", "near"], check=False)
        subprocess.run(["ip", "netns", "delete", name], check=False)


def curl(where, path, source, *options):
    return ["ip", "netns", "exec", where, "curl", "-s", "-m", "30", "-i", "--interface", source,
            *options, f"http://10.9.8.1/{path}"]


def get(where, path, source, *options):
    """Status and body; 0 without an answer."""
    done = subprocess.run(curl(where, path, source, *options), capture_output=True, text=True,
                          timeout=LIMIT_S)
    head, _, body = done.stdout.partition("\n\n")  # text=True has taken the CRs
    return (int(head.split()[1]) if head else 0), body


def state(host, vm="a"):
    install = host.row(vm)["install"]
    return install["state"], install["mode"], install["number"]


def reinstall(host, *words, status=0, **more):
    done = subprocess.run([host.binary, "reinstall", "-s", host.socket, *words],
                          capture_output=True, text=True, timeout=LIMIT_S,
                          stdin=subprocess.DEVNULL, **more)
    check(done.returncode == status, f"reinstall {words}: {done.returncode} {done}")
    return done.stdout + done.stderr


def role_pid(host, role):
    return next(pid for pid in host.processes()
                if f"\0{role}\0".encode() in open(f"/proc/{pid}/cmdline", "rb").read())


def end_all(host):
    for pid in host.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    host.process.wait()
    wait_until(lambda: not host.processes() and
               ":0043 " not in open("/proc/self/net/udp").read(), "all to be gone")


def test_install_once(host):
    """The answer file: for the VM's address alone, once, also after a restart; and again when the
    VM is armed again."""
    with clients(host) as where:
        host.run(TWO)
        check(state(host) == ("armed", "install", 1), f"{host.row('a')}")
        own = f"{MAC_A}-install.conf?path=7.8/amd64"
        for source, path, status in ((B, own, 404), ("10.9.8.99", own, 404),
                                     ("10.9.8.99", "install.conf", 404),
                                     (B, "a-host-install.conf", 404),
                                     (A, f"{MAC_A}-upgrade.conf", 404)):
            check(get(where, path, source)[0] == status, f"{path} for {source}")
        check(get(where, own, A, "-I")[0] == 405, "HEAD")
        check(state(host)[0] == "armed", "sealed by who may not have it")
        status, body = get(where, own, A)
        check(status == 200 and "System hostname = a-host\n" in body and
              "Password for root = secret-of-a\n" in body, f"{status} {body}")
        check(state(host) == ("sealed", "install", 1), f"{host.row('a')}")
        check(host.row("a")["answer_served"], "status does not tell")
        for path in (own, "a-host-install.conf", "install.conf"):
            status, body = get(where, path, A)
            check(status == 404 and "secret" not in body, f"again: {path}: {status}")
        for reason in ("other-vm", "unknown", "other-mode", "sealed"):
            check(f"refused: {reason}" in host.logged(), f"no {reason} in the log")
        counted = host.ctl("metrics").stdout
        for outcome, number in (("served", 1), ("sealed", 3), ("other-vm", 3), ("unknown", 1),
                                ("other-mode", 1)):
            check(re.search(rf'install_answers_total{{outcome="{outcome}"}} {number}$', counted,
                            re.M), f"{outcome}: {counted}")
        check(state(host, "b") == ("armed", "install", 1), "the other VM's")
        host.end()
        host.run(TWO)
        check(get(where, own, A)[0] == 404 and state(host)[0] == "sealed", "after a restart")
        check(get(where, "install.conf", B)[0] == 200, "the other VM's")
        # Its owner and root arm it, nobody else does, and nobody by mistake.
        check("-y arms it" in reinstall(host, "a", status=1), "without being asked")
        os.chmod(host.socket, 0o666)
        check("is for its owner" in reinstall(host, "-y", "a", status=1, user=4711, group=4711,
                                              extra_groups=[]), "a stranger")
        check(state(host) == ("sealed", "install", 1), "armed by who may not")
        told = json.loads(reinstall(host, "-y", "--json", "a", user=1000, group=1000,
                                    extra_groups=[]))
        check(told["install"]["state"] == "armed" and told["install"]["number"] == 2, f"{told}")
        wait_until(lambda: get(where, own, A)[0] == 200, "the file to be there again")
        check(get(where, own, A)[0] == 404, "once more")
        check("upgrade 3" in reinstall(host, "-y", "--upgrade", "a"), "an upgrade")
        check(state(host) == ("armed", "upgrade", 3), f"{host.row('a')}")
        status, body = wait_until(
            lambda: (lambda got: got if got[0] == 200 else None)(
                get(where, f"{MAC_A}-upgrade.conf", A)), "the upgrade's file")
        check("Location of sets = http" in body and "Password" not in body, body)
        check(get(where, f"{MAC_A}-upgrade.conf", A)[0] == 404, "once more")
        audit = subprocess.run([host.binary, "audit", "-f", host.path("vmhost.toml")],
                               capture_output=True, text=True, timeout=LIMIT_S).stdout
        check(len(re.findall(r"reinstall", audit)) == 3 and "upgrade" in audit, audit)


def test_install_killed(host):
    """kill -9 before the seal leaves the file for the next daemon; after it, nobody gets it."""
    with clients(host) as where:
        host.run(TWO)
        parent, http = host.process.pid, role_pid(host, "http")
        # Nothing was written: the claim was never read.
        os.kill(parent, signal.SIGSTOP)
        asking = subprocess.Popen(curl(where, "install.conf", A), stdout=subprocess.PIPE)
        time.sleep(0.5)
        check(asking.poll() is None, "an answer without the parent")
        end_all(host)
        check(b"secret" not in asking.communicate(timeout=LIMIT_S)[0], "a file of a dead parent")
        host.run(TWO)
        check(state(host) == ("armed", "install", 1), "sealed although nobody did")
        # The seal is written, and the answer reaches nobody.
        parent, http = host.process.pid, role_pid(host, "http")
        os.kill(parent, signal.SIGSTOP)
        asking = subprocess.Popen(curl(where, "install.conf", A), stdout=subprocess.PIPE)
        time.sleep(0.5)
        os.kill(http, signal.SIGSTOP)
        os.kill(parent, signal.SIGCONT)
        wait_until(lambda: "has fetched its answer file" in host.logged(), "the seal")
        end_all(host)
        check(b"secret" not in asking.communicate(timeout=LIMIT_S)[0], "it had its answer")
        host.run(TWO)
        check(state(host) == ("sealed", "install", 1), "open again after kill -9")
        check(get(where, "install.conf", A)[0] == 404, "a second reader")
        check(get(where, "install.conf", B)[0] == 200, "the other VM's")


def test_install_slow_parent(host):
    """A parent that does not answer: 503, and no seal that nobody heard of."""
    with clients(host) as where:
        host.run(TWO)
        os.kill(host.process.pid, signal.SIGSTOP)
        try:
            check(get(where, "install.conf", A)[0] == 503, "without the parent")
        finally:
            os.kill(host.process.pid, signal.SIGCONT)
        check(state(host) == ("armed", "install", 1), "sealed too late")
        wait_until(lambda: get(where, "install.conf", A)[0] == 200, "the file")


def test_install_known_vm(host):
    """A VM that was there before its install table is not armed by it: its disk may be in use."""
    bare = LAN + machine("a", A, MAC_A).partition("[vm.a.install]")[0]
    with clients(host) as where:
        host.run(bare)
        check(host.row("a")["install"] is None, f"{host.row('a')}")
        check("no install table" in reinstall(host, "-y", "a", status=1), "nothing to install")
        host.write(TWO)
        done = subprocess.run([host.binary, "apply", "-y", "-f", host.path("vmhost.toml")],
                              capture_output=True, text=True, timeout=LIMIT_S)
        check(done.returncode == 0, done.stderr)
        check(host.row("a")["install"] is None, f"{host.row('a')}")
        check(get(where, "install.conf", A)[0] == 404, "armed by a table")
        check(get(where, "install.conf", B)[0] == 200, "a new VM is not armed")
        reinstall(host, "-y", "a")
        wait_until(lambda: get(where, "install.conf", A)[0] == 200, "the file")


def with_kernel(host):
    media.write_disk(host.path("d.img"), "the disk")
    return LAN.replace('ports = ["near"]\n', "") + machine(
        "a", A, MAC_A, 'disk = [{ path = "d.img" }]\n',
        f'kernel = "{host.guest("installer")}"\n')


def test_install_kernel(host):
    """An armed VM starts from the installer's kernel until it has had its answers, and then from
    its disk; DHCP names the mode while it is armed."""
    host.run(with_kernel(host), "--debug-exit")
    host.ctl("start", "a")
    host.console("a", r"installer \[ready\]")
    # Who reboots without an answer gets the installer again.
    host.console("a", r"installer \[ready\]\s+installer \[ready\]", stdin="r")
    host.console("a", r"siaddr=10\.9\.8\.1 boot_file=auto_install hostname=a-host", stdin="d")
    host.console("a", r"System hostname = a-host[\s\S]*STATUS 200", stdin="i")
    check(state(host) == ("sealed", "install", 1), f"{host.row('a')}")
    wait_until(lambda: re.search(r"boot_file= hostname[\s\S]*STATUS 404", host.console(
        "a", r"STATUS 200[\s\S]*STATUS 404", stdin="i")), "DHCP without a boot file")
    host.console("a", r"the disk \[ready\]", stdin="r")
    host.console("a", "the disk", stdin="x")
    host.stopped("a")
    host.ctl("start", "a")
    host.console("a", r"the disk \[ready\]")
    host.ctl("stop", "-fw", "a")
    reinstall(host, "-y", "--upgrade", "a")
    # Another start that is asked for is had.
    host.ctl("start", "-B", "disk", "a")
    host.console("a", r"the disk \[ready\]")
    host.ctl("stop", "-fw", "a")
    host.ctl("start", "a")
    host.console("a", r"installer \[ready\]")
    host.console("a", r"boot_file=auto_upgrade ", stdin="d")


def test_install_adopted(host):
    """A daemon that is killed while its guest installs itself: the next one knows of it."""
    text = with_kernel(host)
    host.run(text, "--debug-exit")
    host.ctl("start", "a")
    host.console("a", r"installer \[ready\]")
    host.process.kill()
    host.process.wait()
    wait_until(lambda: ":0043 " not in open("/proc/self/net/udp").read(), "the DHCP process to go")
    host.run(text, "--debug-exit")
    host.console("a", r"installer \[ready\]\s+installer \[ready\]", stdin="r")
    host.console("a", r"STATUS 200", stdin="i")
    host.process.kill()
    host.process.wait()
    wait_until(lambda: ":0043 " not in open("/proc/self/net/udp").read(), "the DHCP process to go")
    host.run(text, "--debug-exit")
    check(state(host) == ("sealed", "install", 1), f"{host.row('a')}")
    host.console("a", r"the disk \[ready\]", stdin="r")


def sets_folder(host):
    folder = host.path("mirror")
    os.makedirs(os.path.join(folder, "7.8/amd64"))
    for name, size in (("base78.tgz", 30000), ("man78.tgz", 10000), ("xbase78.tgz", 50000)):
        with open(os.path.join(folder, "7.8/amd64", name), "wb") as file:
            file.write(b"x" * size)
    for parent, _, _ in os.walk(folder):
        os.chmod(parent, 0o755)
    return folder


def phases(host):
    return [one["phase"] for one in host.row("a")["install"]["phases"]]


def events(host):
    return [(one["kind"], one["text"]) for one in map(json.loads, host.ctl(
        "events", "--json", "a").stdout.splitlines())]


def test_install_phases(host):
    """From its answers to its sshd, as the host sees it, also by a daemon that comes in between."""
    text = (f'[install]\nsets = "{sets_folder(host)}"\n' + LAN +
            machine("a", A, MAC_A, f'boot = "{host.guest("installer")}"\n',
                    f'kernel = "{host.guest("installer")}"\n'))
    with clients(host) as where:
        host.run(text, "--debug-exit")
        host.ctl("start", "a")
        host.console("a", r"installer \[ready\]")
        check(phases(host) == ["armed"], f"{host.row('a')}")
        # What the guest would do itself, but that it has no more than this of a network.
        check(get(where, "install.conf", A)[0] == 200, "its answers")
        check(phases(host) == ["armed", "answers"], f"{host.row('a')}")
        check(get(where, "pub/OpenBSD/7.8/amd64/base78.tgz", B)[0] == 200, "a set for another")
        check(phases(host) == ["armed", "answers"], f"{host.row('a')}")
        check(get(where, "pub/OpenBSD/7.8/amd64/base78.tgz", A)[0] == 200, "a set")
        row = wait_until(lambda: (lambda install: install if install["phase"] == "sets" else None)(
            host.row("a")["install"]), "the set to count")
        check(row["percent"] == 75 and row["set"] == "base78.tgz", f"{row}")
        host.console("a", r"Installing   man78", stdin="s")
        wait_until(lambda: host.row("a")["install"]["set"] == "man78.tgz", "the console to count")
        host.process.kill()
        host.process.wait()
        wait_until(lambda: ":0043 " not in open("/proc/self/net/udp").read(), "DHCP to go")
        host.run(text, "--debug-exit")
        check(phases(host) == ["armed", "answers", "sets"], f"{host.row('a')}")
        host.console("a", r"man78[\s\S]*\[ready\]\s+installer \[ready\]", stdin="r")
        wait_until(lambda: phases(host)[-1] == "rebooted", "the reboot")
        listener = subprocess.Popen(
            ["ip", "netns", "exec", where, "python3", "-c",
             "import socket\ns = socket.create_server(('10.9.8.10', 22))\n"
             "while True: s.accept()[0].send(b'SSH-2.0-OpenSSH_10.0')"])
        try:
            wait_until(lambda: phases(host)[-1] == "ssh", "its sshd")
        finally:
            listener.kill()
            listener.wait()
        check(phases(host) == ["armed", "answers", "sets", "rebooted", "ssh"], f"{host.row('a')}")
        shown = host.ctl("status", "a").stdout
        check(re.search(r"^installation 1:\n  [-\d]+ [:\d]+ armed$", shown, re.M) and
              re.search(r" sets 75% ", shown), shown)
        check(("install", "ssh") in events(host), f"{events(host)}")
        counted = host.ctl("metrics").stdout
        check(re.search(r'vm_install_phase_time_seconds\{vm="a",phase="ssh"\} \d', counted), counted)


def test_install_unprepared(host):
    """The menu of a medium that nobody prepared is answered for an armed VM, and for no other, nor
    while somebody is at its keys."""
    host.run(LAN.replace('ports = ["near"]\n', "") +
             machine("a", A, MAC_A, f'boot = "{host.guest("installer")}"\n'), "--debug-exit")
    time.sleep(3)  # a host at rest looks at no console
    host.ctl("start", "a")
    host.console("a", r"\(S\)hell\? ", stdin="m")
    wait_until(lambda: "TOLD a\n" in host.ctl("log", "a").stdout.replace("\r", ""), "the answer")
    time.sleep(0.5)  # the daemon lets go of the keys
    host.console("a", r"STATUS 200", stdin="i")
    host.console("a", r"\(S\)hell\? ", stdin="m")
    time.sleep(5)  # twice the pause between two looks
    check(host.ctl("log", "a").stdout.count("TOLD") == 1, "answered though it is sealed")


def test_install_fails(host):
    """What the installer says when it gives up, and one that does not go on."""
    text = with_kernel(host) + 'stall_timeout = "2s"\n'
    host.run(text, "--debug-exit")
    host.ctl("start", "a")
    host.console("a", r"siaddr", stdin="d")
    check(phases(host) == ["armed", "lease"], f"{host.row('a')}")
    wait_until(lambda: host.row("a")["install"]["stalled"], "the alarm")
    check(any(kind == "install stalled" and "at lease for 2s" in text and "[ready]" in text
              for kind, text in events(host)), f"{events(host)}")
    check("it does not go on" in host.ctl("status", "a").stdout, "status does not tell")
    host.console("a", r"STATUS 200", stdin="i")
    check(not host.row("a")["install"]["stalled"], "it goes on")
    host.console("a", r"failed; check", stdin="f")
    wait_until(lambda: host.row("a")["install"]["failed"], "the failure")
    check(("install failed", "failed; check /tmp/ai/ai.log") in events(host), f"{events(host)}")
    host.console("a", r"the disk \[ready\]", stdin="r")
    check(phases(host) == ["armed", "lease", "answers"], f"{host.row('a')}")
    # Another one begins anew, and what the guest of before says is none of its business.
    reinstall(host, "-y", "a")
    row = host.row("a")["install"]
    check(phases(host) == ["armed"] and not row["failed"] and row["number"] == 2, f"{row}")
    time.sleep(3)
    check(phases(host) == ["armed"], f"{host.row('a')}")


def test_install_percent(host):
    """How far a set is, while it is sent, and a site set of which the rest is asked for."""
    folder = sets_folder(host)
    with open(os.path.join(folder, "7.8/amd64/base78.tgz"), "wb") as file:
        file.truncate(40 << 20)
    text = (f'[install]\nsets = "{folder}"\n'
            '[install.site]\ninstallurl = "http://cdn.openbsd.org/pub/OpenBSD"\n' + LAN +
            machine("a", A, MAC_A, f'boot = "{host.guest("installer")}"\n'))
    with clients(host) as where:
        host.run(text, "--debug-exit")
        host.ctl("start", "a")
        check(get(where, "install.conf", A)[0] == 200, "its answers")
        sets = "pub/OpenBSD/7.8/amd64"
        site = f"{sets}/site78.tgz"
        body = subprocess.run(curl(where, site, A), capture_output=True, timeout=LIMIT_S).stdout
        head, _, body = body.partition(b"\r\n\r\n")
        tag = re.search(rb"^ETag: (\S+)", head, re.M)[1].decode()
        for condition, status, rest in ((tag, b"206", body[10:]), ('"other"', b"200", body)):
            again = subprocess.run(curl(where, site, A, "-H", "Range: bytes=10-", "-H",
                                        f"If-Range: {condition}"), capture_output=True,
                                   timeout=LIMIT_S).stdout
            check(again.split()[1] == status and again.endswith(b"\r\n\r\n" + rest), f"{again}")
        seen = set()
        with subprocess.Popen(curl(where, f"{sets}/base78.tgz", A, "--limit-rate", "8M",
                                   "-o", "/dev/null")) as fetch:
            while fetch.poll() is None:
                install = host.row("a")["install"]
                if install["set"] == "base78.tgz":
                    seen.add(install["percent"])
                time.sleep(0.1)
            check(fetch.returncode == 0, f"curl: {fetch.returncode}")
        check(len([one for one in seen if 0 < one < 95]) >= 2, f"seen: {sorted(seen)}")
        wait_until(lambda: host.row("a")["install"]["percent"] >= 99, "the end of the set to count")
