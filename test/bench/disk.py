"""Random reads of 4 KiB through the two ways of asynchronous disk I/O.

Ours is the kernel's ring, the peer our own pool threads, both as virtio-blk uses
them; the images lie in the page cache. Says which of them should be the default.
"""

import os
import shutil
import subprocess
import tempfile

summary = "4 KiB random reads: io_uring against pool threads"

SECONDS = "1"


def measure(bench):
    tool = os.path.join(bench.root, "build/release/test/bench/disk_io")
    subprocess.run(["ninja", "-C", os.path.join(bench.root, "build/release"),
                    "test/bench/disk_io"], check=True, stdout=subprocess.DEVNULL)
    folder = tempfile.mkdtemp(prefix="vmhost-bench-")
    try:
        raw = os.path.join(folder, "raw")
        with open(raw, "wb") as image:
            for _ in range(256):
                image.write(os.urandom(1 << 20))
        vmctl = os.path.join(folder, "vmctl")
        os.symlink(bench.binary, vmctl)
        subprocess.run([vmctl, "create", "-i", "raw:" + raw, "qcow2:" + raw + "2"], check=True,
                       stderr=subprocess.DEVNULL)
        for form, path in (("raw", raw), ("qcow2", raw + "2")):
            for depth in ("1", "32"):
                def run(way):
                    done = subprocess.run([tool, way, form, path, depth, SECONDS], check=True,
                                          stdout=subprocess.PIPE)
                    return float(done.stdout) / 1000
                ours, peer = bench.interleave(lambda: run("ring"), lambda: run("threads"))
                yield bench.Row(f"{form}, {depth} at a time", "k/s", ours, peer, "threads",
                                "ahead of the peer", lambda mine, other: mine > other)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
