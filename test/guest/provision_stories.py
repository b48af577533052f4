"""Stories of end-to-end about other systems than OpenBSD: the files that their installers ask for,
in the order in which they do, which of them are given out once, and what the operator is told of a
template that is wrong. Each gets a Host."""

import os
import re
import subprocess

from install_stories import (A, B, LAN, LIMIT_S, MAC_A, MAC_B, check, clients, events, get, machine,
                             phases, reinstall, state, wait_until)

NEEDS_KVM = {"provision_ipxe_lease"}
KEY = 'sshkey = "ssh-ed25519 AAAA alice@home"\nuser = "alice"\n'


def system(name, more=""):
    return f'system = "{name}"\n{KEY}{more}'


def two(name, more=""):
    return LAN + machine("a", A, MAC_A, install=system(name, more)) + \
        machine("b", B, MAC_B, install=system(name, more))


def answers(host, *words, status=0):
    done = subprocess.run([host.binary, "answers", "-f", host.path("vmhost.toml"), *words],
                          capture_output=True, text=True, timeout=LIMIT_S)
    check(done.returncode == status, f"answers {words}: {done.returncode} {done}")
    return done.stdout + done.stderr


def config_check(host):
    return subprocess.run([host.binary, "config", "check", "-f", host.path("vmhost.toml")],
                          capture_output=True, text=True, timeout=LIMIT_S)


def count(host, outcome, number):
    shown = host.ctl("metrics").stdout
    check(re.search(rf'install_answers_total{{outcome="{outcome}"}} {number}$', shown, re.M),
          f"{outcome}: {shown}")


def secret_file(host, where, path, content):
    """Given out once, to its VM: path as the installer asks for it; content: a part of it."""
    name = path.rsplit("/", 1)[1] if "/" in path else path
    for source, asked, status in ((B, f"{MAC_A}-{name}", 404), ("10.9.8.99", path, 404),
                                  (A, f"{MAC_B}-{name}", 404), (B, f"a-host-{name}", 404)):
        check(get(where, asked, source)[0] == status, f"{asked} for {source}")
    check(get(where, path, A, "-I")[0] == 405, "HEAD")
    check(state(host)[0] == "armed", "sealed by who may not have it")
    status, body = get(where, path, A)
    check(status == 200 and content in body, f"{status} {body}")
    check(state(host)[:1] == ("sealed",) and phases(host)[-1] == "answers", f"{host.row('a')}")
    for again in (path, name, f"{MAC_A}-{name}"):
        status, refusal = get(where, again, A)
        check(status == 404 and "AAAA" not in refusal, f"again: {again}: {status}")
    count(host, "other-vm", 3)
    count(host, "unknown", 1)
    count(host, "sealed", 3)
    check(state(host, "b")[0] == "armed", "the other VM's")
    return body


def test_provision_cloud_init(host):
    """The seed as cloud-init's NoCloud fetches it: meta-data, user-data, vendor-data and
    network-config; at the next start all but user-data are there, with the same instance-id, and
    with another once it is armed again."""
    with clients(host) as where:
        host.run(two("cloud-init"))
        seed = "seed/"
        status, meta = get(where, seed + "meta-data", A)
        check(status == 200 and meta == 'instance-id: "a-1"\nlocal-hostname: "a-host"\n', meta)
        check(state(host) == ("armed", "install", 1), "meta-data sealed it")
        check(get(where, seed + "meta-data", B)[1].startswith('instance-id: "b-1"'), "the other's")
        check(get(where, f"{MAC_A}-meta-data", B)[0] == 404, "meta-data of another")
        check(get(where, "meta-data", "10.9.8.99")[0] == 404, "a stranger")
        status, user = get(where, seed + "user-data", A)
        check(status == 200 and user.startswith("#cloud-config\n") and
              "manual_cache_clean: true\n" in user and
              'ssh_authorized_keys: ["ssh-ed25519 AAAA alice@home"]\n' in user and
              "passwd: \"$6$" not in user, f"{status} {user}")
        check("secret-of-a" not in user and 'password: "$6$' in user, f"root's password: {user}")
        check(state(host) == ("sealed", "install", 1), f"{host.row('a')}")
        check(phases(host) == ["armed", "answers"], f"{host.row('a')}")
        check(get(where, seed + "vendor-data", A) == (200, ""), "vendor-data")
        status, network = get(where, seed + "network-config", A)
        check(status == 200 and f'match: {{macaddress: "{MAC_A}"}}' in network and
              "dhcp4: true" in network, network)
        # The next start, and the next daemon.
        host.end()
        host.run(two("cloud-init"))
        check(get(where, seed + "meta-data", A) == (200, meta), "another instance-id")
        check(get(where, seed + "user-data", A)[0] == 404, "a second reader")
        check(get(where, seed + "user-data", B)[0] == 200, "the other VM's")
        reinstall(host, "-y", "a")
        wait_until(lambda: get(where, "user-data", A)[0] == 200, "the file to be there again")
        check(get(where, "meta-data", A)[1].startswith('instance-id: "a-2"'), "the same instance")
        check("only OpenBSD's installer knows upgrades" in
              reinstall(host, "-y", "--upgrade", "a", status=1), "an upgrade")


