"""The record in PostgreSQL: shared by several processes, refused where it would lose something, back after trouble."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from decimal import Decimal

import psycopg
import pytest

from exchanges.book import units
from service.errors import ConfigError, OutcomeUnknown, Unavailable
from service.ledger import postgres, sql
from service.ledger.postgres import PostgresLedger
from service.ledger.protocol import Changes
from tests.databases import SERVER, ask, changed, new_database
from tests.ledger.ledger_cases import (
    NOON,
    STARTING,
    Outcome,
    claim,
    execution,
    firm_quote,
    hold_for,
    look,
    lot,
    reaches,
    record,
    settled,
)


@pytest.fixture
async def two(postgres_url):
    """Two processes' ledgers on one database."""
    both = [PostgresLedger.open(postgres_url, "simulated", STARTING) for _ in range(2)]
    yield both
    for ledger in both:
        await ledger.close()


@pytest.fixture
def ledger(two):
    return two[0]


def name_of(url):
    return url.rpartition("/")[2].partition("?")[0]


def backend(engine):
    """The number of the server's process behind an engine of one connection that is at rest."""
    with engine.connect() as connection:
        return connection.connection.dbapi_connection.info.backend_pid


def end_backend(url, pid):
    """Cut a connection at the server, and wait until it is gone."""
    assert [(True,)] == ask(url, f"SELECT pg_terminate_backend({pid}, 5000)")


@contextmanager
def locked(url, name):
    """Hold the lock of an account or a symbol, as a transaction of another process would."""
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (postgres._key(name),))
        yield


def waiting(url):
    """How many wait for a lock."""
    mine = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    return ask(url, f"SELECT count(*) FROM pg_locks WHERE NOT granted AND {mine}")[0][0]


def refusal_of(url, mode="simulated"):
    """Open what must be refused; give the one sentence."""
    with pytest.raises(ConfigError) as refused:
        PostgresLedger.open(url, mode)
    (sentence,) = refused.value.problems
    assert sentence.startswith("ledger.url: ") and "\n" not in sentence
    return sentence


# Several processes


async def test_processes_find_the_same_record(two):
    """
    What one replica has recorded another finds, under one name of the record.
    """
    first, second = two
    one = execution("a")
    await record(first, one)

    assert first.ledger_id == second.ledger_id and first.instance != second.instance
    assert one.execution_id == (await second.find_client_order("demo", "a")).execution_id
    assert await first.holdings("demo", NOON) == await second.holdings("demo", NOON)


async def test_one_order_sent_to_both_is_one_execution(two):
    """
    An order id that reaches two replicas at once is filled once, and everybody gets that fill.
    """
    outcomes = await asyncio.gather(*(record(two[n % 2], execution(f"{n % 10}")) for n in range(200)))

    assert {Outcome.RECORDED: 10, Outcome.KNOWN: 190} == Counter(outcome for outcome, _ in outcomes)
    assert 10 == len({stored.execution_id for _, stored in outcomes})
    assert 10 == len((await two[0].executions("demo")).executions)


async def test_one_quote_executed_on_both_is_used_once(two):
    """
    A quote that is executed on two replicas at once is filled once.
    """
    key = b"q" * 16
    outcomes = await asyncio.gather(*(record(two[n % 2], execution(quote_key=key)) for n in range(40)))

    assert {Outcome.RECORDED: 1, Outcome.QUOTE_USED: 39} == Counter(outcome for outcome, _ in outcomes)


