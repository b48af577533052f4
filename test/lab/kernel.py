"""The kernels of the lab: Debian's cloud kernel, unpacked but never installed.

`apt-get download` works without root and `dpkg -x` only unpacks, so the machine
that runs the lab is not changed. Modules are found by name and ordered by the
`depends=` line that every module carries in itself: no depmod, no kmod.
"""
import lzma
import os
import pathlib
import re
import shutil
import subprocess

META_PACKAGE = "linux-image-cloud-amd64"


def run(command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            **options)
    if result.returncode != 0:
        raise SystemExit(f"lab: {' '.join(command)}: exit status {result.returncode}\n"
                         f"{result.stdout}{result.stderr}")
    return result.stdout


def package_name(meta, options=()):
    """The package of the real kernel behind a meta package."""
    listing = run(["apt-cache", *options, "depends", meta])
    found = re.search(r"Depends: (linux-image-[0-9]\S+)", listing)
    if not found:
        raise SystemExit(f"lab: {meta}: apt-cache names no kernel package; run apt-get update")
    return found.group(1)


def unpack(package, target, options=()):
    """The content of a package as the folder target."""
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    staging.mkdir(parents=True)
    try:
        run(["apt-get", *options, "-q", "download", package], cwd=staging)
        archive = next(staging.glob("*.deb"))
        run(["dpkg", "-x", str(archive), str(staging / "root")])
        (staging / "root").rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class Kernel:
    def __init__(self, root):
        self.root = root
        self.image = next((root / "boot").glob("vmlinuz-*"))
        self.release = self.image.name.removeprefix("vmlinuz-")
        self.modules = {}
        for directory, _, files in os.walk(root / "lib/modules" / self.release):
            for name in files:
                stem, dot, suffix = name.partition(".ko")
                if dot and suffix in ("", ".xz"):
                    self.modules[stem.replace("-", "_")] = pathlib.Path(directory) / name

    def module(self, name):
        """The plain .ko bytes of a module."""
        path = self.modules[name]
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data

    def closure(self, names):
        """[(name, bytes)] in load order. A name that is no module is built in, or absent:
        the lab's own check of what it needs tells which."""
        order, seen = [], set()

        def visit(name):
            name = name.replace("-", "_")
            if name in seen or name not in self.modules:
                return
            seen.add(name)
            data = self.module(name)
            depends = re.search(rb"\0depends=([^\0]*)\0", data)
            for other in (depends.group(1).decode().split(",") if depends else []):
                if other:
                    visit(other)
            order.append((name, data))

        for name in names:
            visit(name)
        return order


def fetch(cache):
    """The newest kernel of the cache, downloaded when there is none."""
    kept = sorted((cache / "kernel").glob("*/boot/vmlinuz-*"))
    if kept:
        return Kernel(kept[-1].parent.parent)
    package = package_name(META_PACKAGE)
    target = cache / "kernel" / package
    unpack(package, target)
    return Kernel(target)