def test_provision_preseed(host):
    """d-i asks for the URL that it was given, or beneath d-i/SUITE/./ of a host. Debian's own reader of
    such files, and the shell that runs its last line, have no complaint."""
    with clients(host) as where:
        host.run(two("preseed"))
        body = secret_file(host, where, "d-i/bookworm/./preseed.cfg",
                           "d-i netcfg/get_hostname string a-host\n")
        read = subprocess.run(["debconf-set-selections", "--checkonly"], input=body, text=True,
                              capture_output=True, timeout=LIMIT_S)
        check(read.returncode == 0 and read.stdout + read.stderr == "", f"debconf: {read}\n{body}")
        late = re.search(r"^d-i preseed/late_command string (.*)$", body.replace("\\\n", ""), re.M)
        check(late and "authorized_keys" in late[1], f"{body}")
        read = subprocess.run(["sh", "-n", "-c", late[1]], text=True, capture_output=True,
                              timeout=LIMIT_S)
        check(read.returncode == 0 and read.stderr == "", f"{late[1]}: {read}")


def test_provision_kickstart(host):
    """Anaconda's inst.ks=URL."""
    with clients(host) as where:
        host.run(two("kickstart"))
        secret_file(host, where, "lab/ks.cfg", 'sshkey --username=alice "ssh-ed25519 AAAA')
        check(("answer file", f"of installation 1, to {A}") in events(host), f"{events(host)}")


def write(host, name, text):
    with open(host.path(name), "w") as file:
        file.write(text)


def test_provision_ipxe(host):
    """A script by template while it is armed; from then on one that goes on to the disk."""
    write(host, "boot.txt", "#!ipxe\necho $${net0/ip} ${fqdn}\nboot ${server}/k host=${hostname}\n")
    with clients(host) as where:
        host.run(two("ipxe", 'template = "boot.txt"\n'))
        check(get(where, f"{MAC_A}-boot.ipxe", B)[0] == 404, "another's script")
        check(get(where, "boot.ipxe", "10.9.8.99")[0] == 404, "a stranger's script")
        done = get(where, "boot.ipxe", A)
        check(done == (200, "#!ipxe\necho ${net0/ip} a-host\nboot http://10.9.8.1/k host=a-host\n"),
              f"{done}")
        check(state(host) == ("sealed", "install", 1), f"{host.row('a')}")
        for path in ("boot.ipxe", f"{MAC_A}-boot.ipxe", "x/boot.ipxe"):
            check(get(where, path, A) == (200, "#!ipxe\nexit\n"), "after the seal")
        host.end()
        host.run(two("ipxe", 'template = "boot.txt"\n'))
        check(get(where, "boot.ipxe", A) == (200, "#!ipxe\nexit\n"), "after a restart")
        count(host, "served", 1)
        # What it says is looked at when it is asked for: what cannot be made uses up nothing.
        write(host, "boot.txt", "#!ipxe\necho ${hots}\n")
        check(get(where, "boot.ipxe", B)[0] == 503 and state(host, "b")[0] == "armed", "a bad text")
        check('boot.txt:2:6: vm "b": there is no variable "hots"' in host.logged(), host.logged())
        write(host, "boot.txt", "#!ipxe\necho ${hostname}\n")
        check(get(where, "boot.ipxe", B) == (200, "#!ipxe\necho b-host\n"), "a good one")