async def test_takers_on_both_never_get_more_than_there_is(two):
    """
    Sixty accounts take one each from a depth of ten through two replicas: ten get it.
    """
    depth, own = units(Decimal(10)), {ledger.instance: [] for ledger in two}

    async def take(n):
        ledger, one = two[n % 2], execution(account=f"account-{n}")

        def decide(state):
            mine = own[ledger.instance]
            if sum(lot.left for lot in (*mine, *state.lots)) >= depth:
                return False, None
            mine.append(lot(one.execution_id, account=one.account))
            return True, settled(one, state, mine[-1:])

        return await ledger.transact(claim(one.account, ref=one.execution_id, symbols=("BTC/USDT",)), decide)

    assert {True: 10, False: 50} == Counter(await asyncio.gather(*map(take, range(60))))
    assert 10 == len(await two[0].lots())
    # Each has taken what the other takes note of.
    assert own[two[1].instance] == sorted(await two[0].lots(of_others=True), key=own[two[1].instance].index)
    assert own[two[0].instance] == sorted(await two[1].lots(of_others=True), key=own[two[0].instance].index)


async def test_balance_is_spent_once_whichever_process_asks(two):
    """
    Orders of one account on two replicas each see what the other has spent.
    """

    def spend(ledger):
        def decide(state):
            seen.append(state.holdings.balance("USDT").held)
            return None, Changes("quiet", holdings=state.holdings.with_held("USDT", 1))

        return ledger.transact(claim(), decide)

    seen = []
    await asyncio.gather(*(spend(two[n % 2]) for n in range(40)))

    assert list(range(40)) == sorted(seen)
    assert 40 == (await two[0].holdings("demo", NOON)).balance("USDT").held


async def test_others_takings_are_seen_and_their_end_too(two):
    """
    A decision sees what replicas hold of its symbols, until either lets it go, and what others take: its own it knows.
    """
    first, second = two
    quote = firm_quote("f", instance=first.instance)
    held, other = lot("f", held_until_ms=5), lot("f", 1, symbol="USDT/USD", held_until_ms=5)
    filled = lot("x", symbol="ETH/USDT")
    await hold_for(first, quote, [held, other])
    await first.transact(claim(), lambda state: (None, Changes("quiet", lots=(filled,))))

    assert (held,) == (await look(second, symbols=("BTC/USDT",))).lots
    assert {held, other} == set((await look(second, symbols=("BTC/USDT", "USDT/USD"))).lots)
    assert {held, other} == set((await look(second, firm_quote_id="f")).lots)
    assert (held,) == (await look(first, symbols=("BTC/USDT",))).lots
    assert (filled,) == (await look(second, symbols=("ETH/USDT",))).lots
    assert () == (await look(first, symbols=("ETH/USDT",))).lots

    await second.transact(claim(), lambda state: (None, Changes("quiet", released=("f",))))
    for ledger in two:
        assert () == (await look(ledger, symbols=("BTC/USDT",))).lots


@pytest.mark.parametrize("end", ["closed", "cut"])
async def test_quotes_of_a_process_that_is_no_more_are_orphaned(two, postgres_url, end):
    """
    Firm quotes are void once the process that gave them is gone, and only those.
    """
    first, second = two
    theirs, ours = firm_quote("f1", instance=first.instance), firm_quote("f2", instance=second.instance)
    await hold_for(first, theirs)
    await hold_for(second, ours)
    assert [] == list(await second.orphaned()) == list(await first.orphaned())

    if end == "closed":
        await first.close()
    else:
        end_backend(postgres_url, first._life.connection.dbapi_connection.info.backend_pid)

    assert [theirs] == list(await second.orphaned())


async def test_process_that_lives_shows_it_again(two, postgres_url):
    """
    A replica whose connection broke counts as living again as soon as it looks, before it gives another quote.
    """
    first, second = two
    end_backend(postgres_url, first._life.connection.dbapi_connection.info.backend_pid)
    assert [] == list(await first.orphaned())

    await hold_for(first, firm_quote("f", instance=first.instance))

    assert [] == list(await second.orphaned()) == list(await first.orphaned())


# What is refused


