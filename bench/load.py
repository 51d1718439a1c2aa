"""Load a server on this machine over keep-alive connections, with as little work per request as can be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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


async def load_at(port: int, path: str, headers: dict[str, str], *, per_s: float, seconds: float) -> Load:
    """Send a GET request at a steady pace, whatever the answers take; latencies count from when each was due."""
    request, latencies, errors = _request(path, headers), [], 0
    connections = 32
    began = perf_counter()

    async def connection(number: int) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = began + number / per_s
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            head = await _answer(reader, writer, request)
            latencies.append((perf_counter() - due) * 1_000)
            errors += not head.startswith(b"HTTP/1.1 200")
            due += connections / per_s
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connection(number) for number in range(connections)))
    return _summed(latencies, seconds, errors, 0)


async def load(
    port: int,
    path: Callable[[], str],
    headers: dict[str, str],
    *,
    connections: int,
    seconds: float,
    body: Callable[[], bytes] | None = None,
) -> Load:
    """
    Send a request again and again on every connection until the time is over.

    Args:
        path: Makes the path of each request, with its query: answers that are asked for again and again could be kept.
        body: Makes the body of each POST; without it GETs are sent.
    """
    latencies: list[float] = []
    errors = body_bytes = 0
    deadline = perf_counter() + seconds

    async def connection() -> None:
        nonlocal errors, body_bytes
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := perf_counter()) < deadline:
            request = _request(path(), headers) if body is None else _post(path(), headers, body())
            head = await _answer(reader, writer, request)
            latencies.append((perf_counter() - started) * 1_000)
            body_bytes = _length(head)
            errors += not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201"))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return _summed(latencies, seconds, errors, body_bytes)


def _request(path: str, headers: dict[str, str]) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _post(path: str, headers: dict[str, str], body: bytes) -> bytes:
    more = headers | {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return _request(path, more).replace(b"GET", b"POST", 1) + body


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send a request, read its answer to the end, and give its head."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(_length(head))
    return head


def _length(head: bytes) -> int:
    return int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])


def _summed(latencies: list[float], seconds: float, errors: int, body_bytes: int) -> Load:
    latencies.sort()
    return Load(
        per_s=len(latencies) / seconds,
        p50_ms=latencies[len(latencies) // 2],
        p99_ms=latencies[int(len(latencies) * 0.99)],
        errors=errors,
        body_bytes=body_bytes,
    )