def test_provision_ipxe_lease(host):
    """DHCP tells the script's URL while the VM is armed, and no boot file afterwards."""
    write(host, "boot.txt", "#!ipxe\nboot ${server}/k\n")
    install = system("ipxe", f'template = "boot.txt"\nkernel = "{host.guest("installer")}"\n')
    with clients(host) as where:
        host.run(LAN + machine("a", A, MAC_A, f'boot = "{host.guest("installer")}"\n', install),
                 "--debug-exit")
        host.ctl("start", "a")
        host.console("a", r"boot_file=http://10\.9\.8\.1/boot\.ipxe hostname=a-host", stdin="d")
        check(get(where, "boot.ipxe", A)[0] == 200, "its script")
        wait_until(lambda: re.search(r"boot_file= hostname", host.console(
            "a", r"siaddr", stdin="d")), "DHCP without a boot file")


def test_provision_openbsd_disklabel(host):
    """The layout of the disk is beside the answers, which name it; templates are answers too."""
    write(host, "parts", "/ 1g\nswap 512m\n/home *\n")
    with clients(host) as where:
        host.run(LAN + machine("a", A, MAC_A, install='disklabel = "parts"\n') +
                 machine("b", B, MAC_B))
        for _ in range(2):
            check(get(where, "disklabel", A) == (200, "/ 1g\nswap 512m\n/home *\n"), "the layout")
        check(get(where, "disklabel", B)[0] == 404, "for a VM that has none")
        check(get(where, f"{MAC_A}-disklabel", B)[0] == 404, "another's layout")
        check("URL to autopartitioning template for disklabel = http://10.9.8.1/disklabel\n" in
              get(where, "install.conf", A)[1], "the answers")
        check(get(where, "disklabel", A)[0] == 200, "after the seal")
        host.end()
        write(host, "text", "System hostname = ${fqdn}\nPassword for root = ${root_password}\n"
                            "What timezone are you in = UTC\n")
        host.run(LAN + machine("a", A, MAC_A) +
                 machine("b", B, MAC_B, install='template = "text"\n'))
        check(get(where, "install.conf", B)[1].startswith(
            "System hostname = b-host\nPassword for root = secret-of-b\n"), "of a template")


def test_provision_mistakes(host):
    """A template's mistakes are told with their line by config check and by a daemon that is to
    serve it, before any guest asks."""
    text = two("kickstart", 'template = "ks.txt"\n')
    write(host, "ks.txt", "text\nrootpw ${root_pasword}\n")
    host.write(text)
    done = config_check(host)
    check(done.returncode == 1 and
          done.stderr.startswith('ks.txt:2:8: vm "a": there is no variable "root_pasword"'), f"{done}")
    write(host, "ks.txt", "text\nsshkey --username=alice ${sshkey}\n")
    check("cannot be written here" in config_check(host).stderr, "a key without quotes")
    write(host, "ks.txt", 'text\nsshkey --username=alice "${sshkey}"\n')
    check(config_check(host).returncode == 0, f"{config_check(host)}")
    os.unlink(host.path("ks.txt"))
    check("ks.txt" in config_check(host).stderr, "a template that is not there")
    host.write(two("preseed", 'disklabel = "/d"\n'))
    check("vm.a.install.disklabel: only with system" in config_check(host).stderr, "disklabel")


def test_provision_answers(host):
    """What a VM would be served, without a daemon and without its secrets."""
    write(host, "ready", "as it is, with a secret\n")
    host.write(two("cloud-init") + machine("c", "10.9.8.12", "fe:e1:bb:d1:00:03") +
               machine("d", "10.9.8.13", "fe:e1:bb:d1:00:04", install='file = "ready"\n'))
    shown = answers(host, "a")
    check(shown.startswith("#cloud-config\n") and 'password: "$masked"' in shown, shown)
    check('password: "$6$' in answers(host, "--secrets", "a"), "with secrets")
    check(answers(host, "a", "meta-data").startswith('instance-id: "a-1"'), "another file")
    check("served no ks.cfg, but user-data, meta-data, vendor-data, network-config" in
          answers(host, "a", "ks.cfg", status=1), "a file that it has not")
    shown = answers(host, "c")
    check("System hostname = c-host\n" in shown and "Password for root = $masked\n" in shown, shown)
    check("Password for root = secret-of-c\n" in answers(host, "--secrets", "c"), "with secrets")
    check("Password" not in answers(host, "--upgrade", "c"), "an upgrade")
    check("--secrets prints it" in answers(host, "d", status=1), "a ready file")
    check(answers(host, "--secrets", "d") == "as it is, with a secret\n", "a ready file")
    check("has no vm x" in answers(host, "x", status=1), "a VM that is not there")
