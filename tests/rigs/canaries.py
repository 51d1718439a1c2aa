"""Look for secrets where none may be, after requests that are broken in many ways and a database that goes away."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from exchanges.simulator import run_in_thread
from service.control import key_desk
from tests.api.test_credentials import broken_requests
from tests.databases import ask, changed
from tests.rigs.ledgers import database
from tests.rigs.server import Setup
from tests.rigs.whole_service import Service

WINDOW = 16
"""So many characters of a secret in a row are a hit."""
_ANSWERED_WITHIN_S = 5.0


async def canaries(kind: str, folder: Path, *, fault: str | None = None) -> dict[str, Any]:
    """
    Send a key in every broken request to the service as its command starts it; give figures, with ``ok``.

    The pepper, and on PostgreSQL the database's password, are in its environment all the while.
    """
    pepper, password = f"pepper-{secrets.token_hex(20)}", f"password-{secrets.token_hex(12)}"
    place = folder / "service"
    place.mkdir()
    with run_in_thread() as simulator, database(kind, folder) as made:
        url = changed(made.url, password=password) if kind == "postgresql" else made.url
        async with key_desk(Setup(url).settings(), lambda: pepper.encode()) as keys:
            key, _ = await keys.create("canary", ["quote", "execute", "account", "admin"])
        canary = {"key": key.split("_")[3], "pepper": pepper, "password": password}
        env = {"IOB_PEPPER": pepper, "IOB_LEDGER__URL": url}
        placeholder = "sqlite:///nowhere.db"
        async with Service(placeholder, place, simulator.base_url, fault=fault, env=env) as service:
            requests = (*broken_requests(key), *_more(key))
            bodies = await asyncio.gather(*(_sent(service.address, data) for data in requests))
            commands = b"\n".join(_command_lines())
            if kind == "postgresql":
                bodies += await _without_database(made.url, service.address, key)
        found = {
            "logs": service.log,
            "bodies": b"\n".join(bodies),
            "database": b"\n".join(_kept(kind, folder, made.url)),
            "command lines": commands,
        }
        lines = [json.loads(line) for line in service.log.splitlines() if line.startswith(b"{")]
    hits = [
        f"{name} in {where}" for where, data in found.items() for name, text in canary.items() if _holds(data, text)
    ]
    answered = sum(body.startswith(b"HTTP/1.") for body in bodies)
    unread = [where for where, data in found.items() if not data]
    return {
        "ok": not hits and not unread and len(lines) >= answered >= 60,
        "requests": len(bodies),
        "answered": answered,
        "server_errors": sum(b" 500 " in body[:16] for body in bodies),
        "log_lines": len(lines),
        "hits": hits,
        "unread": unread,
    }


def _more(key: str) -> Iterator[bytes]:
    """Give requests that need the admin's routes, or that are not HTTP at all."""
    bare = key.encode()
    head = b"X-API-Key: " + bare + b"\r\nContent-Type: application/json\r\n"

    def post(path: bytes, body: bytes) -> bytes:
        return b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (path, head, len(body), body)

    admin = b"/v1/admin/keys"
    yield post(admin, b'{"account":"a","scopes":["quote"],"label":"%b"}' % bare)
    yield post(admin, b'{"account":"a","scopes":["%b"]}' % bare)
    yield post(admin, b'{"account":"%b","scopes":["quote"],"addresses":["%b"],"expires_at":"%b"}' % (bare, bare, bare))
    yield post(admin, b'{"account":"a","scopes":["quote"],"limits":{"%b":1}}' % bare)
    yield post(admin + b"/" + bare + b"/rotate", b'{"overlap_ms":0}')
    yield post(b"/v1/admin/venues/" + bare.lower() + b"/enable", b"")
    yield post(b"/v1/admin/accounts/" + bare + b"/deposits", b'{"asset":"USDT","amount":"1"}')
    yield b"DELETE " + admin + b"/" + bare + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n"
    yield b"GET /v1/stream?key=" + bare + b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bare
    yield b"GET " + bare + b"\r\n\r\n"
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bare


async def _sent(address: str, data: bytes) -> bytes:
    """Send bytes on a connection of their own; give what it is answered, or nothing."""
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(_ANSWERED_WITHIN_S):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            return head + await reader.readexactly(int(length[1]) if length else 0)
    except (OSError, EOFError, TimeoutError):
        return b""
    finally:
        writer.transport.abort()


async def _without_database(url: str, address: str, key: str) -> list[bytes]:
    """Take the database away while orders come; give what they are answered."""
    name = url.rpartition("/")[2].partition("?")[0]
    server = url.replace(f"/{name}", "/postgres")
    order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.01"}
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        bodies = []
        for number in range(3):
            body = json.dumps(order | {"client_order_id": f"without-{number}"}).encode()
            head = f"POST /execute HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
            bodies.append(await _sent(address, head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body))
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    return bodies


def _command_lines() -> Iterator[bytes]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_bytes()
        except OSError:  # It has ended meanwhile.
            continue


def _kept(kind: str, folder: Path, url: str) -> Iterator[bytes]:
    """Give everything that the ledger's database holds."""
    if kind == "sqlite":
        for file in sorted(folder.glob("ledger.db*")):
            if not file.is_socket():
                yield file.read_bytes()
        return
    for (table,) in ask(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        for (row,) in ask(url, f"SELECT t::text FROM {table} t"):
            yield row.encode()
            yield from map(bytes.fromhex, re.findall(r"\\x((?:[0-9a-f]{2})+)", row))


def _holds(data: bytes, secret: str) -> bool:
    lower = data.lower()
    return any(secret[at : at + WINDOW].lower().encode() in lower for at in range(len(secret) - WINDOW + 1))
