"""An initramfs as the kernel unpacks it (cpio, "newc"): made without root, device
nodes included, the same bytes each time."""


class Archive:
    def __init__(self):
        self.data = bytearray()
        self.entries = 0

    def folder(self, name):
        self._add(name, 0o040755)

    def file(self, name, content, mode=0o644):
        self._add(name, 0o100000 | mode, content)

    def device(self, name, major, minor):
        """A character device, for root alone."""
        self._add(name, 0o020600, device=(major, minor))

    def close(self):
        self._add("TRAILER!!!", 0)
        return bytes(self.data) + bytes(-len(self.data) % 512)

    def _add(self, name, mode, content=b"", device=(0, 0)):
        self.entries += 1
        path = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device, device node, name, checksum
        fields = (self.entries, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        self.data += b"070701" + b"".join(b"%08x" % field for field in fields)
        self.data += path
        self._pad()
        self.data += content
        self._pad()

    def _pad(self):
        self.data += bytes(-len(self.data) % 4)
