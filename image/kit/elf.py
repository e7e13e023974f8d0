"""What an ELF file says about itself: enough to prove that a program is static
and stripped, without binutils."""

import struct
from dataclasses import dataclass

PT_DYNAMIC, PT_INTERP = 2, 3
SHT_SYMTAB = 2
DT_NEEDED = 1
MACHINES = {62: "x86_64", 183: "aarch64", 40: "arm"}


@dataclass(frozen=True)
class Elf:
    machine: str
    #: It asks for no loader and for no library.
    static: bool
    #: It has neither symbols nor debug information.
    stripped: bool


def read(file):
    """Reads a little-endian ELF file of 32 or 64 bits."""
    data = file.read_bytes()
    if data[:4] != b"\x7fELF" or data[5] != 1:
        raise ValueError(f"{file} is no little-endian ELF file")
    wide = data[4] == 2
    (machine,) = struct.unpack_from("<H", data, 18)
    if wide:
        phoff, shoff = struct.unpack_from("<QQ", data, 32)
        phsize, phnum, shsize, shnum, _ = struct.unpack_from("<5H", data, 54)
    else:
        phoff, shoff = struct.unpack_from("<II", data, 28)
        phsize, phnum, shsize, shnum, _ = struct.unpack_from("<5H", data, 42)
    static = True
    for at in range(phoff, phoff + phnum * phsize, phsize):
        (kind,) = struct.unpack_from("<I", data, at)
        if kind == PT_INTERP:
            static = False
        if kind == PT_DYNAMIC:
            # A static-pie has one too, for its own relocations.
            (offset,) = struct.unpack_from("<Q" if wide else "<I", data, at + (8 if wide else 4))
            (size,) = struct.unpack_from("<Q" if wide else "<I", data, at + (32 if wide else 16))
            entry = "<qQ" if wide else "<iI"
            tags = [tag for tag, _ in struct.iter_unpack(entry, data[offset:offset + size])]
            static = static and DT_NEEDED not in tags
    kinds = [struct.unpack_from("<I", data, at + 4)[0]
             for at in range(shoff, shoff + shnum * shsize, shsize)]
    return Elf(MACHINES.get(machine, str(machine)), static, SHT_SYMTAB not in kinds)
