"""A writer for initramfs archives (cpio "newc", Documentation/driver-api/early-userspace/
buffer-format of the Linux kernel). Written here because device nodes and owners must not
need root on the machine that builds the archive."""
import io
import stat


class Archive:
    def __init__(self):
        self.out = io.BytesIO()
        self.inode = 0
        self.directories = {""}
        self.files = set()

    def _entry(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        raw_name = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1],
                  len(raw_name), 0)
        self._padded(b"070701" + b"".join(b"%08X" % field for field in fields) + raw_name)
        self._padded(data)

    def _padded(self, data):
        self.out.write(data + b"\0" * (-len(data) % 4))

    def directory(self, name):
        """With every missing parent."""
        name = name.strip("/")
        if name in self.directories:
            return
        self._parents(name)
        self.directories.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def _parents(self, name):
        if "/" in name:
            self.directory(name.rpartition("/")[0])

    def file(self, name, data, mode=0o644):
        self._parents(name)
        self.files.add(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name, major, minor, mode=0o600):
        self._parents(name)
        self._entry(name, stat.S_IFCHR | mode, b"", (major, minor))

    def copy(self, name, path):
        """A file with its permission bits, or a tree."""
        if path.is_dir():
            self.directory(name)
            for child in sorted(path.iterdir()):
                self.copy(f"{name}/{child.name}", child)
        else:
            self.file(name, path.read_bytes(), path.stat().st_mode & 0o755)

    def bytes(self):
        self._entry("TRAILER!!!", 0)
        return self.out.getvalue()
