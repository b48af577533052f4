"""Stories of end-to-end about ssh host keys that are made here: who gets the private one and when,
and what the DNS is told of the public one. Each gets a Host."""

import io
import os
import re
import sqlite3
import stat
import subprocess
import tarfile

from deploy_stories import file_of, order, own_accounts, text_of, vmhost
from install_stories import (A, B, LAN, MAC_A, check, clients, curl, get, machine, phases, reinstall,
                             sets_folder, state, wait_until)

NEEDS_KVM = {"host_key_install", "host_key_failed", "host_key_deploy", "suspended_vm"}
LIMIT_S = 60.0
SETS = "pub/OpenBSD/7.8/amd64"
OWN = f"{SETS}/site78-a-host.tgz"
PRIVATE = "etc/ssh/ssh_host_ed25519_key"


def fetch(where, path, source):
    """Status, and the bytes behind the head."""
    done = subprocess.run(curl(where, path, source), capture_output=True, timeout=LIMIT_S).stdout
    head, _, body = done.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


def files_of(body):
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as archive:
        return {one.name: (one.mode, archive.extractfile(one).read().decode()) for one in archive}


def public_of(host, private):
    """As OpenSSH derives it."""
    path = host.path("derived")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(private)
    try:
        done = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True)
        check(done.returncode == 0, f"ssh-keygen: {done.stderr}")
    finally:
        os.unlink(path)
    return done.stdout.split()[1]


def stored(host):
    where = sqlite3.connect(f"file:{host.path('host.db')}?mode=ro", uri=True)
    try:
        return where.execute("SELECT installation, public, private FROM host_key").fetchall()
    finally:
        where.close()


def program(host, script):
    """An sshfp_command that writes down what it is given, and then goes on with the script."""
    path = host.path("publish")
    with open(path, "w") as out:
        out.write(f'#!/bin/sh\n{{ echo "$@"; cat; }} >>{host.path("told")}\n{script}\n')
    os.chmod(path, 0o700)
    return path


def told(host):
    """What it was given since the last time."""
    if not os.path.exists(host.path("told")):
        return ""
    with open(host.path("told")) as file:
        text = file.read()
    os.unlink(host.path("told"))
    return text


def keyed(host, more="", install=""):
    return (f'[install]\nsets = "{sets_folder(host)}"\n{more}' + LAN +
            machine("a", A, MAC_A, f'boot = "{host.guest("installer")}"\n',
                    f'kernel = "{host.guest("installer")}"\nhost_keys = true\n{install}') +
            machine("b", B, "fe:e1:bb:d1:00:02"))


def test_host_key_install(host):
    """The site set with the private key: listed, but only there between the answers and the end of
    the installer, for its VM alone; and forgotten afterwards."""
    site = '[vm.a.install.site]\nsysctl = { "kern.hz" = "100" }\n'
    with clients(host) as where:
        text = keyed(host) + site
        host.run(text, "--debug-exit")
        host.ctl("start", "a")
        host.console("a", r"installer \[ready\]")
        (number, public, private), = stored(host)
        check(number == 1 and public_of(host, private) == public.split()[1], f"{number} {public}")
        check(private not in host.logged() and private.splitlines()[2] not in host.logged(), "logged")
        check(fetch(where, OWN, A)[0] == 404, "before the answers")
        status, answers = get(where, "install.conf", A)
        check(status == 200 and "Checksum test for site78-a-host.tgz failed. Continue anyway = yes"
              in answers, answers)
        listed = fetch(where, f"{SETS}/index.txt", A)[1].decode()
        check(re.search(r" site78-a-host.tgz$", listed, re.M), listed)
        check("site78" not in fetch(where, f"{SETS}/index.txt", B)[1].decode(), "another's list")
        for _ in range(2):  # as often as it likes
            status, body = fetch(where, OWN, A)
            check(status == 200, f"its own: {status}")
            files = files_of(body)
        check(files[PRIVATE] == (0o600, private), f"{files[PRIVATE][0]:o}")
        check(files[PRIVATE + ".pub"] == (0o644, public + "\n"), f"{files}")
        check(files["etc/sysctl.conf"][1] == "kern.hz=100\n", f"{files}")
        for source in (B, "10.9.8.99"):
            check(fetch(where, OWN, source)[0] == 404, f"for {source}")
        wait_until(lambda: host.row("a")["install"]["set"] == "site78-a-host.tgz", "it to count")
        # The next daemon goes on with it.
        host.process.kill()
        host.process.wait()
        wait_until(lambda: ":0043 " not in open("/proc/self/net/udp").read(), "DHCP to go")
        host.run(text, "--debug-exit")
        check(fetch(where, OWN, A)[0] == 200, "by the next daemon")
        host.console("a", r"\[ready\]", stdin="r")
        wait_until(lambda: phases(host)[-1] == "rebooted", "the reboot")
        check(fetch(where, OWN, A)[0] == 404, "after the reboot")
        check(stored(host) == [(1, public, "")], "what is kept")
        check("refused: sealed" in host.logged(), "the log")
        for name in filter(os.path.exists, map(host.path, ("host.db", "host.db-wal"))):
            with open(name, "rb") as file:
                check(private.splitlines()[2].encode() not in file.read(), f"in {name}")
            check(stat.S_IMODE(os.stat(name).st_mode) == 0o600, f"mode of {name}")
        reinstall(host, "-y", "a")
        (number, other, private), = stored(host)
        check(number == 2 and other != public and private, "the next installation's")
        check(vmhost(host, "sshfp", "a").stdout.startswith("a-host. IN SSHFP 4 2 "), "its record")
        reinstall(host, "-y", "--upgrade", "a")
        check(stored(host)[0][1] == other, "an upgrade keeps it")
        check(state(host)[1] == "upgrade", f"{host.row('a')}")
        body = wait_until(lambda: (lambda status, body: body if status == 200 else None)(
            *fetch(where, OWN, A)), "its site set without the key")
        check(set(files_of(body)) == {"etc/sysctl.conf"}, f"{set(files_of(body))}")


