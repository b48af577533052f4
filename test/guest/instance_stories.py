"""Stories of end-to-end about wires off a switch and VMs that are not in the file. Each gets a
Host."""

import os
import re
import subprocess
import time


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def links():
    return sorted(os.listdir("/sys/class/net"))


def as_user(host, uid, *words):
    return subprocess.run([host.vmctl, "-s", host.socket, *words], user=uid, group=uid,
                          extra_groups=[], capture_output=True, text=True, timeout=60)


def machine(host, name, guest, more=""):
    return f'[vm.{name}]\nmemory = "16M"\nboot = "{host.guest(guest)}"\n{more}'


def gone(host, name):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        rows = host.ctl("status", "--json", name).stdout
        if '"name"' not in rows:
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} is still there: {rows}")


def test_local_interface(host):
    """A guest alone with this host: two addresses of its own, a lease, and its answers."""
    host.run(machine(host, "a", "net",
                     'interface = [{ local = true }]\n[vm.a.install]\nhostname = "puffy"\n'
                     'user = "alice"\nsshkey = "ssh-ed25519 AAAAC3Nza alice@example"\n'),
             "--debug-exit")
    text = host.console("a", r"System hostname = puffy[\s\S]*(ssh-ed25519|Set name)")
    lease = re.search(r"LEASE ip=([\d.]+) mask=255.255.255.254 router=([\d.]+) dns=([\d.]+)", text)
    check(lease, text)
    guest, router, server = (int.from_bytes(bytes(map(int, one.split("."))), "big")
                             for one in lease.groups())
    check(router == server == guest - 1 and guest % 2 == 1 and guest >> 22 == 0x64400000 >> 22,
          f"addresses of a local interface: {lease.group(0)}")
    check("a-br0" in links(), f"no bridge of its own: {links()}")


def test_loose_interfaces(host):
    """An interface on no switch, on one that is not there, with a name, and down."""
    host.run('[switch.later]\nenable = false\nipv4 = "10.9.7.1/24"\n' +
             machine(host, "a", "interrupt",
                     'interface = [{ tap = "loose0" }, { switch = "later" }, { up = false }]\n'))
    host.console("a", "type a line")
    check({"loose0", "a-if1", "a-if2"} <= set(links()), f"taps: {links()}")
    check(not any(name.startswith("br-") for name in links()), f"a bridge was made: {links()}")

    def flags(name):
        with open(f"/sys/class/net/{name}/flags") as file:
            return int(file.read(), 16)
    check(flags("loose0") & 1 and not flags("a-if2") & 1, "which interfaces are up")


TEMPLATE = ('[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n[vm.other]\n'
            'enable = false\ndisk = [{ path = "/other.raw" }]\n')


def template(host, guest, options, more=""):
    return TEMPLATE + machine(
        host, "t", guest, 'enable = false\nallow_instance = { owner = "1", options = [' +
        ", ".join(f'"{one}"' for one in options) + "] }\n" + more)


def test_instance(host):
    """vmctl start -t: who may, what may be chosen, and that it is gone when it ends."""
    host.run(template(host, "interrupt", ["memory"], 'interface = [{ switch = "lan" }]\n'))
    os.chmod(host.socket, 0o666)
    before = links()
    started = as_user(host, 1, "start", "-t", "t", "-m", "20M", "mine")
    check(started.returncode == 0 and re.fullmatch(r"vmctl: started vm 3 successfully\n",
                                                   started.stderr), started.stderr)
    host.console("mine", "type a line")
    row = host.row("mine")
    check(row["state"] == "running" and row["max_memory_bytes"] == 20 << 20, f"row: {row}")
    check(row["owner"] == "daemon", f"owner: {row}")
    check("mine-if0" in links(), f"links: {links()}")

    def refused(uid, words, pattern):
        done = as_user(host, uid, *words)
        check(done.returncode == 1 and re.search(pattern, done.stderr), f"{words}: {done.stderr}")
    refused(1, ["start", "-t", "t", "mine"], "vm mine exists already")
    refused(1, ["start", "-t", "t", "-n", "lan", "b"], r'may not choose its interface: "interface"')
    refused(1, ["start", "-t", "t", "-b", host.guest("hello"), "b"], "may not choose its boot")
    refused(1, ["start", "-t", "mine", "b"], "instances of mine are for root")
    refused(2, ["start", "-t", "t", "b"], "instances of t are for root and the owner")
    refused(1, ["start", "-m", "20M", "-b", host.guest("hello"), "b"], "only root makes a VM")
    refused(1, ["start", "-t", "nobody", "b"], "invalid template")
    refused(1, ["start", "-m", "20M", "b"], "no kernel, disk or ISO")
    refused(2, ["stop", "mine"], "owner")
    check(as_user(host, 1, "stop", "-fw", "mine").returncode == 0, "stop by its owner")
    gone(host, "mine")
    check(links() == before, f"links were left: {links()}")
    check("not found" in host.ctl("start", "mine", status=1).stderr, "it can be started again")
    # Root makes others as well, and chooses everything.
    host.ctl("start", "-t", "t", "-m", "24M", "-i", "3", "roots")
    check(len([name for name in links() if name.startswith("roots-if")]) == 3, f"{links()}")
    check(host.row("roots")["owner"] == "root", f"{host.row('roots')}")
    # A failing one leaves nothing.
    with open(host.path("bad.img"), "wb") as image:
        image.write(b"QFI\xfb\0\0\0\3")
        image.truncate(1 << 20)
    error = host.ctl("start", "-t", "t", "-d", host.path("bad.img"), "bad", status=1).stderr
    check("start vm command failed" in error and "begins like qcow2" in error, error)
    gone(host, "bad")


