"""A time server that is a day ahead: whoever believes it shows it."""

import socket
import struct
import time

DAY_S = 86_400
NTP_TO_UNIX_S = 2_208_988_800


def timestamp():
    seconds, fraction = divmod(time.time() + DAY_S + NTP_TO_UNIX_S, 1)
    return struct.pack("!II", int(seconds), int(fraction * 2**32))


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("0.0.0.0", 123))
    while True:
        question, client = server.recvfrom(512)
        # Leap 0, version 4, server; stratum 2.
        head = struct.pack("!BBbb20x", 0x24, 2, 6, -20)
        server.sendto(head + question[40:48] + timestamp() + timestamp(), client)
