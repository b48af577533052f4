"""The real OpenBSD of OPENBSD_MEDIA: a folder with what a mirror has of one release for amd64
(bsd.rd, SHA256.sig, baseVV.tgz and so on), as a tar archive that the lab has at /dev/vdb.

Nobody may be asked to fetch half a gigabyte for a test: without the folder a scenario that needs
it is skipped, and says why.
"""
import hashlib
import os
import pathlib
import re
import subprocess

# The least that the installer takes with the scenario's choice of sets.
NEEDED = ["bsd.rd", "bsd", "SHA256.sig"]
SETS = re.compile(r"(base|man)(\d\d)\.tgz$")
ALSO = {"BUILDINFO", "INSTALL.amd64", "bsd.mp", "index.txt"}


def folder():
    given = os.environ.get("OPENBSD_MEDIA")
    return pathlib.Path(given) if given else None


def cannot_use():
    """Why there is no such medium; None: there is."""
    media = folder()
    if media is None:
        return "OPENBSD_MEDIA names no folder with a release of OpenBSD for amd64"
    missing = [name for name in NEEDED if not (media / name).is_file()]
    missing += [f"{name}VV.tgz" for name in ("base", "man") if not list(media.glob(f"{name}[0-9][0-9].tgz"))]
    return f"{media} (OPENBSD_MEDIA) has no {', '.join(missing)}" if missing else None


def release():
    """Of the sets: "7.8"."""
    digits = SETS.match(next(folder().glob("base[0-9][0-9].tgz")).name)[2]
    return f"{digits[0]}.{digits[1]}"


def build(cache):
    """The archive; its names are RELEASE/amd64/FILE."""
    media = folder()
    files = sorted(path for path in media.iterdir()
                   if path.is_file() and (path.name in NEEDED or path.name in ALSO or SETS.match(path.name)))
    seen = "".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in files)
    archive = cache / f"openbsd-{hashlib.sha256(seen.encode()).hexdigest()[:16]}.tar"
    if not archive.exists():
        for old in cache.glob("openbsd-*.tar"):
            old.unlink()
        fresh = archive.with_suffix(".new")
        subprocess.run(["tar", "-c", "-f", str(fresh), "--transform", f"s|^|{release()}/amd64/|", "-C",
                        str(media), *(path.name for path in files)], check=True)
        fresh.rename(archive)
    return archive
