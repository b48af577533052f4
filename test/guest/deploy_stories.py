"""Stories of end-to-end about orders: deploy, undeploy, sshfp. Each gets a Host.

Accounts are made in a copy of /etc and an empty /home, mounted over the real ones while a story
lasts: nothing of this machine is touched."""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time

LIMIT_S = 60.0
NEEDS_KVM = {"deploy", "deploy_image", "deploy_killed", "undeploy", "deploy_suspended"}
KEYS = {"alice": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a@d",
        "bob": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"}


def check(condition, text):
    if not condition:
        raise AssertionError(text)


@contextlib.contextmanager
def own_accounts(host):
    """/etc and /home of our own."""
    shutil.copytree("/etc", host.path("etc"), symlinks=True, ignore_dangling_symlinks=True)
    os.mkdir(host.path("home"))
    mounted = []
    try:
        for name in ("etc", "home"):
            subprocess.run(["mount", "--bind", host.path(name), "/" + name], check=True)
            mounted.append(name)
        yield
    finally:
        for name in reversed(mounted):
            subprocess.run(["umount", "-l", "/" + name], check=True)


def file_of(host, more=""):
    return ('# The host of this story\n[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'
            'ipv6 = "2001:db8:1::1/48"\n'
            '[allocate] # the rules\nswitch = "lan"\nmac_prefix = "fe:e1:bb:f1:c8"\n'
            'ipv4_start = "10.9.8.100"\nipv6_prefix = "2001:db8:1::/48"\nipv6_start = 600\n'
            f'images = "{host.folder}"\nboot = "{host.guest("idle")}"\nmemory = "16M"\n'
            'disk = "64M"\ngroup = "_vmusers"\ninstall = { timezone = "Europe/Amsterdam" }\n' + more)


def order(host, name, user, more=""):
    os.makedirs(host.path("vms"), exist_ok=True)
    with open(host.path(f"vms/{name}"), "w") as out:
        out.write(f'date="2019/09/21"\nname="A Person"\nemail="a@d.tld"\nhostname="puffy"\n'
                  f'username="{user}"\nsshkey="{KEYS[user]}"\n'
                  f'note="";$(touch {host.path("reboot")})"\n{more}')


def vmhost(host, *words, status=0):
    words = (*words[:2], "-f", host.path("vmhost.toml"), *words[2:]) if words[0] == "config" else \
        (words[0], "-f", host.path("vmhost.toml"), *words[1:])
    done = subprocess.run([host.binary, *words],
                          capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
                          cwd=host.folder)
    check(status is None or done.returncode == status,
          f"vmhost {' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done


def tree(*folders):
    """What is in them, byte for byte, with modes."""
    found = {}
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(where, name)
                about = os.lstat(path)
                content = b""
                if os.path.isfile(path) and not os.path.islink(path) and about.st_size < 1 << 20:
                    with open(path, "rb") as file:
                        content = file.read()
                found[path] = (about.st_mode, about.st_uid, about.st_size, content)
    return found


def text_of(host):
    with open(host.path("vmhost.toml")) as file:
        return file.read()


def keys_of(user):
    with open(f"/home/{user}/.ssh/authorized_keys") as file:
        return file.read()


def test_deploy(host):
    """Two orders, a plan, and minutes later two VMs that run; again, and nothing happens."""
    with own_accounts(host):
        host.run(file_of(host))
        base = text_of(host)
        order(host, "vm13.txt", "alice")
        order(host, "vm5.txt", "bob", 'format="raw"\ndisk="32M"\n')
        before = tree(host.path("vms"), "/etc", "/home"), text_of(host)
        said = vmhost(host, "deploy", "--dry-run", "vms").stdout
        for line in (r"^\+ vm13: account alice  \S+/vms/vm13.txt:5$",
                     r"^\+ vm13: image \S+/vm13.qcow2 created \(size 64M\)  \S+vm13.txt:1$",
                     r"^\+ vm13: added for alice: 16M, fe:e1:bb:f1:c8:13 10.9.8.113 "
                     r"2001:db8:1:613::113 puffy  \S+/vms/vm13.txt:1$",
                     r"^\+\[vm.vm13\]$", r"^\+password *= …$"):
            check(re.search(line, said, re.M), f"no {line!r} in\n{said}")
        check((tree(host.path("vms"), "/etc", "/home"), text_of(host)) == before,
              "a dry run has changed something")
        check(not os.path.exists(host.path("deployed")), "a dry run left a ledger")
        check("nobody is there to be asked" in vmhost(host, "deploy", "vms", status=1).stderr,
              "unasked")
        said = vmhost(host, "deploy", "-y", "vms").stdout
        expected = ("groupadd(8) creation:\n    _vmusers\n"
                    "useradd(8) creation:\n    bob\n    alice\n"
                    "    bob: key of the order added\n    alice: key of the order added\n"
                    "vmm(4)/vmd(8) files:\n"
                    f"    vm5 {host.path('vm5.raw')} created (size 32M)\n"
                    f"    vm13 {host.path('vm13.qcow2')} created (size 64M)\n"
                    "vmhost.toml(5):\n    vm5 added for bob")
        check(said.startswith(expected), said)
        check(text_of(host).startswith(base), "the file is not as it was")
        check(os.stat(host.path("vmhost.toml")).st_mode & 0o007 == 0, "others can read passwords")
        check(not os.path.exists(host.path("reboot")), "a note was executed")
        for user in KEYS:
            entry = pwd.getpwnam(user)
            about = os.stat(f"/home/{user}/.ssh/authorized_keys")
            check(about.st_uid == entry.pw_uid and about.st_mode & 0o777 == 0o600, f"{about}")
            check(os.stat(f"/home/{user}/.ssh").st_mode & 0o777 == 0o700, "mode of .ssh")
            check(keys_of(user) == KEYS[user] + "\n", "the key")
        check(os.path.getsize(host.path("vm5.raw")) == 32 << 20, "size of the raw image")
        for name, owner in (("vm13", "alice"), ("vm5", "bob")):
            row = host.row(name)
            check(row["state"] == "running" and row["owner"] == owner, f"{row}")
        # Whose it is may use it, and nothing else.
        os.chmod(host.socket, 0o666)
        alice = pwd.getpwnam("alice")
        for name, status in (("vm13", 0), ("vm5", 1)):
            done = subprocess.run([host.vmctl, "-s", host.socket, "stop", "-f", name],
                                  user=alice.pw_uid, group=alice.pw_gid, extra_groups=[],
                                  capture_output=True, text=True, timeout=LIMIT_S)
            check(done.returncode == status, f"alice stops {name}: {done}")
        before = tree(host.path("vms"), "/etc", "/home"), text_of(host)
        done = vmhost(host, "deploy", "-y", "vms")
        check(done.stdout == "" and done.stderr == "", f"a second run: {done}")
        check((tree(host.path("vms"), "/etc", "/home"), text_of(host)) == before, "it did something")
        check("nothing to do" in vmhost(host, "plan").stdout, "the daemon has all of it")
        # An order is gone.
        os.unlink(host.path("vms/vm5.txt"))
        said = vmhost(host, "deploy", "-y", "vms").stdout
        check("vm5 disabled: its order" in said, said)
        check(os.path.exists(host.path("vm5.raw")), "its image is gone")
        check("nothing to do" in vmhost(host, "plan").stdout, "the daemon knows that it is disabled")
        # Changes of somebody else are theirs to apply.
        with open(host.path("vmhost.toml"), "a") as file:
            file.write("[vm.other]\nenable = false\n")
        order(host, "vm14.txt", "alice")
        check("vmhost apply makes them first" in
              vmhost(host, "deploy", "-y", "vms", status=1).stderr, "changes of others")
        vmhost(host, "apply", "-y")
        vmhost(host, "deploy", "-y", "vms")
        check(host.row("vm14")["state"] == "running", "vm14")


def test_deploy_refused(host):
    """Everything wrong is told with its line, and nothing is changed."""
    with own_accounts(host):
        host.write(file_of(host))
        order(host, "vm13.txt", "alice")

        def refuse(*expected):
            before = tree(host.path("vms"), "/etc", "/home"), text_of(host)
            said = vmhost(host, "deploy", "-y", "vms", status=1).stderr
            for line in expected:
                check(re.search(line, said), f"no {line!r} in\n{said}")
            check((tree(host.path("vms"), "/etc", "/home"), text_of(host)) == before, "changed")
            check(not os.path.exists(host.path("deployed")), "a ledger was written")
        order(host, "vm155.txt", "bob")
        refuse(r"vms/vm155.txt:1:1: vm155: 10.9.8.255 is the broadcast address")
        os.unlink(host.path("vms/vm155.txt"))
        with open(host.path("vms/vm14.txt"), "w") as out:
            out.write('hostname="Puffy_1"\nusername="root"\nsshkey="command=x ' + KEYS["bob"] +
                      '"\nmemory="1Q"\n')
        refuse(r"vm14.txt:1:1: hostname: ", r"vm14.txt:2:1: username: ",
               r"vm14.txt:3:1: sshkey: .*no options", r"vm14.txt:4:1: memory: ")
        said = json.loads(vmhost(host, "deploy", "-y", "--json", "vms", status=1).stdout)
        check(not said["ok"] and said["complaints"][0]["line"] == 1, f"{said}")
        with open(host.path("vms/vm14.txt"), "w") as out:
            out.write('hostname="x"\nusername="alice"\nsshkey="' + KEYS["bob"] + '"\n')
        refuse(r"vm14.txt:2:1: \"alice\" has another key in \S+vm13.txt:6")
        os.mkfifo(host.path("vms/vm15.txt"))
        os.unlink(host.path("vms/vm14.txt"))
        refuse("not a regular file")
        os.unlink(host.path("vms/vm15.txt"))
        # An account of the machine's own.
        subprocess.run(["useradd", "-m", "bob"], check=True)
        order(host, "vm14.txt", "bob")
        refuse(r"\"bob\" is an account of this host that owns no VM")
        os.unlink(host.path("vms/vm14.txt"))
        # Without a daemon everything but starting is done.
        done = vmhost(host, "deploy", "-y", "vms")
        check("no daemon runs here" in done.stderr, done.stderr)
        vmhost(host, "config", "check")
        order(host, "vm13.txt", "alice", 'memory="24M"\n')
        said = vmhost(host, "deploy", "-y", "vms", status=1).stderr
        check(re.search(r"vm13: memory is 16M at \S+:\d+ and 24M in the order: --update", said), said)
        vmhost(host, "deploy", "-y", "--update", "vms")
        check('memory = "24M"' in text_of(host), "the update")
        said = vmhost(host, "deploy", "--due", "vms").stdout
        check(said.startswith("2020-09-21  vm13 ") and "a@d.tld" in said, said)


def cut_off(host, has_daemon):
    """kill -9 at many moments: the next run comes to the same end, and a daemon has it."""
    with own_accounts(host):
        if has_daemon:
            host.run(file_of(host))
        else:
            host.write(file_of(host))
        order(host, "vm1.txt", "alice")
        begin = time.monotonic()
        vmhost(host, "deploy", "-y", "vms")
        whole_s = time.monotonic() - begin
        cut = 0
        for number in range(2, 14):
            user = "bob" if number % 2 else "alice"
            order(host, f"vm{number}.txt", user)
            running = subprocess.Popen([host.binary, "deploy", "-f", host.path("vmhost.toml"), "-y",
                                        "vms"], cwd=host.folder, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(whole_s * (number - 2) / 11)
            running.kill()
            if running.wait() == -signal.SIGKILL:
                cut += 1
            else: # the first run took longer, as it had accounts to make
                whole_s *= 0.7
            vmhost(host, "config", "check")
            end = time.monotonic() + LIMIT_S
            while (done := vmhost(host, "deploy", "-y", "vms", status=None)).returncode != 0:
                # The daemon, or useradd(8), may still be at what the one that was killed asked for.
                check(time.monotonic() < end and
                      any(words in done.stderr for words in
                          ("is being applied", "useradd", f"/home/{user} of {user}: No such",
                           f"/home/{user} is not {user}'s")),
                      f"after the cut: {done}")
                time.sleep(0.1)
            while has_daemon and host.row(f"vm{number}")["state"] != "running":
                # What was killed may have asked for it, and it is still starting.
                check(time.monotonic() < end, f"vm{number} does not run")
                time.sleep(0.05)
            check(keys_of(user) == KEYS[user] + "\n", "keys")
            check(os.path.exists(host.path(f"vm{number}.qcow2")), "the image")
            done = vmhost(host, "deploy", "-y", "vms")
            check(done.stdout == "", f"a further run: {done.stdout}")
            check(text_of(host).count(f"[vm.vm{number}]") == 1, "the file")
        check(cut >= 4, f"only {cut} of 12 runs were cut off")
        if has_daemon:
            check("nothing to do" in vmhost(host, "plan").stdout, "the daemon has all of it")
        left = [name for name in os.listdir(host.folder) if name.endswith(".new")]
        check(not left, f"left behind: {left}")


def test_deploy_killed(host):
    cut_off(host, has_daemon=True)


def test_deploy_killed_without_daemon(host):
    cut_off(host, has_daemon=False)


def test_deploy_together(host):
    """Runs at the same time do not mix."""
    with own_accounts(host):
        host.write(file_of(host))
        for number in range(1, 9):
            order(host, f"vm{number}.txt", "alice" if number % 2 else "bob")
        runs = [subprocess.Popen([host.binary, "deploy", "-f", host.path("vmhost.toml"), "-y",
                                  host.path(f"vms/vm{number}.txt")], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                for number in range(1, 9)]
        for run in runs:
            said = run.communicate(timeout=LIMIT_S)[0]
            check(run.returncode == 0, said)
        for number in range(1, 9):
            check(text_of(host).count(f"[vm.vm{number}]") == 1, f"vm{number} in the file")
        done = vmhost(host, "deploy", "-y", "vms")
        check(done.stdout == "", done.stdout)


def test_undeploy(host):
    """A VM ends and goes, its image is put away, and its number is nobody else's."""
    with own_accounts(host):
        host.run(file_of(host, '# hers\n[vm.own]\nenable = false\n'))
        base = text_of(host)
        order(host, "vm13.txt", "alice")
        vmhost(host, "deploy", "-y", "vms")
        check(host.row("vm13")["state"] == "running", "vm13")
        check("nobody is there" in vmhost(host, "undeploy", "vm13", status=1).stderr, "unasked")
        said = vmhost(host, "undeploy", "-n", "vm13").stdout
        check("- vm13: removed; its images are kept until" in said and "-[vm.vm13]" in said, said)
        check("vm13" in text_of(host), "a dry run")
        said = vmhost(host, "undeploy", "-y", "--account", "vm13").stdout
        check("userdel(8) removal:\n    alice" in said and "kept as" in said, said)
        check(text_of(host) == base, f"the file:\n{text_of(host)}")
        names = os.listdir(host.folder)
        check("vm13.qcow2" not in names and
              any(re.fullmatch(r"vm13\.qcow2\.removed-\d{4}-\d\d-\d\d", name) for name in names),
              f"{names}")
        check("alice" not in [entry.pw_name for entry in pwd.getpwall()], "the account")
        check(os.path.exists("/home/alice"), "the home")
        rows = json.loads(host.ctl("status", "--json").stdout)
        check([row["name"] for row in rows] == ["own"], f"{rows}")
        check(os.path.exists(host.path("vms/vm13.txt")), "the order")
        done = vmhost(host, "deploy", "-y", "vms")
        check(done.stdout == "" and "its order is passed over" in done.stderr, f"again: {done}")
        # A file without a number gets the next one; another person does not get 13.
        os.rename(host.path("vms/vm13.txt"), host.path("old.txt"))
        order(host, "vm13.txt", "bob")
        check("its number is kept until" in vmhost(host, "deploy", "-y", "vms", status=1).stderr,
              "the number")
        os.rename(host.path("vms/vm13.txt"), host.path("vms/any.txt"))
        vmhost(host, "deploy", "-y", "vms")
        check(host.row("vm14")["owner"] == "bob", "the next number")
        check("there is no VM" in vmhost(host, "undeploy", "-y", "nobody", status=1).stderr, "unknown")


def test_deploy_suspended(host):
    """state = suspended in an order ends a VM, and its owner cannot start it."""
    with own_accounts(host):
        host.run(file_of(host))
        order(host, "vm13.txt", "alice")
        vmhost(host, "deploy", "-y", "vms")
        order(host, "vm13.txt", "alice", 'state="suspended"\n')
        said = vmhost(host, "deploy", "-y", "vms").stdout
        check("vm13 suspended" in said and "vm vm13: asked to end" in said, said)
        check("suspended = true" in text_of(host), "the file")


def test_deploy_image(host):
    """An order's disk begins as a template, is what was done to it, and begins so again when the VM
    is installed anew: not while it runs, and not by what strangers may not read."""
    with own_accounts(host):
        host.run(file_of(host))
        for name, mode in (("ready.qcow2", 0o644), ("private.qcow2", 0o600)):
            subprocess.run([host.vmctl, "create", "-s", "16M", host.path(name)], check=True,
                           capture_output=True)
            os.chmod(host.path(name), mode)
        base = text_of(host)
        for image, why in (("private.qcow2", "may not be named by orders"),
                           ("none.qcow2", "none.qcow2: No such file"),
                           ("../ready.qcow2", "is no name of an image"),
                           ("vmhost.toml.raw", "No such file")):
            order(host, "vm13.txt", "alice", f'image="{image}"\n')
            said = vmhost(host, "deploy", "-y", "vms", status=1).stderr
            check(why in said and "vm13.txt:8:1: " in said, said)
        check(text_of(host) == base and not os.path.exists(host.path("vm13.qcow2")), "it was refused")

        order(host, "vm13.txt", "alice", 'image="ready.qcow2"\n')
        said = vmhost(host, "deploy", "-n", "vms").stdout
        check(f'vm13.qcow2 created (size 64M, on {host.path("ready.qcow2")})' in said and
              '+system = "cloud-init"' in said, said)
        vmhost(host, "deploy", "-y", "vms")
        check(host.row("vm13")["state"] == "running", "vm13")
        about = subprocess.run([host.binary, "image", "info", host.path("vm13.qcow2")], check=True,
                               capture_output=True, text=True).stdout
        check("ready.qcow2" in about, about)
        done = vmhost(host, "deploy", "-y", "vms")
        check(done.stdout == "" and done.stderr == "", f"a second run: {done}")
        # The template is a disk of nobody: it is not for another order to write.
        order(host, "vm14.txt", "bob", 'image="vm13.qcow2"\n')
        check("is the disk of vm13" in vmhost(host, "deploy", "-y", "vms", status=1).stderr, "vm14")
        os.unlink(host.path("vms/vm14.txt"))

        def reinstall():
            return subprocess.run([host.binary, "reinstall", "-s", host.socket, "-y", "vm13"],
                                  capture_output=True, text=True, timeout=LIMIT_S)
        before = os.stat(host.path("vm13.qcow2")).st_ino
        done = reinstall()
        check(done.returncode == 1 and "stop it first" in done.stderr, f"{done}")
        host.ctl("stop", "-f", "-w", "vm13")
        done = reinstall()
        check(done.returncode == 0 and "installation 2" in done.stdout, f"{done}")
        check(os.stat(host.path("vm13.qcow2")).st_ino != before, "the disk is the old one")
        check(not os.path.exists(host.path("vm13.qcow2.new")), "something is left behind")
        host.ctl("start", "vm13")
        # A snapshot would lose what lies below it.
        host.ctl("snapshot", "vm13", "one")
        host.ctl("stop", "-f", "-w", "vm13")
        before = os.stat(host.path("vm13.qcow2")).st_ino
        done = reinstall()
        check(done.returncode == 1 and "has snapshots" in done.stderr, f"{done}")
        check(os.stat(host.path("vm13.qcow2")).st_ino == before, "the disk was replaced")


def test_sshfp(host):
    """SSHFP records of a VM's host key, under the name that it was installed with."""
    host.write('[vm.a]\n[vm.a.install]\nhostname = "puffy.example.org"\n')
    with open(host.path("keys"), "w") as out:
        out.write("# 10.0.0.1:22 SSH-2.0-OpenSSH\n10.0.0.1 " + KEYS["bob"] + "\n")
    digest = "a87f1b687ac0e57d2a081a2f282672334d90ed316d2b818ca9580ea384d92401"
    check(vmhost(host, "sshfp", "-k", host.path("keys"), "a").stdout ==
          f"puffy.example.org. IN SSHFP 4 2 {digest}\n", "by SHA-256")
    check(vmhost(host, "sshfp", "--sha1", "--generic", "-k", host.path("keys"), "h.org").stdout ==
          "h.org. IN TYPE44 \\# 22 04 01 06a2de9a2d0f034701d67917e49cfc45a03c2e61\n"
          f"h.org. IN TYPE44 \\# 34 04 02 {digest}\n", "by both")
    check("no key" in vmhost(host, "sshfp", "-k", "/dev/null", "a", status=1).stderr, "no key")