@pytest.mark.parametrize(("setting", "value"), [("synchronous_commit", "off"), ("synchronous_commit", "remote_write")])
async def test_server_that_would_lose_what_was_confirmed_is_refused(postgres_url, setting, value):
    """
    A database that answers before the disk has it is named with the setting that does it.
    """
    ask(SERVER, f"ALTER DATABASE {name_of(postgres_url)} SET {setting} = {value}")

    assert f"has {setting}={value}; it would lose what was confirmed" in refusal_of(postgres_url)

    ask(SERVER, f"ALTER DATABASE {name_of(postgres_url)} SET {setting} = local")
    await PostgresLedger.open(postgres_url, "simulated").close()


async def test_mode_is_stamped(postgres_url):
    """
    Simulated fills never stand among real ones.
    """
    assert "made under service.mode 'simulated' and does not open under 'live'" in refusal_of(postgres_url, "live")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://ann:s3cret@127.0.0.1:1/x", "127.0.0.1:1/x cannot be used: "),
        ("postgresql://ann:s3cret@nowhere.invalid/x", "nowhere.invalid/x cannot be used: "),
        ("postgresql://ann:s3cret@127.0.0.1:port/x", "is not an address postgresql://user:password@host:port/database"),
        ("postgresql://ann:s3cret@[::1/x", "is not an address"),
        ("postgresql://127.0.0.1:1/x?user=ann&password=s3cret", "127.0.0.1:1/x cannot be used: "),
        ("postgresql://127.0.0.1:1/x?passwort=s3cret", "cannot be used: "),
    ],
)
def test_address_that_leads_nowhere_is_a_sentence_without_the_password(address, expected):
    """
    The operator reads where the record was looked for; the password is not repeated.
    """
    sentence = refusal_of(address)

    assert expected in sentence
    assert "s3cret" not in sentence


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"user": "nobody-here"}, "nobody-here"), ({"database": "iob_test_not_there"}, "iob_test_not_there")],
)
def test_unknown_user_or_database_is_a_sentence(postgres_url, changes, expected):
    """
    What the server itself says is passed on.
    """
    address = changed(postgres_url, password="s3cret", user=changes.get("user"))
    if "database" in changes:
        address = address.replace(name_of(postgres_url), changes["database"])

    assert expected in (sentence := refusal_of(address)) and "does not exist" in sentence
    assert "s3cret" not in sentence


def test_wrong_password_is_a_sentence_without_it():
    """
    A password that the server refuses is refused here, and stands in no message.
    """
    received = []

    def message(kind, body):
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    def answer():
        # A server that wants a password and takes none; TLS is not its strength.
        connection, _ = server.accept()
        with connection:
            while (start := connection.recv(4_096))[4:8] == (80877103).to_bytes(4, "big"):
                connection.sendall(b"N")
            received.append(start)
            connection.sendall(message(b"R", (3).to_bytes(4, "big")))
            received.append(connection.recv(4_096))
            error = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user\0\0"
            connection.sendall(message(b"E", error))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        sentence = refusal_of(f"postgresql://ann:s3cret@127.0.0.1:{server.getsockname()[1]}/x?gssencmode=disable")
        thread.join()

    assert b"s3cret" in received[1]
    assert "password authentication failed for user" in sentence
    assert "s3cret" not in sentence


async def test_start_waits_for_another_that_brings_the_schema_forward(monkeypatch):
    """
    A replica that starts while another is migrating waits for it, for longer than an order would.
    """
    monkeypatch.setattr(postgres, "_OPTIONS", "-c lock_timeout=50 -c statement_timeout=100")
    late = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    with new_database() as url:
        with locked(url, postgres._MIGRATING):
            opening = asyncio.create_task(asyncio.to_thread(PostgresLedger.open, url, "simulated"))
            await reaches(lambda: opening.done() or ask(url, f"{late} AND now() - query_start > '0.3 s'") == [(1,)])
            assert not opening.done()
        await (await opening).close()


# Trouble