def test_host_key_failed(host):
    """An installer that gives up gets nothing any more."""
    with clients(host) as where:
        host.run(keyed(host), "--debug-exit")
        host.ctl("start", "a")
        host.console("a", r"installer \[ready\]")
        check(get(where, "install.conf", A)[0] == 200, "its answers")
        check(set(files_of(fetch(where, OWN, A)[1])) == {PRIVATE, PRIVATE + ".pub"}, "the set")
        host.console("a", r"failed; check", stdin="f")
        wait_until(lambda: host.row("a")["install"]["failed"], "the failure")
        check(fetch(where, OWN, A)[0] == 404, "after it has failed")
        check(stored(host)[0][2] == "", "the private key is kept")


def test_host_key_config(host):
    """What host_keys needs."""
    for text, complaint in (
            (LAN + machine("a", A, MAC_A, install="host_keys = true\n"), 'give [install] "sets"'),
            ('[install]\nsets = "/x"\nrelease = "snapshots"\n' + LAN +
             machine("a", A, MAC_A, install="host_keys = true\n"), "has no number"),
            ('[install]\nsshfp_command = "publish"\n', "does not begin with")):
        host.write(text)
        said = vmhost(host, "config", "check", status=1)
        check(complaint in said.stdout + said.stderr, f"{complaint}: {said}")


def test_host_key_deploy(host):
    """Records go to the DNS with a VM, with a new key, and go with the VM; what fails is told and
    can be sent again."""
    publish = program(host, f'[ ! -e {host.path("broken")} ] || {{ echo no such zone >&2; exit 3; }}')
    text = file_of(host, f'[install]\nsets = "{sets_folder(host)}"\nsshfp_command = "{publish}"\n')
    text = text.replace('install = { timezone', 'install = { host_keys = true, timezone')
    with own_accounts(host):
        host.run(text)
        order(host, "vm13.txt", "alice")
        vmhost(host, "deploy", "-n", "vms")
        check(told(host) == "", "by a dry run")
        vmhost(host, "deploy", "-y", "vms")
        records = vmhost(host, "sshfp", "vm13").stdout
        name = records.split()[0]
        check(re.fullmatch(r"puffy\S*\. IN SSHFP 4 2 [0-9a-f]{64}\n", records), records)
        check(told(host) == f"update {name}\n{records}", "deploy")
        vmhost(host, "deploy", "-y", "vms")
        check(told(host) == "", "nothing new")
        said = reinstall(host, "-f", host.path("vmhost.toml"), "-y", "vm13")
        again = vmhost(host, "sshfp", "vm13").stdout
        check(again != records and told(host) == f"update {name}\n{again}", f"reinstall {said}")
        # A program that fails: the VM is there all the same.
        open(host.path("broken"), "w").close()
        order(host, "vm14.txt", "bob", 'hostname2="x"\n')
        failed = vmhost(host, "deploy", "-y", "vms", status=1)
        check("warning: vm vm14: its SSHFP records are not published: " in failed.stderr and
              "ended with status 3: no such zone" in failed.stderr and
              "sshfp --send vm14" in failed.stderr, failed.stderr)
        check(host.row("vm14")["install"]["state"] == "armed", "the VM")
        told(host)
        check("status 3" in vmhost(host, "sshfp", "--send", "vm14", status=1).stderr, "again")
        os.unlink(host.path("broken"))
        told(host)
        both = vmhost(host, "sshfp", "--send", "vm13", "vm14").stdout
        check(both.splitlines()[0] + "\n" == again and len(both.splitlines()) == 2, both)
        check(told(host).count("update ") == 2, "both are sent")
        vmhost(host, "undeploy", "-y", "vm13")
        check(told(host) == f"delete {name}\n", "undeploy")
        check("vm13" not in text_of(host), "it is gone")
        check("has no vm" in vmhost(host, "sshfp", "vm13", status=1).stderr, "unknown")


def test_suspended_vm(host):
    """A suspended VM: not for its owner to start, nor started with the host."""
    def of(suspended):
        return ('[vm.a]\nmemory = "16M"\nowner = "1000"\n'
                f'boot = "{host.guest("idle")}"\nsuspended = {suspended}\n')

    def owner(*words):
        return subprocess.run([host.vmctl, "-s", host.socket, *words], capture_output=True,
                              text=True, timeout=LIMIT_S, user=1000, group=1000, extra_groups=[])
    host.run(of("true"), "--debug-exit")
    os.chmod(host.socket, 0o666)
    check(host.row("a")["state"] == "stopped" and host.row("a")["suspended"], f"{host.row('a')}")
    refused = owner("start", "a")
    check(refused.returncode == 1 and "suspended" in refused.stderr, f"{refused}")
    host.ctl("start", "a")
    wait_until(lambda: host.row("a")["state"] == "running", "root's start")
    check(owner("stop", "-f", "-w", "a").returncode == 0, "the owner ends it")
    host.write(of("false"))
    vmhost(host, "apply", "-y", "-s", host.socket)
    check(owner("start", "a").returncode == 0, "and starts it again")
