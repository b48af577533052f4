"""Debian's kernel and busybox for i386, unpacked into the cache.

The machine that runs the lab does not learn of another architecture: apt gets sources, lists
and a list of installed packages (an empty one) of its own, and dpkg only unpacks. No root.
"""
import shutil

import debian
import kernel as kernels

META_PACKAGE = "linux-image-686"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def folder(cache):
    return cache / "i386"


def busybox(cache):
    return folder(cache) / "busybox" / "bin" / "busybox"


def cannot_fetch(cache):
    """Why the packages are not there and cannot be fetched; None when nothing is in the way."""
    return None if (folder(cache) / "complete").exists() else debian.no_mirror()


def apt_options(state):
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(
        f"deb [signed-by={KEYRING}] {debian.MIRROR} {debian.SUITE} main\n")
    settings = {"Dir::State": state, "Dir::State::status": state / "status",
                "Dir::State::lists": state / "lists", "Dir::Cache": state / "cache",
                "Dir::Etc::sourcelist": state / "sources.list", "Dir::Etc::sourceparts": "-",
                "APT::Architecture": "i386", "APT::Architectures": "i386",
                "APT::Sandbox::User": ""}
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def fetch(cache):
    """The kernel; busybox() is there afterwards."""
    home = folder(cache)
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        state = home / "apt"
        options = apt_options(state)
        kernels.run(["apt-get", *options, "-q", "update"])
        kernels.unpack(kernels.package_name(META_PACKAGE, options), home / "kernel", options)
        kernels.unpack("busybox-static", home / "busybox", options)
        shutil.rmtree(state)
        (home / "complete").touch()
    return kernels.Kernel(home / "kernel")
