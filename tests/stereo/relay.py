"""A slow line: what was turned to it is passed on, each byte a while later.

As a program (on its machine): relay.py PORT DELAY_MS MARK. `rig.network.Machine.turn`
sends connections here; where they wanted to go the kernel tells."""

import asyncio
import socket
import struct
import sys

SO_ORIGINAL_DST = 80


async def pass_on(reader, writer, delay_s):
    """Byte for byte in order, and the end of them likewise."""
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue(1000)

    async def deliver():
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while not delivery.done():
            data = await reader.read(65536)
            await queue.put((loop.time() + delay_s, data))
            if not data:
                break
        await delivery
    except OSError:
        delivery.cancel()
    finally:
        writer.close()


def wanted(accepted):
    """Where the connection was dialled to."""
    told = accepted.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    port, address = struct.unpack("!2xH4s8x", told)
    return socket.inet_ntoa(address), port


async def serve(port, delay_s, mark):
    async def relay(reader, writer):
        outward = socket.socket()
        outward.setblocking(False)
        outward.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            await asyncio.get_running_loop().sock_connect(
                outward, wanted(writer.get_extra_info("socket")))
        except OSError:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(sock=outward)
        await asyncio.gather(pass_on(reader, far_writer, delay_s), pass_on(far_reader, writer, delay_s),
                             return_exceptions=True)

    server = await asyncio.start_server(relay, "0.0.0.0", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]) / 1000, int(sys.argv[3])))
