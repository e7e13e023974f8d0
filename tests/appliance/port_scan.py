"""Prints which TCP ports of an address take a connection, or do not answer at all."""

import asyncio
import sys

LIMIT_S = 20
AT_ONCE = 100


async def scan(address):
    places = asyncio.Semaphore(AT_ONCE)

    async def one(port):
        async with places:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), LIMIT_S)
            except ConnectionRefusedError:
                return
            except TimeoutError:
                pass
            else:
                writer.close()
            print(port)

    await asyncio.gather(*(one(port) for port in range(1, 65536)))


asyncio.run(scan(sys.argv[1]))
