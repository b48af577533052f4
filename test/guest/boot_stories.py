"""Stories of end-to-end about firmware and what it starts from. Each gets a Host."""

import os
import re

import media


class Skip(Exception):
    """What a story needs is not on this machine."""


SLOW_S = 180.0  # for code that runs in 16 and 32 bits, which some hosts interpret


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def machine(name, more):
    return f'[vm.{name}]\nmemory = "16M"\n{more}'


def reached(host, *words, **more):
    """console(), where the host's KVM may not know an instruction that firmware uses."""
    try:
        return host.console(*words, **more)
    except AssertionError:
        found = re.search(r"instruction not emulated[^\n]*", host.logged())
        if found:
            raise Skip(f"this host's KVM: {found.group(0)}") from None
        raise


def two_media(host):
    media.write_cd(host.path("a.iso"), "medium A")
    media.write_cd(host.path("b.iso"), "medium B")
    media.write_disk(host.path("d.img"), "the disk")


def test_cdrom(host):
    """SeaBIOS starts the CD; the medium is changed, taken out and put in while the guest runs."""
    two_media(host)
    host.run(machine("a", 'cdrom = "a.iso"\n'), "--debug-exit")
    host.console("a", r"medium A \[ready\]")
    said = host.ctl("cdrom", "a", host.path("b.iso")).stderr
    check(said == "vmctl: changed the CD-ROM of vm 1\n", said)
    # The change is told once as an error, as drives do it.
    host.console("a", r"medium A \[ready\]\s+no medium \[ready\]", stdin="k")
    host.console("a", r"medium B \[ready\]", stdin="k")
    said = host.ctl("cdrom", "a", "eject").stderr
    check(said == "vmctl: ejected the CD-ROM of vm 1\n", said)
    host.console("a", r"medium B \[ready\]\s+no medium \[ready\]", stdin="k")
    host.ctl("cdrom", "a", host.path("a.iso"))
    # A reset: the medium of now is the one that is started.
    host.console("a", r"no medium[\s\S]*SeaBIOS[\s\S]*medium A \[ready\]", stdin="r")
    host.console("a", "medium A", stdin="x")
    check("exit code 7" in host.stopped("a")["note"], "the end of the guest")


def test_cdrom_refused(host):
    """What is no medium, what is no drive, and a file that somebody writes."""
    two_media(host)
    with open(host.path("tiny.iso"), "wb") as out:
        out.write(b"x" * 1000)
    host.run(machine("a", 'cdrom = ""\n') + machine("b", "") +
             machine("c", 'disk = [{ path = "d.img" }]\n'))
    for words, text in ((("a", host.path("tiny.iso")), "hold no block"),
                        (("a", host.path("nothing.iso")), "No such file"),
                        (("a", "/dev/null"), "not a regular file"),
                        (("a", host.path("d.img")), "in use"),
                        (("b", host.path("a.iso")), "no CD-ROM drive"),
                        (("zz", host.path("a.iso")), "not found")):
        error = host.ctl("cdrom", *words, status=1).stderr
        check(text in error, f"cdrom {words}: {error}")
    host.ctl("cdrom", "a", host.path("a.iso"))
    host.ctl("stop", "-w", "a")
    error = host.ctl("cdrom", "a", "eject", status=1).stderr
    check("not running" in error, error)


def test_boot_order(host):
    """Disk before CD, CD when asked for, CD behind a disk that is empty."""
    two_media(host)
    with open(host.path("empty.img"), "wb") as out:
        out.truncate(1 << 20)
    host.run(machine("a", 'cdrom = "a.iso"\ndisk = [{ path = "d.img" }]\n') +
             machine("b", 'cdrom = "b.iso"\nboot_device = "cdrom"\n'
                          'disk = [{ path = "empty.img" }]\n'))
    host.console("a", r"the disk \[ready\]")
    host.console("b", r"medium B \[ready\]")


def test_start_once(host):
    """-B and -r for one boot: the CD, and after the reset what the file says."""
    two_media(host)
    host.run(machine("a", 'enable = false\ndisk = [{ path = "d.img" }]\n'), "--debug-exit")
    error = host.ctl("start", "-B", "cdrom", "a", status=1).stderr
    check("no CD-ROM drive" in error, error)
    check("floppy" in host.ctl("start", "-B", "floppy", "a", status=1).stderr, "a wrong device")
    host.ctl("start", "-B", "cdrom", "-r", host.path("a.iso"), "a")
    host.console("a", r"medium A \[ready\]")
    host.console("a", r"medium A[\s\S]*the disk \[ready\]", stdin="r")
    host.console("a", "the disk", stdin="x")
    host.stopped("a")
    # The drive was for that run only.
    host.ctl("start", "a")
    host.console("a", r"the disk \[ready\]")
    error = host.ctl("cdrom", "a", "eject", status=1).stderr
    check("no CD-ROM drive" in error, error)


