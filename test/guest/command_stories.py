"""Stories of end-to-end about commands that need no guest. Each gets a Host."""

import os
import subprocess


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def test_import(host):
    """A vm.conf becomes a file that config check accepts; nothing is replaced unasked."""
    def run(*words, status=0):
        done = subprocess.run([host.binary, *words], capture_output=True, text=True,
                              cwd=host.folder, timeout=60)
        check(done.returncode == status, f"{words}: exit {done.returncode}: {done.stderr}")
        return done

    with open(host.path("vm.conf"), "w") as conf:
        conf.write('dir="/var/vmm/"\nswitch "uplink" {\n\tinterface bridge0\n\trdomain 254\n}\n'
                   'vm "a" {\n\tmemory 1G\n\tdisk $dir "a.img"\n'
                   '\tinterface tap { switch "uplink" }\n}\n')
    done = run("import", "vm.conf")
    check('path = "/var/vmm/a.img"' in done.stdout, done.stdout)
    check("vm.conf:4: warning: rdomain 254" in done.stderr, done.stderr)
    check("# vm.conf:4: rdomain 254" in done.stdout, done.stdout)
    run("import", "-D", "dir=/srv/", "-o", "new.toml", "vm.conf")
    check(run("config", "check", "-f", "new.toml").stdout == "configuration OK\n", "config check")
    with open(host.path("new.toml")) as made:
        check('path = "/srv/a.img"' in made.read(), "a macro of the command line")
    check("exists" in run("import", "-o", "new.toml", "vm.conf", status=1).stderr, "replaced")
    with open(host.path("new.toml")) as made:
        check("/srv/" in made.read(), "the file was replaced without -f")
    run("import", "-f", "-o", "new.toml", "vm.conf")
    with open(host.path("new.toml")) as made:
        check("/var/vmm/" in made.read(), "the file was not replaced with -f")
    with open(host.path("vm.conf"), "a") as conf:
        conf.write('vm "b" {\n\tmemry 1G\n}\n')
    done = run("import", "-f", "-o", "new.toml", "vm.conf", status=1)
    check(done.stderr == 'vm.conf:12:2: unknown option "memry" of a VM: did you mean "memory"?\n',
          done.stderr)
    with open(host.path("new.toml")) as made:
        check("/var/vmm/" in made.read(), "the file was touched by a failure")
    run("import", "gone.conf", status=1)
    run("import", "-D", "x", "vm.conf", status=1)
    check(sorted(os.listdir(host.folder)) == ["new.toml", "vm.conf", "vmctl"], "files were left")


COMPLETE = """
PATH="$1:$PATH"
. "$1/completion"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_vmhost
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_completion(host):
    """What bash is offered for a line, with the names of the VMs that the daemon has."""
    with open(host.path("completion"), "w") as script:
        script.write(subprocess.run([host.binary, "completion", "bash"], capture_output=True,
                                    text=True, check=True).stdout)
    host.run('[vm.alpha]\nenable = false\n[vm.beta]\nenable = false\n')

    def offered(*words):
        done = subprocess.run(["bash", "-c", COMPLETE, "bash", host.folder, *words],
                              capture_output=True, text=True, timeout=60, cwd=host.folder)
        check(done.returncode == 0 and not done.stderr, f"{words}: {done.stderr}")
        return set(done.stdout.split())

    def expect(words, wanted, unwanted=()):
        got = offered(*words)
        check(set(wanted) <= got and not set(unwanted) & got, f"{words}: {sorted(got)}")

    socket = ("-s", host.socket)
    expect(["vmctl", ""], ["start", "stop", "status", "console", "create", "--help"], ["run"])
    expect(["vmctl", "sta"], ["start", "status"], ["stop"])
    expect(["vmctl", "start", "-"], ["-c", "-B", "-t", "-d"], ["alpha", "-a"])
    expect(["vmctl", *socket, "start", ""], ["alpha", "beta"])
    expect(["vmctl", *socket, "start", "al"], ["alpha"], ["beta"])
    expect(["vmctl", *socket, "start", "-t", ""], ["alpha", "beta"], ["-c"])
    expect(["vmctl", "start", "-B", ""], ["cdrom", "disk", "net"], ["alpha"])
    expect(["vmctl", "start", "-m", ""], [], ["alpha", "-c"])
    expect(["vmctl", "t"], ["top"])
    expect(["vmctl", "top", "-"], ["-d", "-n", "--json"], ["-f"])
    expect(["vmctl", "reset", ""], ["all", "switches", "vms"], ["alpha"])
    expect(["vmctl", *socket, "events", "-f", ""], ["alpha", "beta"])
    expect(["vmctl", *socket, "log", "-p", ""], ["serial", "virtio"], ["alpha"])
    expect(["vmctl", *socket, "log", ""], ["alpha", "beta"])
    expect(["vmctl", "create", "comp"], ["completion"])
    expect(["vmctl", "start", "-b", "vmhost.t"], ["vmhost.toml"])
    expect(["vmctl", *socket, "cdrom", "alpha", "vmhost.t"], ["vmhost.toml"], ["alpha"])
    expect(["vmhost", ""], ["run", "config", "image", "import", "completion"], ["start"])
    expect(["vmhost", "config", ""], ["check", "show"], ["run"])
    expect(["vmhost", "config", "check", "-"], ["-f", "--file", "--json"], ["-k"])
    expect(["vmhost", "completion", ""], ["bash", "zsh", "fish"])
    expect(["vmhost", "run", "-f", "vmhost."], ["vmhost.toml"])
    # Nobody is asked when there is nobody to ask.
    expect(["vmctl", "-s", host.path("nobody"), "start", "al"], [], ["alpha"])
    for shell, syntax in (("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"]), ("bash", ["bash", "-n"])):
        script = subprocess.run([host.binary, "completion", shell], capture_output=True, text=True,
                                check=True).stdout
        check("vmctl" in script and len(script) > 2000, f"{shell}: {script}")
        with open(host.path(shell), "w") as out:
            out.write(script)
        if any(os.access(os.path.join(folder, shell), os.X_OK)
               for folder in os.environ["PATH"].split(":")):
            subprocess.run([*syntax, host.path(shell)], check=True)
    done = subprocess.run([host.binary, "completion", "csh"], capture_output=True, text=True)
    check(done.returncode == 1 and "csh" in done.stderr, done.stderr)