def test_new_vm(host):
    """vmctl start of a VM that is in no file: on a switch and on a wire of its own."""
    host.run('[install]\nlisten = ["10.9.8.1:80"]\n' + TEMPLATE)
    host.ctl("start", "-m", "16M", "-b", host.guest("net"), "-n", "lan", "-L", "fresh")
    text = host.console("fresh", r"LEASE [^\n]*\n")
    check("ip=10.9.8." in text, f"no lease on the switch: {text!r}")
    check("fresh-br1" in links(), f"no wire of its own: {links()}")
    host.ctl("stop", "-fw", "fresh")
    gone(host, "fresh")
    check("fresh-br1" not in links() and "br-lan" in links(), f"links: {links()}")


def test_instance_disk(host):
    """The disk of an instance is opened with its owner's rights, with what lies below it."""
    home = host.path("home")
    os.mkdir(home, 0o755)
    os.chown(home, 1, 1)
    with open(host.path("golden.raw"), "wb") as base:
        base.truncate(1 << 20)
    os.chmod(host.path("golden.raw"), 0o644)
    with open(host.path("secret.raw"), "wb") as secret:
        secret.truncate(1 << 20)
    os.chmod(host.path("secret.raw"), 0o600)

    made = as_user(host, 1, "create", "-b", "raw:" + host.path("golden.raw"), f"{home}/mine.qcow2")
    check(made.returncode == 0, f"a disk on a common base: {made.stderr}")
    host.run(template(host, "block", ["disk"]), "--debug-exit")
    os.chmod(host.socket, 0o666)
    started = as_user(host, 1, "start", "-t", "t", "-d", f"{home}/mine.qcow2", "mine")
    check(started.returncode == 0, started.stderr)
    gone(host, "mine")
    check(re.search(r"vm mine ended: .*exit.* 0\b", host.logged()), host.logged())
    with open(host.path("golden.raw"), "rb") as base:
        check(not any(base.read()), "the instance wrote to the base")

    def refused(pattern, *words):
        done = as_user(host, 1, "start", "-t", "t", *words, "mine")
        check(done.returncode == 1 and re.search(pattern, done.stderr), f"{words}: {done.stderr}")
    refused("Permission denied", "-d", host.path("secret.raw"))
    refused("Permission denied", "-d", host.path("golden.raw"))  # it may only be read
    refused("No such file", "-d", f"{home}/gone.raw")
    # A name inside an image leads to no file that the caller could not open.
    subprocess.run([host.vmctl, "create", "-b", "raw:" + host.path("secret.raw"),
                    f"{home}/evil.qcow2"], check=True, capture_output=True)
    os.chown(f"{home}/evil.qcow2", 1, 1)
    refused("Permission denied", "-d", f"{home}/evil.qcow2")
    # What a guest wrote into its raw disk does not make it another format.
    with open(f"{home}/guest.img", "wb") as image:
        image.write(b"QFI\xfb\0\0\0\3")
        image.truncate(1 << 20)
    os.chown(f"{home}/guest.img", 1, 1)
    refused("begins like qcow2", "-d", f"{home}/guest.img")
    gone(host, "mine")


def test_instance_and_apply(host):
    """A changed file leaves VMs alone that are not from it, and cannot take their names."""
    def text(more=""):
        return template(host, "interrupt", []) + more

    def apply(status=0):
        done = subprocess.run([host.binary, "apply", "-y", "-f", host.path("vmhost.toml")],
                              capture_output=True, text=True, timeout=60)
        check(done.returncode == status, f"apply: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    host.run(text())
    host.ctl("start", "-t", "t", "-n", "lan", "-L", "mine")
    pid = host.row("mine")["pid"]
    host.write(text(machine(host, "extra", "idle", "interface = [{ local = true }]\n")))
    told = apply()
    check("vm extra: added" in told and "mine" not in told, told)
    check(host.row("mine")["pid"] == pid, "the instance was touched")
    check({"mine-br1", "extra-br0", "br-lan"} <= set(links()), f"links: {links()}")
    host.write(text(machine(host, "mine", "idle")))
    check("vm mine runs and is not from the file" in apply(status=1), "its name was taken")
    host.write(machine(host, "t", "interrupt", "enable = false\n"))
    check("switch lan cannot go" in apply(status=1), "its switch was taken")
    check(host.row("mine")["pid"] == pid, "the instance was touched by a refusal")
    host.ctl("stop", "-fw", "mine")
    gone(host, "mine")
    host.write(text())
    apply()
    check(not any("mine" in name or "extra" in name for name in links()), f"links: {links()}")


NEEDS_KVM = {"local_interface", "loose_interfaces", "instance", "new_vm", "instance_disk",
             "instance_and_apply"}
