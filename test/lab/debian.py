"""Debians installed to a disk, as the lab's guests boot them: built once, kept in the cache.

One tells a story on its console; the other is a template with cloud-init and sshd, as it would be
made for many machines: no host keys, no name, no network of its own.

debootstrap unpacks a minimal system with a kernel into a folder; what the scenario needs is
added; mkfs.ext4 -d makes a filesystem of it at the place of the only partition, and GRUB for
BIOS goes between the partition table and that: boot.img in sector 0 and its core image, with
all modules inside, from sector 1 on, which is where both expect each other by default. Nothing
is mounted that others see, and no loop device is used. Root is needed, for debootstrap; takes minutes.
"""
import dataclasses
import hashlib
import inspect
import os
import shutil
import struct
import typing
import urllib.request

import kernel as kernels

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
# systemd: what an installed Debian runs. Without recommends: no udev rules for hardware we
# have not, no editors, no mail.
PACKAGES = ["linux-image-cloud-amd64", "systemd-sysv", "udev", "initramfs-tools", "kmod", "zstd"]
GRUB_MODULES = ["biosdisk", "part_msdos", "ext2", "normal", "linux", "serial", "terminal",
                "configfile", "echo", "test"]
START_BYTES = 1 << 20

GRUB_CFG = """serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
echo "GRUB reads the disk"
linux /vmlinuz root=/dev/vda1 ro console=ttyS0 net.ifnames=0 quiet
initrd /initrd.img
boot
"""

# The guest's part: on its first boot it writes and reboots, on the second it verifies and
# powers itself off. It speaks on the console only.
STORY = """#!/bin/sh
exec > /dev/ttyS0 2>&1
fail() { echo "GUEST failed: $*"; systemctl poweroff --force; exit 1; }
echo "GUEST up: $(. /etc/os-release; echo "$PRETTY_NAME"), root on $(findmnt -no SOURCE /)"
if [ ! -e /var/tmp/sums ]; then
    for i in 1 2 3 4; do
        dd if=/dev/urandom of=/var/tmp/data$i bs=64k count=$((i * 8)) 2> /dev/null || fail dd
    done
    (cd /var/tmp && sha256sum data?) > /var/tmp/sums.new || fail sha256sum
    sync
    mv /var/tmp/sums.new /var/tmp/sums
    sync
    echo "GUEST wrote $(du -ck /var/tmp/data? | tail -n 1 | cut -f 1) KiB"
    systemctl reboot
else
    echo 3 > /proc/sys/vm/drop_caches
    (cd /var/tmp && sha256sum --quiet -c sums) || fail "the data is not what was written"
    fstrim / 2> /dev/null && echo "GUEST trimmed"
    echo "GUEST verified"
    systemctl poweroff
fi
"""
UNIT = """[Unit]
Description=the lab's story
After=local-fs.target systemd-remount-fs.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/story
StandardOutput=null
[Install]
WantedBy=multi-user.target
"""


def no_mirror():
    """Why the mirror cannot be used; None when it answers."""
    try:
        with urllib.request.urlopen(f"{MIRROR}/dists/{SUITE}/Release", timeout=20):
            return None
    except OSError as error:
        return f"{MIRROR}: {error}"


def cannot_build(cache, disk):
    """Why there is no image and none can be made; None when there is nothing in the way."""
    if target(cache, disk).exists():
        return None
    for name in ("debootstrap", "mkfs.ext4"):
        if shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"{name} is not installed"
    if os.geteuid() != 0:
        return "debootstrap needs root"
    return no_mirror()


def write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def dress_for_story(root):
    """The console is the story's; nothing else starts that it would wait for."""
    shutil.rmtree(root / "usr/share/zoneinfo", ignore_errors=True)
    write(root / "etc/hostname", "debian\n")
    write(root / "usr/local/sbin/story", STORY, 0o755)
    write(root / "etc/systemd/system/story.service", UNIT)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "story.service").symlink_to("/etc/systemd/system/story.service")
    mask(root, "systemd-networkd.service", "serial-getty@ttyS0.service", "getty.target")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")


