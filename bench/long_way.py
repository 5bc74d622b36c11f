#!/usr/bin/env python3
"""A relay that delays: what is sent to PORT reaches TARGET so many milliseconds later, and the other way round.

usage: long_way.py PORT TARGET MILLISECONDS
"""
import asyncio
import contextlib
import sys
import time

PIECE_BYTES = 1 << 18


async def carry(reader, writer, delay):
    queue = asyncio.Queue()

    async def deliver():
        while True:
            due, piece = await queue.get()
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if not piece:
                return writer.write_eof()
            writer.write(piece)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    with contextlib.suppress(OSError):
        piece = b"first"
        while piece:
            piece = await reader.read(PIECE_BYTES)
            queue.put_nowait((time.monotonic() + delay, piece))
        await delivery
    delivery.cancel()


async def main(port, target, milliseconds):
    async def connected(reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(carry(reader, far_writer, milliseconds / 1000), carry(far_reader, writer, milliseconds / 1000))
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*map(int, sys.argv[1:])))
