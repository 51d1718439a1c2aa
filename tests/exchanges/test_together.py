"""Loops that run as one."""

from __future__ import annotations

import asyncio

import pytest

from exchanges.together import run_together


async def for_ever(ended, name):
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def after(event, error=None):
    await event.wait()
    if error is not None:
        raise error


async def test_first_that_ends_ends_all():
    """
    The others are cancelled, and have ended before it is told.
    """
    ended, event = [], asyncio.Event()
    event.set()
    await run_together(for_ever(ended, "one"), after(event), for_ever(ended, "other"))
    assert ["one", "other"] == sorted(ended)


async def test_first_error_is_raised_when_the_others_have_ended():
    """
    It is the error itself, not a group of errors.
    """
    ended, event = [], asyncio.Event()
    event.set()
    with pytest.raises(ValueError, match="this one"):
        await run_together(for_ever(ended, "one"), after(event, ValueError("this one")))
    assert ["one"] == ended


async def test_cancellation_is_obeyed_even_while_they_end_for_another_reason():
    """
    Who cancels in the very moment in which one has failed is not forgotten.
    """

    async def slow_to_end():
        try:
            await asyncio.Event().wait()
        finally:
            cancelling.set()
            await asyncio.wait([asyncio.ensure_future(go_on.wait())], timeout=10)

    cancelling, go_on, event = asyncio.Event(), asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(run_together(slow_to_end(), after(event, ValueError())))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    event.set()
    await cancelling.wait()
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
