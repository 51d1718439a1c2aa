"""Keys are managed while a server runs as well as when none does, and only by the user who runs it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from service import control
from service.control import LocalKeyDesk, key_desk, serving, socket_path
from service.errors import ConfigError, Unavailable
from service.keys import KeyLimits, KeyRing, KeyTerms
from service.ledger.protocol import StoredKey
from service.ledger.sqlite import LedgerLocked, SqliteLedger
from service.settings import Settings

PEPPER = b"a pepper of at least thirty-two characters"
HOLD = Path(__file__).parent / "ledger" / "ledger_cases.py"


@pytest.fixture(autouse=True)
def logged():
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


class Server:
    """What a running server has of this: its ledger, its ring of keys, and the socket."""

    def __init__(self, path, ledger):
        self.path = path
        self.ledger = ledger
        self.ring = KeyRing(PEPPER, "simulated")
        self.desk = LocalKeyDesk(ledger, self.ring)


@pytest.fixture
async def server(path, empty_ledger):
    shutil.copy(empty_ledger, path)
    server = Server(path, SqliteLedger.open(path, "simulated"))
    async with serving(server.desk, path):
        yield server
    await server.ledger.close()


def asking(path, pepper=lambda: PEPPER):
    """Be the command line."""
    venues = {"kraken": {"exchange": "kraken", "base_url": "http://127.0.0.1:9"}}
    market = {"symbols": ["BTC/USDT"]}
    tables = {
        "service": {"mode": "simulated"},
        "ledger": {"url": f"sqlite:///{path}"},
        "market": market,
        "venues": venues,
    }
    return key_desk(Settings.model_validate(tables), pepper)


def no_pepper():
    raise AssertionError("the server has the pepper")


async def raw(path, data):
    """Write bytes to the socket; give what comes back until it is closed or nothing more comes."""
    reader, writer = await asyncio.open_unix_connection(str(socket_path(path)))
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


async def post(path, verb, body):
    """Send a body to the socket; give status and answer."""
    connector = aiohttp.UnixConnector(str(socket_path(path)))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"http://control/{verb}", data=body) as response,
    ):
        return response.status, await response.json()


async def test_keys_without_a_server(path):
    """
    Made, listed and revoked by the command line alone, a key works in the server that starts afterwards.
    """
    async with asking(path) as desk:
        text, key = await desk.create("demo", ["quote"])
        second, _ = await desk.create("demo", ["admin"])
    async with asking(path) as desk:
        assert await desk.revoke(key.key_id) is True
        assert await desk.revoke(key.key_id) is True
        assert await desk.revoke("nobody") is False
        listed = await desk.list()
    assert [True, False] == [one.revoked_at is not None for one in listed]

    ledger = SqliteLedger.open(path, "simulated")
    ring = KeyRing(PEPPER, "simulated")
    ring.hold(await ledger.keys())
    assert ring.check(text) is None
    assert ring.check(second) is not None
    await ledger.close()


async def test_keys_beside_a_running_server_are_in_force_at_once(server):
    """
    What the command line does beside a server the server knows by the time it is answered.
    """
    async with asking(server.path, no_pepper) as desk:
        assert [] == await desk.list()
        before = datetime.now(UTC)
        text, key = await desk.create("demo", ["execute", "quote"])
        assert "demo" == server.ring.check(text).account
        assert before <= key.created_at <= datetime.now(UTC)
        (listed,) = await desk.list()
        assert ("demo", ("quote", "execute"), None) == (listed.account, listed.scopes, listed.revoked_at)

        assert await desk.revoke("nobody") is False
        assert server.ring.check(text) is not None
        assert await desk.revoke(key.key_id) is True
        assert server.ring.check(text) is None
        (listed,) = await desk.list()
        assert timedelta(0) <= listed.revoked_at - key.created_at < timedelta(seconds=5)


async def test_digests_do_not_leave_the_server(server):
    """
    Over the socket goes only what may be shown of a key.
    """
    await server.desk.create("demo", ["quote"])
    (key,) = await server.ledger.keys()

    _, answer = await post(server.path, "list", b"{}")
    shown = {field.name for field in fields(StoredKey)} - {"digest"}
    assert shown == set(answer["keys"][0])
    async with asking(server.path) as desk:
        assert [b""] == [listed.digest for listed in await desk.list()]
    assert key.digest


@pytest.mark.parametrize("beside_a_server", [False, True])
@pytest.mark.parametrize(
    ("account", "scopes", "expected"),
    [
        ("No", ["quote"], "an account's name is"),
        ("a", ["qoute"], "did you mean quote"),
        ("a", [], "at least one scope"),
        # What a shell hands over where its bytes are no text.
        ("\udcff", ["quote"], "an account's name is|not text"),
    ],
)
async def test_wrong_name_or_scope_is_the_same_sentence_everywhere(path, beside_a_server, account, scopes, expected):
    """
    With or without a server the operator reads why a key cannot be made, and none is.
    """
    ledger = SqliteLedger.open(path, "simulated") if beside_a_server else None
    if ledger is not None:
        serve = serving(LocalKeyDesk(ledger, KeyRing(PEPPER, "simulated")), path)
        await serve.__aenter__()
    async with asking(path) as desk:
        with pytest.raises(ValueError, match=expected):
            await desk.create(account, scopes)
        assert [] == list(await desk.list())
    if ledger is not None:
        await serve.__aexit__(None, None, None)
        await ledger.close()


@pytest.mark.parametrize("length", [40, 90, 150, 240])
async def test_long_paths_have_a_socket_as_well(tmp_path, length):
    """
    A ledger whose path is longer than a socket's may be is managed like any other.
    """
    folder = tmp_path / ("d" * max(1, length - len(str(tmp_path)) - 20))
    path = folder / "ledger.db"
    ledger = SqliteLedger.open(path, "simulated")
    ring = KeyRing(PEPPER, "simulated")

    async with serving(LocalKeyDesk(ledger, ring), path):
        assert len(os.fsencode(socket_path(path))) <= 100
        async with asking(path) as desk:
            text, _ = await desk.create("demo", ["quote"])
        assert ring.check(text) is not None
    assert not socket_path(path).exists()
    await ledger.close()


def test_socket_stands_beside_the_ledger_or_has_a_name_of_its_own(tmp_path, monkeypatch):
    """
    Two ledgers never share a socket, and a relative path leads to the same one as the whole path.
    """
    monkeypatch.chdir(tmp_path)
    long = Path("x" * 120)

    assert Path("/a/ledger.db.sock") == socket_path(Path("/a/ledger.db"))
    assert socket_path(tmp_path / "ledger.db") == socket_path(Path("ledger.db"))
    assert socket_path(tmp_path / long / "ledger.db") == socket_path(long / "ledger.db")
    assert 3 == len({socket_path(long / name) for name in ("a.db", "b.db", "c.db")})


async def test_socket_is_the_owners_alone(path):
    """
    Nobody else may manage keys, whatever the umask; afterwards the umask is as it was and the socket gone.
    """
    ledger = SqliteLedger.open(path, "simulated")
    before = os.umask(0)
    try:
        async with serving(LocalKeyDesk(ledger, KeyRing(PEPPER, "simulated")), path):
            assert 0o600 == socket_path(path).stat().st_mode & 0o777
            now = os.umask(0)
            assert 0 == now
    finally:
        os.umask(before)
    assert not socket_path(path).exists()
    await ledger.close()


async def test_dead_servers_socket_is_replaced(path):
    """
    A socket that a killed server left behind does not stop the next one, nor the command line alone.
    """
    socket_path(path).touch()
    async with asking(path) as desk:
        text, _ = await desk.create("demo", ["quote"])
    ledger = SqliteLedger.open(path, "simulated")
    async with serving(LocalKeyDesk(ledger, KeyRing(PEPPER, "simulated")), path), asking(path) as desk:
        assert text.split("_")[2] == (await desk.list())[0].key_id
    await ledger.close()


async def test_socket_that_cannot_be_made_is_a_sentence(path):
    """
    Where something is in the socket's way the operator reads what.
    """
    socket_path(path).mkdir()
    ledger = SqliteLedger.open(path, "simulated")

    with pytest.raises(ConfigError, match=r"the control socket .*ledger\.db\.sock cannot be made: Is a directory"):
        async with serving(LocalKeyDesk(ledger, KeyRing(PEPPER, "simulated")), path):
            pass
    await ledger.close()


async def test_socket_whose_folder_is_gone_is_a_sentence(server, tmp_path):
    """
    Where the folder is not there any more the operator reads that.
    """
    with pytest.raises(ConfigError, match="cannot be made: No such file or directory"):
        async with serving(server.desk, tmp_path / "gone" / "ledger.db"):
            pass


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (None, "another process has .*ledger.db open"),
        ("file", "the server that has the ledger open does not answer on its control socket"),
        ("folder", "the server that has the ledger open does not answer on its control socket"),
    ],
)
def test_locked_ledger_without_an_answering_server_is_a_sentence(path, left, expected):
    """
    Where another process has the ledger and nobody answers, the command line says so at once.
    """

    async def listing():
        async with asking(path) as desk:
            await desk.list()

    with subprocess.Popen(
        [sys.executable, HOLD, "hold", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert "open\n" == holder.stdout.readline()
        if left == "file":
            socket_path(path).touch()
        elif left == "folder":
            socket_path(path).mkdir()
        with pytest.raises(ConfigError, match=expected):
            asyncio.run(listing())
        holder.stdin.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
async def test_socket_of_another_user_is_not_trusted(server):
    """
    A key is not asked for at a socket that somebody else put there.
    """
    os.chown(socket_path(server.path), 12_345, -1)

    with pytest.raises(LedgerLocked):
        async with asking(server.path):
            pass


@pytest.mark.parametrize(
    ("verb", "body", "expected"),
    [
        ("create", b"", "empty document"),
        ("create", b"{", "unexpected end|EOF"),
        ("create", b"\xff\xfe", "."),
        ("create", b"[]", "a JSON object with account, scopes is needed"),
        ("create", b"null", "a JSON object with account, scopes is needed"),
        ("create", b"{}", "a JSON object with account, scopes is needed"),
        ("create", b'{"account":5,"scopes":["quote"]}', "a JSON object with account, scopes is needed"),
        ("create", b'{"account":"a","scopes":"quote"}', "a JSON object with account, scopes is needed"),
        ("create", b'{"account":"a","scopes":5}', "a JSON object with account, scopes is needed"),
        ("create", b'{"account":"a","scopes":[5]}', "scopes are quote, execute, account, admin"),
        ("create", b'{"account":"a","scopes":[{"quote":1}]}', "scopes are quote, execute, account, admin"),
        ("create", b'{"account":"A","scopes":["quote"]}', "an account's name is"),
        ("revoke", b"", "empty document"),
        ("revoke", b'{"key_id":null}', "a JSON object with key_id is needed"),
        ("revoke", b'["key_id"]', "a JSON object with key_id is needed"),
    ],
)
async def test_malformed_request_gets_a_sentence(server, logged, verb, body, expected):
    """
    Whatever is sent to the socket gets an error to read; no key is made and no traceback written.
    """
    status, answer = await post(server.path, verb, body)

    assert 400 == status
    assert re.search(expected, answer["error"])
    assert [] == await server.ledger.keys()
    assert [] == [line for line in logged if line["log_level"] == "error"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /list HTTP/1.1\r\nHost: control\r\n\r\n",
        b"POST /nothing HTTP/1.1\r\nHost: control\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /create HTTP/1.1\r\nHost: control\r\nContent-Length: 100\r\n\r\n{",
        b"POST /create HTTP/1.1\r\nHost: control\r\nContent-Length: minus\r\n\r\n",
        b"POST /list HTTP/9.9\r\n\r\n",
    ],
)
async def test_noise_on_the_socket_does_not_harm_it(server, data):
    """
    After noise of any kind the socket still answers.
    """
    answer = await raw(server.path, data)

    assert b"200 OK" not in answer and b"Traceback" not in answer
    async with asking(server.path) as desk:
        assert [] == await desk.list()


@pytest.mark.parametrize("verb", ["create", "list", "revoke", "rotate"])
async def test_ledger_that_cannot_be_reached_is_passed_on(path, verb):
    """
    What the server's ledger cannot do now the command line says in the same words.
    """
    ledger = SqliteLedger.open(path, "simulated")
    desk = LocalKeyDesk(ledger, KeyRing(PEPPER, "simulated"))
    async with serving(desk, path), asking(path) as remote:
        with ledger._engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE keys")
        calls = {"create": ("demo", ["quote"]), "list": (), "revoke": ("k",), "rotate": ("k", timedelta(0))}
        with pytest.raises(Unavailable) as refused:
            await getattr(remote, verb)(*calls[verb])
    assert ("ledger_unavailable", "the record cannot be reached; nothing was executed") == (
        refused.value.code,
        refused.value.detail,
    )
    await ledger.close()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{x}", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"]
)
async def test_server_that_talks_nonsense_is_a_sentence(path, answer):
    """
    Whatever else sits at the socket, the operator reads a sentence.
    """

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    ledger = SqliteLedger.open(path, "simulated")
    async with await asyncio.start_unix_server(serve, str(socket_path(path))):
        with pytest.raises(ConfigError, match="does not answer on its control socket"):
            async with asking(path) as desk:
                await desk.list()
    await ledger.close()


async def test_pepper_that_cannot_be_used_leaves_the_ledger_free(path):
    """
    A command that ends because of the pepper lets go of the ledger.
    """

    def bad():
        raise ConfigError(["short"])

    for _ in range(2):
        with pytest.raises(ConfigError, match="short"):
            async with asking(path, bad):
                pass


async def test_revoked_key_is_out_of_force_even_if_that_cannot_be_recorded(path):
    """
    A key that somebody wants revoked stops working at once, also while the ledger is out of reach.
    """
    ledger = SqliteLedger.open(path, "simulated")
    ring = KeyRing(PEPPER, "simulated")
    desk = LocalKeyDesk(ledger, ring)
    text, key = await desk.create("demo", ["quote"])
    assert ring.check(text) is not None
    await ledger.close()

    with pytest.raises(Unavailable, match="ledger_unavailable"):
        await desk.revoke(key.key_id)
    assert ring.check(text) is None


async def test_keys_changed_at_the_same_time_end_as_the_ledger_has_them(server):
    """
    However many keys are made and revoked at once, those in force are those that the ledger says are.
    """
    async with asking(server.path) as desk:
        made = await asyncio.gather(*(desk.create("demo", ["quote"]) for _ in range(20)))
        revoking = (desk.revoke(key.key_id) for _, key in made[::2])
        await asyncio.gather(*revoking, *(desk.create("demo", ["quote"]) for _ in range(10)))
        listed = await desk.list()

    assert 20 == len([key for key in listed if key.revoked_at is None])
    assert [False, True] * 10 == [server.ring.check(text) is not None for text, _ in made]


async def test_end_does_not_wait_for_who_has_not_said_all(path, empty_ledger, monkeypatch):
    """
    A request whose body never comes does not keep the server from ending.
    """
    monkeypatch.setattr(control, "_ENDS_WITHIN_S", 0.05)
    shutil.copy(empty_ledger, path)
    ledger = SqliteLedger.open(path, "simulated")
    async with asyncio.timeout(5):
        async with serving(LocalKeyDesk(ledger, KeyRing(PEPPER, "simulated")), path):
            _, writer = await asyncio.open_unix_connection(str(socket_path(path)))
            writer.write(b"POST /revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            await asyncio.sleep(0.1)
    writer.close()
    await ledger.close()


async def test_link_in_the_sockets_place_is_not_followed(server):
    """
    A key is not asked for at a socket that somebody else's link leads to.
    """
    place = socket_path(server.path)
    place.rename(place.with_name("elsewhere"))
    place.symlink_to("elsewhere")

    with pytest.raises(LedgerLocked):
        async with asking(server.path):
            pass


def test_two_names_of_a_ledger_have_one_socket(tmp_path):
    """
    The command line finds the server whichever name of the ledger its settings hold.
    """
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert socket_path(tmp_path / "real" / "ledger.db") == socket_path(tmp_path / "link" / "ledger.db")


# Terms and rotation


SOON = datetime(2100, 1, 1, tzinfo=UTC)
TERMS = KeyTerms(SOON, ("10.0.0.0/8", "::1/128"), "a job", KeyLimits(quote_per_s=0))


@pytest.mark.parametrize("beside_a_server", [False, True])
async def test_key_is_made_on_terms_and_rotated(path, beside_a_server):
    """
    With or without a server a key keeps its terms, and so does the one that takes its place.
    """
    async with AsyncExitStack() as stack:
        if beside_a_server:
            ledger = SqliteLedger.open(path, "simulated")
            stack.push_async_callback(ledger.close)
            await stack.enter_async_context(serving(LocalKeyDesk(ledger, KeyRing(PEPPER, "simulated")), path))
        desk = await stack.enter_async_context(asking(path))
        _, key = await desk.create("demo", ["quote"], TERMS)
        before = datetime.now(UTC)
        rotated = await desk.rotate(key.key_id, timedelta(hours=1))
        listed = await desk.list()

    assert [(SOON, ("10.0.0.0/8", "::1/128"), "a job", 0, None)] == [
        (one.expires_at, one.addresses, one.label, one.quote_per_s, one.execute_per_s) for one in [key]
    ]
    old, new = listed
    assert timedelta(hours=1) <= old.expires_at - before < timedelta(hours=1, minutes=1)
    assert (key.key_id, rotated.key.key_id) == (old.key_id, new.key_id) and rotated.text.split("_")[2] == new.key_id
    shared = ("account", "scopes", "addresses", "label", "quote_per_s", "execute_per_s")
    assert [getattr(old, name) for name in shared] == [getattr(new, name) for name in shared]
    assert old.expires_at == rotated.replaced.expires_at


async def test_rotation_is_in_force_at_once(server):
    """
    Both keys work during the overlap; without one the old key stops with the answer.
    """
    text, key = await server.desk.create("demo", ["quote"])
    async with asking(server.path, no_pepper) as desk:
        second = await desk.rotate(key.key_id, timedelta(hours=1))
        assert server.ring.check(text) is not None and server.ring.check(second.text) is not None
        third = await desk.rotate(second.key.key_id, timedelta(0))
    assert (None, True) == (server.ring.check(second.text), server.ring.check(third.text) is not None)


async def test_key_that_is_not_in_force_is_not_rotated(server):
    """
    Nothing that works comes of a key that was revoked, has expired or never was.
    """
    wall = [datetime.now(UTC)]
    server.ring.now = lambda: wall[0]
    _, revoked = await server.desk.create("demo", ["quote"])
    _, expired = await server.desk.create("demo", ["quote"], KeyTerms(wall[0] + timedelta(hours=1)))
    await server.desk.revoke(revoked.key_id)
    wall[0] += timedelta(hours=1)

    async with asking(server.path) as desk:
        for key_id in (revoked.key_id, expired.key_id, "nobody"):
            assert await desk.rotate(key_id, timedelta(hours=1)) is None
    assert 2 == len(await server.ledger.keys())


async def test_key_revoked_while_it_is_rotated_leaves_nothing_that_works(server):
    """
    The revocation wins: no new key is made.
    """
    _, key = await server.desk.create("demo", ["quote"])
    keys = await server.ledger.keys()
    await server.ledger.revoke_key(key.key_id, datetime.now(UTC))

    class Behind:
        """A ledger that is read a moment before the revocation."""

        replace_key = server.ledger.replace_key

        async def keys(self):
            return keys

    assert await LocalKeyDesk(Behind(), server.ring).rotate(key.key_id, timedelta(hours=1)) is None
    assert 1 == len(await server.ledger.keys())


async def test_key_rotated_twice_at_the_same_time_lives_no_longer_for_it(server):
    """
    The shorter overlap counts, in this process as on record, whichever comes first.
    """
    text, key = await server.desk.create("demo", ["quote"])
    overlaps = (timedelta(0), timedelta(days=30), timedelta(0))
    made = await asyncio.gather(*(server.desk.rotate(key.key_id, overlap) for overlap in overlaps))

    assert [True, False, False] == [one is not None for one in made]
    assert server.ring.check(text) is None


async def test_listing_has_the_latest_use(server):
    """
    What this process knows of and what is on record, whichever is later.
    """
    text, key = await server.desk.create("demo", ["quote"])
    assert [None] == [one.last_used_at for one in await server.desk.list()]
    server.ring.check(text)
    [used] = server.ring.used().values()
    assert [used] == [one.last_used_at for one in await server.desk.list()]

    later = used + timedelta(minutes=1)
    await server.ledger.note_key_uses({key.key_id: later})
    assert [later] == [one.last_used_at for one in await server.desk.list()]


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (b"5", "not of their kinds"),
        (b'{"other":1}', "not of their kinds"),
        (b'{"addresses":null}', "not of their kinds"),
        (b'{"addresses":[5]}', "not of their kinds"),
        (b'{"addresses":"10.0.0.0/8"}', "addresses are ranges"),
        (b'{"label":5}', "not of their kinds"),
        (b'{"limits":5}', "not of their kinds"),
        (b'{"limits":{"quote_per_s":true}}', "not of their kinds"),
        (b'{"limits":{"other":1}}', "not of their kinds"),
        (b'{"expires_at":5}', "not of their kinds"),
        (b'{"expires_at":"soon"}', "isoformat"),
        (b'{"expires_at":"2100-01-01T00:00:00"}', "a time needs its offset"),
        (b'{"expires_at":"2000-01-01T00:00:00Z"}', "a key expires in the future"),
    ],
)
async def test_terms_that_are_none_get_a_sentence(server, terms, expected):
    """
    Whatever is sent in place of terms, no key is made with less than was meant.
    """
    body = b'{"account":"a","scopes":["quote"],"terms":' + terms + b"}"
    status, answer = await post(server.path, "create", body)

    assert (400, True) == (status, re.search(expected, answer["error"]) is not None), answer
    assert [] == await server.ledger.keys()


@pytest.mark.parametrize("overlap_s", [b"-1", b"2592001", b"1.5", b'"1"', b"null"])
async def test_overlap_that_is_none_gets_a_sentence(server, overlap_s):
    """
    An overlap is from none to thirty days.
    """
    _, key = await server.desk.create("demo", ["quote"])
    body = b'{"key_id":"' + key.key_id.encode() + b'","overlap_s":' + overlap_s + b"}"

    assert 400 == (await post(server.path, "rotate", body))[0]
    assert [key] == await server.ledger.keys()
