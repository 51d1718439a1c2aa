"""Make the README's picture of the page anew: ``python -m tests.web.pictures``; it takes a good minute.

Fills are watched for a minute, and what was seen of them is part of the picture.
"""

from __future__ import annotations

import asyncio
import shutil
import struct
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from playwright.async_api import expect

from service import logs
from tests.web.served import Served, serving
from tests.web.visiting import launched, visiting

PICTURE = Path(__file__).parents[2] / "docs" / "dashboard.png"
SIZE = {"width": 1920, "height": 1080}
WATCHED_MS = 90_000
ORDERS = (
    ("BTC/USDT", "buy", "1.25"),
    ("ETH/USDT", "buy", "12"),
    ("BTC/USDT", "sell", "0.4"),
    ("BTC/USDT", "buy", "90"),
)
_COLOURS = 256
_HEAD = b"\x89PNG\r\n\x1a\n"
_RGB = 3


async def picture(path: str) -> bytes:
    """Give a picture of the page in use, in a browser."""
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder)) as served, launched(path) as browser:
            await _executed(served)
            seen = visiting(browser, served.address, served.keys["all"], viewport=SIZE, color_scheme="light")
            async with seen as visit:
                await visit.page.goto(served.address)
                await visit.enter()
                watched = visit.executions.get_by_text("being watched")
                await expect(watched).to_have_count(0, timeout=WATCHED_MS)
                served.market.at_rest = True
                await visit.ask_for("2.5")
                await visit.execute.click()
                await expect(visit.fill).to_be_visible()
                served.market.at_rest = False
                await visit.moves()
                await expect(visit.execute).to_be_enabled()
                return await visit.page.screenshot()


async def _executed(served: Served) -> None:
    """Put some executions on record, and a rejection."""
    for number, (symbol, side, quantity) in enumerate(ORDERS):
        order = {"symbol": symbol, "side": side, "quantity": quantity, "client_order_id": f"order-{number}"}
        await served.ask("POST", "/execute", body=order, refused=True)


# A picture of few colours


def with_palette(png: bytes) -> bytes:
    """Give a PNG of 8 bits RGB in 256 of its colours, each other pixel in the nearest of them."""
    width, height, rows = _pixels(png)
    lines = [list(zip(row[0::_RGB], row[1::_RGB], row[2::_RGB], strict=True)) for row in rows]
    counted = Counter(pixel for line in lines for pixel in line)
    palette = _palette(counted)
    place = {colour: number for number, colour in enumerate(palette)}
    place |= {colour: _nearest(colour, palette) for colour in counted if colour not in place}
    data = b"".join(b"\0" + bytes(place[pixel] for pixel in line) for line in lines)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (b"IHDR", head), (b"PLTE", bytes(sum(palette, ()))), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b"")
    return _HEAD + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _palette(counted: Counter[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Choose the most frequent colours, and for the other half those that are unlike all that were chosen before."""
    ordered = [colour for colour, _ in counted.most_common()]
    chosen = ordered[: _COLOURS // 2]
    kinds = {tuple(part // 16 for part in colour) for colour in chosen}
    for colour in ordered[len(chosen) :]:
        kind = tuple(part // 16 for part in colour)
        if kind not in kinds and len(chosen) < _COLOURS:
            kinds.add(kind)
            chosen.append(colour)
    return chosen


def _nearest(colour: tuple[int, ...], palette: list[tuple[int, ...]]) -> int:
    return min(
        range(len(palette)),
        key=lambda n: sum((one - other) ** 2 for one, other in zip(colour, palette[n], strict=True)),
    )


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_HEAD)
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += 12 + size


def _pixels(png: bytes) -> tuple[int, int, list[bytearray]]:
    """Read a PNG as browsers write screenshots; gives width, height and the rows."""
    chunks = list(_chunks(png))
    width, height, bits, kind = struct.unpack(">IIBB", dict(chunks)[b"IHDR"][:10])
    if (bits, kind) != (8, 2):
        raise ValueError("not a PNG of 8 bits RGB")
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    size = width * _RGB
    rows = [bytearray(size)]
    for number in range(height):
        at = number * (size + 1)
        rows.append(_unfiltered(data[at], bytearray(data[at + 1 : at + 1 + size]), rows[-1]))
    return width, height, rows[1:]


def _unfiltered(kind: int, line: bytearray, above: bytearray) -> bytearray:
    """Undo a row's filter (PNG, 9.2: none, sub, up, average, Paeth)."""
    for n in range(len(line)):
        left, corner = (line[n - _RGB], above[n - _RGB]) if n >= _RGB else (0, 0)
        if kind == 4:
            near = sorted((abs(above[n] - corner), abs(left - corner), abs(left + above[n] - 2 * corner)))[0]
            guesses = (left, abs(above[n] - corner)), (above[n], abs(left - corner)), (corner, near)
            line[n] = (line[n] + next(guess for guess, away in guesses if away == near)) & 255
        else:
            line[n] = (line[n] + (0, left, above[n], (left + above[n]) >> 1)[kind]) & 255
    return line


def main() -> int:
    """Write the picture."""
    path = shutil.which("chromium")
    if path is None:
        sys.stderr.write("chromium is not installed\n")
        return 2
    logs.configure("json", "critical", sys.stderr.buffer)
    made = with_palette(asyncio.run(picture(path)))
    PICTURE.write_bytes(made)
    sys.stderr.write(f"{PICTURE}: {len(made)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
