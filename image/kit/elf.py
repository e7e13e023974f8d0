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
    phoff, shoff = struct.unpack_from("<QQ" if wide else "<II", data, 32 if wide else 28)
    phsize, phnum, shsize, shnum, names = struct.unpack_from("<5H", data, 54 if wide else 42)
    word = "<Q" if wide else "<I"
    static = True
    for at in range(phoff, phoff + phnum * phsize, phsize):
        (kind,) = struct.unpack_from("<I", data, at)
        if kind == PT_INTERP:
            static = False
        if kind == PT_DYNAMIC:
            # A static-pie has one too, for its own relocations.
            (offset,) = struct.unpack_from(word, data, at + (8 if wide else 4))
            (size,) = struct.unpack_from(word, data, at + (32 if wide else 16))
            entry = "<qQ" if wide else "<iI"
            tags = [tag for tag, _ in struct.iter_unpack(entry, data[offset:offset + size])]
            static = static and DT_NEEDED not in tags
    headers = range(shoff, shoff + shnum * shsize, shsize)
    stripped = True
    if headers:
        (names_at,) = struct.unpack_from(word, data, headers[names] + (24 if wide else 16))
        for at in headers:
            name, kind = struct.unpack_from("<II", data, at)
            debug = data.startswith((b".debug", b".zdebug"), names_at + name)
            stripped = stripped and kind != SHT_SYMTAB and not debug
    return Elf(MACHINES.get(machine, str(machine)), static, stripped)
