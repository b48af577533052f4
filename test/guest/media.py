"""Images to boot from, made by the assembler: disks and CD-ROMs that tell their names."""

import os
import shutil
import struct
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def boot_code():
    """boot_medium.S as a boot sector."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [os.path.join(folder, name) for name in ("o", "bin")]
        subprocess.run(["as", "--32", "-o", parts[0], os.path.join(HERE, "boot_medium.S")],
                       check=True)
        subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary",
                        "-o", parts[1], parts[0]], check=True)
        with open(parts[1], "rb") as code:
            return code.read()


def text(name):
    return name.encode() + b"\0"


def write_disk(path, name, size=1 << 20):
    """Bootable, with its name in sector 30."""
    image = bytearray(size)
    image[:512] = boot_code()
    image[30 * 512:30 * 512 + len(name) + 1] = text(name)
    with open(path, "wb") as out:
        out.write(image)


def write_cd(path, name, code=None, blocks=64, emulation=0):
    """El Torito; without code, the boot sector and its name in block 30. A code of a floppy's
    size is started with emulation 2 (1.44 MB)."""
    code = boot_code() if code is None else code
    start = 40
    image = bytearray(2048 * max(blocks, start + (len(code) + 2047) // 2048 + 1))

    def put(at, data):
        image[at:at + len(data)] = data
    put(16 * 2048, b"\x01CD001\x01")
    put(16 * 2048 + 80, struct.pack("<I", len(image) // 2048))
    put(17 * 2048, b"\0CD001\x01EL TORITO SPECIFICATION")
    put(17 * 2048 + 0x47, struct.pack("<I", 19))
    put(18 * 2048, b"\xffCD001\x01")
    catalog = bytearray(64)
    catalog[0] = 1
    catalog[28:32] = b"\xaa\x55\x55\xaa"  # the words sum up to zero
    catalog[32] = 0x88
    catalog[33] = emulation
    struct.pack_into("<H", catalog, 38, 1 if emulation else 4)
    struct.pack_into("<I", catalog, 40, start)
    put(19 * 2048, catalog)
    put(30 * 2048, text(name))
    put(start * 2048, code)
    with open(path, "wb") as out:
        out.write(image)


def write_grub_cd(path, tree):
    """GRUB on the serial port with a menu, as grub-mkrescue makes it from the folder tree, and
    memtest86+ as the menu's second entry. False when a package is missing."""
    if not all(map(shutil.which, ("grub-mkrescue", "xorriso", "mformat"))) or \
            not os.path.isdir("/usr/lib/grub/i386-pc"):
        return False
    folder = os.path.join(tree, "boot/grub")
    os.makedirs(folder)
    if os.path.exists("/boot/memtest86+x64.bin"):
        shutil.copy("/boot/memtest86+x64.bin", os.path.join(folder, "memtest"))
    with open(os.path.join(folder, "grub.cfg"), "w") as out:
        out.write("serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n"
                  "set timeout=-1\n"
                  "menuentry 'hypervisor-test' { halt }\n"
                  "menuentry 'memtest' { linux16 /boot/grub/memtest console=ttyS0,115200 }\n")
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "--locales=", "--fonts=",
                    "--themes=", "--install-modules=normal serial terminal linux16 halt iso9660 "
                    "biosdisk echo", "-o", str(path), str(tree)], check=True, capture_output=True)
    return True