def test_kernel_once(host):
    """-b: a kernel that only the caller named, for one boot."""
    two_media(host)
    host.run(machine("a", 'enable = false\ndisk = [{ path = "d.img" }]\n'), "--debug-exit")
    host.ctl("start", "-b", host.guest("interrupt"), "a")
    host.console("a", "type a line")
    host.ctl("stop", "-w", "-f", "a")
    host.ctl("start", "-b", host.guest("reset"), "a")
    host.console("a", r"the disk \[ready\]")
    host.console("a", "the disk", stdin="x")
    host.stopped("a")
    error = host.ctl("start", "-b", host.path("a.iso"), "a", status=1).stderr
    check("a.iso is no kernel" in error, error)
    error = host.ctl("start", "-b", "/nonexistent", "a", status=1).stderr
    check("No such file" in error, error)


def test_pxe(host):
    """Nothing but a network: the ROM of the interface starts iPXE, which gets our lease."""
    host.run('[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n' +
             machine("a", 'boot_device = "net"\n'
                          'interface = [{ switch = "lan", ipv4 = "10.9.8.10" }]\n').replace(
                              "16M", "64M"))
    host.console("a", r"starting execution\.\.\.ok", limit_s=SLOW_S)  # from the ROM
    reached(host, "a", r"iPXE[\s\S]*net0: 10\.9\.8\.10/255\.255\.255\.0 gw 10\.9\.8\.1", limit_s=SLOW_S)
    check(host.row("a")["lease"] == "10.9.8.10",
          "lease in status")


def test_pxe_script(host):
    """iPXE follows the boot file of our DHCP to our HTTP service and runs what it gets there."""
    with open(host.path("boot.ipxe"), "w") as out:
        out.write("#!ipxe\necho the script of ${net0/ip} runs\nshell\n")
    host.run('[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'
             'dhcp = { filename = "http://10.9.8.1/install.conf" }\n' +
             machine("a", 'interface = [{ switch = "lan", ipv4 = "10.9.8.10" }]\n'
                          f'install = {{ file = "{host.path("boot.ipxe")}" }}\n').replace(
                              "16M", "64M"))
    reached(host, "a", r"the script of 10\.9\.8\.10 runs[\s\S]*iPXE>", limit_s=SLOW_S)
    check(host.row("a")["answer_served"], "status does not tell that the file was fetched")


# ---- media of others ----------------------------------------------------------

def grub_cd(host):
    """A CD of GRUB with memtest86+ on it."""
    if not media.write_grub_cd(host.path("grub.iso"), host.path("tree")):
        raise Skip("grub-mkrescue, xorriso, mtools or grub-pc-bin is missing")
    return "grub.iso"


def test_grub_cd(host):
    """GRUB comes from the CD to its menu, and powers the machine off."""
    iso = grub_cd(host)
    host.run(machine("a", f'cdrom = "{iso}"\n').replace("16M", "128M"))
    reached(host, "a", "hypervisor-test", limit_s=SLOW_S)
    reached(host, "a", r"grub>", stdin="c", limit_s=SLOW_S)


def test_memtest(host):
    """memtest86+ starts from GRUB's menu."""
    iso = grub_cd(host)
    if not os.path.exists(host.path("tree/boot/grub/memtest")):
        raise Skip("memtest86+ is missing")
    host.run(machine("a", f'cdrom = "{iso}"\n').replace("16M", "128M"))
    reached(host, "a", "hypervisor-test", limit_s=SLOW_S)
    reached(host, "a", r"Memtest86\+", stdin="\x1b[B\r", limit_s=SLOW_S)


def test_ipxe_cd(host):
    """iPXE's own CD to its shell."""
    iso = "/usr/lib/ipxe/ipxe.iso"
    if not os.path.exists(iso):
        raise Skip("the package ipxe is missing")
    host.run(machine("a", f'cdrom = "{iso}"\n').replace("16M", "128M"))
    reached(host, "a", r"Press Ctrl-B", limit_s=SLOW_S)
    reached(host, "a", r"iPXE>", stdin="\x02", limit_s=SLOW_S)


def test_openbsd_cd(host):
    """boot(8) of OpenBSD/i386 5.1, from a floppy image as El Torito's 1.44 MB floppy, on com0."""
    floppy = os.environ.get("OPENBSD_FLOPPY", "")
    if not os.path.exists(floppy):
        raise Skip("OPENBSD_FLOPPY does not name OpenBSD/i386's floppy image")
    with open(floppy, "rb") as image:
        media.write_cd(host.path("openbsd.iso"), "OpenBSD", image.read(), emulation=2)
    host.run(machine("a", 'cdrom = "openbsd.iso"\n').replace("16M", "64M"))
    reached(host, "a", r"boot>", limit_s=SLOW_S)
    reached(host, "a", r"boot>[\s\S]*boot>", stdin="machine memory\r", limit_s=SLOW_S)


NEEDS_KVM = {"pxe_script", "grub_cd", "memtest", "ipxe_cd", "openbsd_cd",
             "cdrom", "cdrom_refused", "boot_order", "start_once", "kernel_once", "pxe"}
