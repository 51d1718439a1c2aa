"""The commands that ask, on a service that fails on purpose."""

from __future__ import annotations

import asyncio
import json

import pytest

from service.__main__ import main
from tests.client.loopback import KEY, QUOTE, Loopback, Page, Problem, serving


@pytest.fixture
async def command(monkeypatch, capsys):
    """Run commands against a server that does what its acts say; gives the status and what was said."""
    server = Loopback()
    monkeypatch.setenv("IOB_API_KEY", KEY)

    async def run(*arguments):
        monkeypatch.setenv("IOB_URL", server.url)
        status = await asyncio.to_thread(main, arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    async with serving(server.handle) as server.url:
        run.server = server
        yield run


async def test_order_is_sent_until_its_outcome_is_known(command):
    """
    A lost connection does not lose the order, nor double it; the person is told that it is sent again.
    """
    command.server.acts += ["drop_after", "cut"]

    status, out, err = await command("execute", "BTC/USDT", "1.5", "--side", "buy", "--client-order-id", "a")

    assert (0, 1, 3) == (status, command.server.runs, len(command.server.received))
    assert "filled buy 1.5 of 1.5 BTC/USDT" in out
    assert 2 == err.count("the same is sent again in 0.")


async def test_unknown_outcome_says_how_to_find_out(command):
    """
    Where time is over before the outcome is known, the command says which id repeats it safely.
    """
    command.server.acts += ["drop_after", Problem("unauthenticated")]
    status, out, err = await command("execute", "BTC/USDT", "1.5", "--side", "buy")
    order = json.loads(command.server.bodies[0])["client_order_id"]

    assert (1, "") == (status, out)
    assert f"it may have been executed: repeat the command with --client-order-id {order}" in err
    assert "unauthenticated: a sentence" in err

    command.server.always = Page(200)
    status, out, err = await command("execute", "BTC/USDT", "1.5", "--side", "buy", "--json")
    assert (1, "") == (status, out) and "--client-order-id cli-" in err and "is not as expected" in err


async def test_program_is_given_what_came(command):
    """
    ``--json`` prints an answer, or a refusal, as it came.
    """
    status, out, _ = await command("quote", "BTC/USDT", "1.5", "--json")
    assert (0, QUOTE) == (status, json.loads(out))

    command.server.always = Problem("no_fresh_market_data", {"sources": [], "new": 1})
    status, out, err = await command("quote", "BTC/USDT", "1.5", "--json")
    assert (1, 1, "") == (status, json.loads(out)["new"], err)
    assert 2 == len(command.server.received)


async def test_something_else_at_the_address_is_told(command):
    """
    What is no service is said to be none, with the status for a wrong address.
    """
    command.server.always = Page(404)

    status, out, err = await command("quote", "BTC/USDT", "1.5")

    assert (2, "") == (status, out) and "is not as expected: status 404" in err


async def test_refusal_does_not_steer_the_terminal(command):
    """
    What a server puts into its words is shown, and not obeyed.
    """
    command.server.always = Problem("unauthenticated", {"detail": "wiped \x1b[2J\x1b]0;gone\x07"})

    status, out, err = await command("quote", "BTC/USDT", "1.5")

    assert (1, "") == (status, out)
    assert "wiped �[2J�]0;gone�" in err and "\x1b[2J" not in err
