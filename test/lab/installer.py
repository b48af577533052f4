"""The guest that installs itself: an installer of our own that follows the protocol of OpenBSD's
ramdisk (installer/), and the sets it installs: a small Linux with sshd that boots from its disk by
GRUB. The list of sets is signed by signify with a key of this build, which the installer carries
as OpenBSD's does.

write(folder, cache) makes in the folder:
    installer.img   initramfs of the installer; its kernel is the lab's
    pub/7.8/amd64   bsd, base78.tgz, man78.tgz, game78.tgz, INSTALL.amd64, SHA256.sig
"""
import gzip
import hashlib
import io
import pathlib
import re
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True
import cpio  # noqa: E402
import kernel as kernels  # noqa: E402

BUSYBOX = pathlib.Path("/bin/busybox")
GRUB = pathlib.Path("/usr/lib/grub/i386-pc")
DISK_MODULES = ["virtio_pci", "virtio_blk", "ext4", "crc32c_generic"]
MODULES = [*DISK_MODULES, "virtio_net", "virtio_rng", "af_packet", "ipv6", "button", "evdev"]
GRUB_MODULES = ["biosdisk", "part_msdos", "ext2", "normal", "linux", "serial", "terminal", "echo"]
GRUB_CFG = """serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
echo "GRUB reads the disk"
linux /bsd console=ttyS0 net.ifnames=0 panic=-1 random.trust_cpu=on quiet
initrd /boot/start.img
boot
"""
NEEDED = {"/usr/sbin/dropbear": "dropbear-bin", "/usr/bin/signify-openbsd": "signify-openbsd",
          "/usr/bin/grub-mkimage": "grub-common", str(GRUB): "grub-pc-bin"}


def missing():
    """The packages that are not there."""
    return [package for path, package in NEEDED.items() if not pathlib.Path(path).exists()]


def with_libraries(program):
    """(place, bytes) of a program and what its loader looks for."""
    listing = kernels.run(["ldd", program])
    for path in [program, *re.findall(r"(?:=> |^\t)(/\S+) \(", listing, re.M)]:
        yield path.lstrip("/"), pathlib.Path(path).read_bytes()


def initramfs(kernel, modules, init):
    """One that has busybox, these modules and this first process, and what else is added."""
    archive = cpio.Archive()
    for name in ("bin", "dev", "proc", "sys", "root"):
        archive.directory(name)
    archive.character_device("dev/console", 5, 1)
    archive.character_device("dev/null", 1, 3, 0o666)
    archive.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    archive.file("init", (HERE / "installer" / init).read_bytes(), 0o755)
    order = kernel.closure(modules)
    for name, data in order:
        archive.file(f"modules/{name}.ko", data)
    archive.file("modules.list", "".join(f"{name}\n" for name, _ in order).encode())
    return archive


def installer_image(kernel, public_key):
    archive = initramfs(kernel, MODULES, "init")
    archive.file("questions", (HERE / "installer/questions").read_bytes())
    archive.file("lease", (HERE / "guest/lease").read_bytes(), 0o755)
    archive.file("etc/signify/openbsd-78-base.pub", public_key)
    for place, data in with_libraries("/usr/bin/signify-openbsd"):
        archive.file(place, data, 0o755)
    return archive.bytes()


class Set:
    """A .tgz of files that belong to root."""

    def __init__(self):
        self.out = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.out, mode="w", format=tarfile.USTAR_FORMAT)

    def directory(self, name, mode=0o755):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self.tar.addfile(entry)

    def file(self, name, data, mode=0o644):
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), mode
        self.tar.addfile(entry, io.BytesIO(data))

    def link(self, name, target):
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self.tar.addfile(entry)

    def bytes(self):
        self.tar.close()
        return gzip.compress(self.out.getvalue(), 6, mtime=0)


def grub_core():
    with tempfile.TemporaryDirectory() as folder:
        core = pathlib.Path(folder, "core.img")
        kernels.run(["grub-mkimage", "-O", "i386-pc", "-d", str(GRUB),
                     "-p", "(hd0,msdos1)/boot/grub", "-o", str(core), *GRUB_MODULES])
        return core.read_bytes()


def base_set(kernel):
    base = Set()
    for name in ("bin", "boot", "boot/grub", "dev", "etc", "home", "proc", "sys", "usr", "usr/bin",
                 "usr/mdec", "usr/sbin", "sbin", "var", "run", "tmp"):
        base.directory(name)
    base.directory("root", 0o700)
    base.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    for applet in kernels.run([str(BUSYBOX), "--list"]).split():
        if applet != "busybox":
            base.link(f"bin/{applet}", "busybox")
    base.file("sbin/init", (HERE / "installer/system").read_bytes(), 0o755)
    base.file("etc/lease", (HERE / "guest/lease").read_bytes(), 0o755)
    base.file("etc/button", (HERE / "guest/button").read_bytes())
    base.file("etc/shells", b"/bin/sh\n")
    placed = set()
    for program in ("/usr/sbin/dropbear", "/usr/bin/dropbearkey"):
        for place, data in with_libraries(program):
            if place not in placed:
                placed.add(place)
                base.file(place, data, 0o755)
    base.file("boot/grub/grub.cfg", GRUB_CFG.encode())
    base.file("boot/start.img", initramfs(kernel, MODULES, "start").bytes())
    base.file("usr/mdec/boot", (GRUB / "boot.img").read_bytes()[:440])
    base.file("usr/mdec/core", grub_core())
    return base.bytes()


def page_set(name, text):
    pages = Set()
    pages.file(name, text)
    return pages.bytes()


def write(folder, cache):
    kernel = kernels.fetch(cache)
    sets = folder / "pub/7.8/amd64"
    sets.mkdir(parents=True)
    files = {
        "INSTALL.amd64": b"Sets of a small Linux that is installed as OpenBSD is.\n",
        "bsd": kernel.image.read_bytes(),
        "base78.tgz": base_set(kernel),
        "man78.tgz": page_set("usr/share/man/hello.1", b"hello(1)\n"),
        "game78.tgz": page_set("usr/games/hello", b"not wanted\n"),
    }
    for name, data in files.items():
        (sets / name).write_bytes(data)
    with tempfile.TemporaryDirectory() as keys:
        secret, public = (str(pathlib.Path(keys, f"openbsd-78-base.{kind}")) for kind in ("sec", "pub"))
        kernels.run(["signify-openbsd", "-G", "-n", "-p", public, "-s", secret])
        (pathlib.Path(keys) / "SHA256").write_text("".join(
            f"SHA256 ({name}) = {hashlib.sha256(data).hexdigest()}\n"
            for name, data in sorted(files.items())))
        kernels.run(["signify-openbsd", "-S", "-e", "-s", secret, "-m", str(pathlib.Path(keys, "SHA256")),
                     "-x", str(sets / "SHA256.sig")])
        (folder / "installer.img").write_bytes(
            installer_image(kernel, pathlib.Path(public).read_bytes()))
        (folder / "openbsd-78-base.pub").write_bytes(pathlib.Path(public).read_bytes())
