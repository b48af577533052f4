"""Stories of end-to-end about IPv6 on a switch and files by TFTP, without a guest. Each gets a
Host."""

import os
import re
import subprocess
import time

LIMIT_S = 60.0
SWITCH = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def vmhost(host, *words):
    done = subprocess.run([host.binary, words[0], "-f", host.path("vmhost.toml"), *words[1:]],
                          capture_output=True, text=True, timeout=LIMIT_S)
    check(done.returncode == 0, f"vmhost {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def addresses():
    return subprocess.run(["ip", "-6", "addr", "show", "dev", "br-lan"], capture_output=True,
                          text=True, check=True).stdout


def fetch(name):
    # Nobody at the port is silence to curl: it asks again until its time is over.
    return subprocess.run(["curl", "-s", "-m", "5", f"tftp://10.9.8.1/{name}"],
                          capture_output=True, timeout=LIMIT_S)


def test_ipv6_of_a_switch(host):
    """A bridge has its IPv6 address and a router's process; both go with the key."""
    vm = '[vm.a]\nenable = false\ninterface = [{ switch = "lan", ipv4 = "10.9.8.20" }]\n'
    host.run(SWITCH + 'ipv6 = "2001:db8:98::1/64"\n' + vm)
    there = addresses()
    check("2001:db8:98::1/64" in there and "fe80::" in there, there)
    check("tentative" not in there, there)
    check("2001:db8:98::a09:814" in vmhost(host, "explain", "a"), "the VM's address")
    check("ipv6 2001:db8:98::1/64" in vmhost(host, "net"), "the verb net")
    check("nothing to do" in vmhost(host, "plan"), "a plan without changes")
    host.write(SWITCH + vm)
    check("ipv6" in vmhost(host, "plan"), "the plan")
    vmhost(host, "apply", "-y")
    check("2001:db8" not in addresses() and "fe80::" not in addresses(), addresses())
    check(host.end() == 0, "exit status after SIGTERM")


def test_tftp(host):
    """Files of one directory, read by a process without any rights, and nothing else."""
    folder = host.path("boot")
    os.makedirs(os.path.join(folder, "amd64"))
    os.chmod(folder, 0o755)
    content = os.urandom(300_000)
    with open(os.path.join(folder, "amd64", "pxeboot"), "wb") as file:
        file.write(content)
    os.symlink("/etc/passwd", os.path.join(folder, "passwd"))
    host.run(SWITCH + f'[tftp]\ndirectory = "{folder}"\nlisten = ["10.9.8.1"]\n')
    check(fetch("amd64/pxeboot").stdout == content, "a file by TFTP")
    check(fetch("passwd").returncode != 0, "a link that leads out was followed")
    check(fetch("none").returncode == 68, "a file that is not there")
    metrics = host.ctl("metrics").stdout
    for line in (r'vmhost_tftp_requests_total\{outcome="sent"\} 1$',
                 r'vmhost_tftp_requests_total\{outcome="refused"\} 2$',
                 r'vmhost_tftp_bytes_total 300000$', r'vmhost_role_up\{role="tftp"\} 1$'):
        check(re.search(line, metrics, re.M), f"no {line} in the metrics")
    host.write(SWITCH)
    vmhost(host, "apply", "-y")
    end = time.monotonic() + LIMIT_S
    while fetch("amd64/pxeboot").returncode == 0:
        check(time.monotonic() < end, "it is served on")
    check(host.end() == 0, "exit status after SIGTERM")
