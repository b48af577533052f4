"""From 300 orders to a file, images and answers.

The orders of a host with 300 customers, in one directory; `vmhost deploy -y` of all of them on a
file without a VM, from the start of the program to its end. No daemon runs, and no accounts are
made: what is measured is reading, allocating, checking, the images and the file. Then the same
again with nothing to do.
"""

import base64
import os
import shutil
import struct
import subprocess
import tempfile
import time

summary = "300 orders to a file and images"

ORDERS = 300
GOAL_S = 10


def ssh_key(number):
    blob = b"".join(struct.pack(">I", len(part)) + part
                    for part in (b"ssh-ed25519", struct.pack(">I", number) * 8))
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


def prepare(folder):
    os.mkdir(os.path.join(folder, "vms"))
    for number in range(1, ORDERS + 1):
        with open(os.path.join(folder, f"vms/vm{number}.txt"), "w") as out:
            out.write(f'date="2026/01/01"\nname="Person {number}"\nemail="p{number}@d.tld"\n'
                      f'hostname="host{number}"\nusername="user{number}"\n'
                      f'sshkey="{ssh_key(number)} p{number}@d.tld"\nmemory="512M"\n')
    with open(os.path.join(folder, "toml"), "w") as out:
        out.write(f'[host]\nname = "server8"\ndomain = "example.org"\nstate = "{folder}"\n'
                  f'[control]\nsocket = "{folder}/sock"\n'
                  '[switch.up]\nipv4 = "10.9.0.1/22"\nipv6 = "2001:db8:1::1/48"\n'
                  '[allocate]\nswitch = "up"\nmac_prefix = "fe:e1:bb:f1"\n'
                  'ipv4_start = "10.9.0.100"\nipv6_prefix = "2001:db8:1::/48"\nipv6_start = 600\n'
                  'accounts = false\n')


def deploy(bench, folder):
    begin = time.monotonic()
    done = subprocess.run([bench.binary, "deploy", "-f", os.path.join(folder, "toml"), "-y",
                           os.path.join(folder, "vms")], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    took_s = time.monotonic() - begin
    if done.returncode != 0:
        raise SystemExit(f"deploy: {done.stderr}")
    return took_s, done.stdout


def measure(bench):
    first, second = [], []
    for _ in range(bench.runs):
        folder = tempfile.mkdtemp(prefix="vmhost-bench-")
        try:
            prepare(folder)
            took_s, said = deploy(bench, folder)
            if said.count(" added for ") != ORDERS:
                raise SystemExit(f"deploy: not all were added: {said}")
            first.append(took_s)
            took_s, said = deploy(bench, folder)
            if said:
                raise SystemExit(f"deploy: the second run did something: {said}")
            second.append(took_s)
        finally:
            shutil.rmtree(folder)
    yield bench.Row(row=f"{ORDERS} orders", unit="s", ours=first, peer=[], peer_name="",
                    goal=f"<= {GOAL_S} s", met=lambda ours, _: ours <= GOAL_S)
    yield bench.Row(row=f"{ORDERS} orders, nothing to do", unit="s", ours=second, peer=[],
                    peer_name="")
