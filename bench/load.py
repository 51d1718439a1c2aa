"""Load a server on this machine over keep-alive connections, with as little work per request as can be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Load:
    """What a server did under load; latencies in milliseconds."""

    per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    body_bytes: int


async def load(port: int, path: str, headers: dict[str, str], *, connections: int, seconds: float) -> Load:
    """Send the same GET request again and again on every connection until the time is over."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    request = "\r\n".join([*lines, "", ""]).encode()
    latencies: list[float] = []
    errors = body_bytes = 0
    deadline = perf_counter() + seconds

    async def connection() -> None:
        nonlocal errors, body_bytes
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := perf_counter()) < deadline:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append((perf_counter() - started) * 1_000)
            body_bytes = length
            errors += not head.startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connection() for _ in range(connections)))
    latencies.sort()
    return Load(
        per_s=len(latencies) / seconds,
        p50_ms=latencies[len(latencies) // 2],
        p99_ms=latencies[int(len(latencies) * 0.99)],
        errors=errors,
        body_bytes=body_bytes,
    )