@pytest.mark.parametrize("engine", ["_engine", "_read_engine"])
async def test_lost_server_is_noticed(ledger, engine):
    """
    A server whose machine is gone is noticed within seconds, not by the system's two hours.
    """
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    with (
        getattr(ledger, engine).connect() as connection,
        socket.socket(fileno=socket.dup(connection.connection.dbapi_connection.fileno())) as wire,
    ):
        assert 1 == wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert [2, 1, 2, 2_000] == [wire.getsockopt(socket.IPPROTO_TCP, option) for option in options]


@pytest.mark.parametrize("engine", ["_engine", "_read_engine"])
async def test_connection_cut_between_orders_is_not_noticed(ledger, postgres_url, engine):
    """
    After the server has cut a connection the next order and the next question are answered.
    """
    await record(ledger, execution("a"))
    end_backend(postgres_url, backend(getattr(ledger, engine)))

    assert Outcome.RECORDED is (await record(ledger, execution("b")))[0]
    assert await ledger.find_client_order("demo", "b") is not None


async def test_connection_cut_within_an_order_leaves_nothing(ledger, postgres_url):
    """
    Where the connection breaks before the COMMIT the order is refused for certain, whole, and the next one is not.
    """
    await record(ledger, execution("a"))
    pid = backend(ledger._engine)

    def decide(state):
        end_backend(postgres_url, pid)
        one = execution("b")
        return None, settled(one, state, [lot(one.execution_id)])

    with pytest.raises(Unavailable, match="ledger_unavailable") as refused:
        await ledger.transact(claim(client_order_id="b"), decide)

    assert not isinstance(refused.value, OutcomeUnknown)
    assert await ledger.find_client_order("demo", "b") is None
    assert [] == list(await ledger.lots())
    assert Outcome.RECORDED is (await record(ledger, execution("b")))[0]


async def test_server_that_became_read_only_is_unavailable(ledger, postgres_url):
    """
    On a server that only reads, as a copy does, orders are refused as unavailable and reads go on.
    """
    await record(ledger, execution("a"))
    ask(SERVER, f"ALTER DATABASE {name_of(postgres_url)} SET default_transaction_read_only = on")
    end_backend(postgres_url, backend(ledger._engine))

    results = await asyncio.gather(*(record(ledger, execution(f"{n}")) for n in range(3)), return_exceptions=True)
    assert [(Unavailable, "ledger_unavailable")] * 3 == [(type(error), error.code) for error in results]
    assert await ledger.find_client_order("demo", "a") is not None

    ask(SERVER, f"ALTER DATABASE {name_of(postgres_url)} RESET default_transaction_read_only")
    end_backend(postgres_url, backend(ledger._engine))
    assert Outcome.RECORDED is (await record(ledger, execution("b")))[0]


async def test_order_taken_back_while_it_waits_for_another_process_never_runs(ledger, postgres_url, monkeypatch):
    """
    Who was told that nothing was executed can rely on it, even if the account is free a moment later.
    """
    monkeypatch.setattr(sql, "ANSWER_WITHIN_S", 0.2)
    with locked(postgres_url, "account demo"):
        with pytest.raises(Unavailable, match="nothing was executed") as refused:
            await record(ledger, execution("taken back"))
        assert not isinstance(refused.value, OutcomeUnknown)
        assert 1 == waiting(postgres_url)
    monkeypatch.setattr(sql, "ANSWER_WITHIN_S", 60)

    assert Outcome.RECORDED is (await record(ledger, execution("after")))[0]
    assert await ledger.find_client_order("demo", "taken back") is None


async def test_account_locked_for_long_is_unavailable_and_recovers(ledger, postgres_url):
    """
    An order that waits too long for another process is refused, reads go on, and afterwards all is well.
    """
    await record(ledger, execution("before"))
    with locked(postgres_url, "account demo"):
        with pytest.raises(Unavailable, match="ledger_unavailable"):
            await record(ledger, execution("refused"))
        assert await ledger.find_client_order("demo", "before") is not None
        assert await ledger.find_client_order("demo", "refused") is None

    assert Outcome.RECORDED is (await record(ledger, execution("after")))[0]