def dress_for_cloud(root):
    """What is one machine's is cloud-init's to make; it finds its seed by itself."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    mask(root, "systemd-networkd-wait-online.service")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
    # The lab's processor is slow: what a machine with no other network has no use for.
    write(root / "etc/cloud/cloud.cfg.d/90_lab.cfg", "apt_preserve_sources_list: true\n"
          "locale: false\noutput: {all: '| tee -a /var/log/cloud-init-output.log > /dev/ttyS0'}\n")


@dataclasses.dataclass(frozen=True)
class Disk:
    name: str  # in the cache
    packages: list  # beside PACKAGES
    size_bytes: int
    dress: typing.Callable


STORY_DISK = Disk("debian", [], 1 << 30, dress_for_story)
CLOUD_DISK = Disk("cloud", ["cloud-init", "cloud-guest-utils", "fdisk", "iproute2",
                            "openssh-server", "sudo"], 1536 << 20, dress_for_cloud)


def mask(root, *units):
    for unit in units:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")


def make_root(root, disk):
    # It mounts the machine's /proc and /sys into the folder. In a mount namespace of its own they
    # are gone with it, however it ends, and before the folder is removed.
    kernels.run(["unshare", "--mount", "debootstrap", "--variant=minbase",
                 f"--include={','.join(PACKAGES)}", SUITE, str(root), MIRROR])
    if disk.packages:  # debootstrap does not know in which order to configure what is of Python
        kernels.run(["unshare", "--mount", "chroot", str(root), "sh", "-c",
                     "mount -t proc proc /proc && apt-get -q update && "
                     "DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "
                     + " ".join(disk.packages)])
    for path in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt",
                 "var/lib/apt/lists", "usr/share/info"):
        shutil.rmtree(root / path, ignore_errors=True)
    write(root / "etc/fstab", "/dev/vda1 / ext4 defaults 0 1\n")
    mask(root, "systemd-timesyncd.service", "apt-daily.timer", "apt-daily-upgrade.timer",
         "e2scrub_reap.service", "dpkg-db-backup.timer")
    disk.dress(root)
    # Where GRUB looks, whatever the kernel's version.
    for name in ("vmlinuz", "initrd.img"):
        found = sorted((root / "boot").glob(f"{name}-*"))[-1]
        link = root / name
        link.unlink(missing_ok=True)
        link.symlink_to(f"boot/{found.name}")
    write(root / "boot/grub/grub.cfg", GRUB_CFG)


def grub(work):
    """boot.img and a core image, from packages that are unpacked but not installed."""
    kernels.run(["apt-get", "-q", "download", "grub-pc-bin", "grub-common"], cwd=work)
    for archive in work.glob("grub*.deb"):
        kernels.run(["dpkg", "-x", str(archive), str(work / "grub")])
    platform = work / "grub/usr/lib/grub/i386-pc"
    kernels.run([str(work / "grub/usr/bin/grub-mkimage"), "-O", "i386-pc", "-d", str(platform),
                 "-p", "(hd0,msdos1)/boot/grub", "-o", str(work / "core.img"), *GRUB_MODULES])
    return (platform / "boot.img").read_bytes(), (work / "core.img").read_bytes()


def make_disk(work, image, size_bytes):
    boot, core = grub(work)
    if 512 + len(core) > START_BYTES:
        raise SystemExit("lab: GRUB's core image does not fit before the partition")
    with open(image, "wb") as disk:
        disk.truncate(size_bytes)
    kernels.run(["mkfs.ext4", "-q", "-d", str(work / "root"), "-E", f"offset={START_BYTES}",
                 str(image), f"{(size_bytes - START_BYTES) // 1024}k"])
    with open(image, "r+b") as disk:
        entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff",
                            START_BYTES // 512, (size_bytes - START_BYTES) // 512)
        disk.write(boot[:440] + b"\x56\x4d\x48\x31\0\0" + entry + bytes(48) + b"\x55\xaa")
        disk.seek(512)
        disk.write(core)


def target(cache, disk):
    parts = [SUITE, MIRROR, str(PACKAGES + disk.packages), str(GRUB_MODULES),
             str((START_BYTES, disk.size_bytes)), GRUB_CFG, STORY, UNIT,
             *map(inspect.getsource, (disk.dress, mask, make_root, make_disk))]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return cache / f"{disk.name}-{digest}.raw"


def build(cache, disk):
    """The path of the raw image in the cache."""
    image = target(cache, disk)
    if image.exists():
        return image
    print(f"lab: {disk.name}: an installed Debian is made first; this takes minutes", flush=True)
    work = cache / f".{disk.name}.{os.getpid()}"
    work.mkdir(parents=True)
    try:
        make_root(work / "root", disk)
        make_disk(work, work / "disk.raw", disk.size_bytes)
        for old in cache.glob(f"{disk.name}-*.raw"):
            old.unlink()
        (work / "disk.raw").rename(image)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return image
