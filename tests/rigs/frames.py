"""The page under load: 20 books a second of 200 levels a side, each level another one every time, in a browser.

Measured are the page's frames, the time its main thread works for each book, its memory, and what it loads.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from exchanges.book import Ladder, Level, VenueBook
from exchanges.simulator.market import VENUES
from service.api import stream
from tests.rigs.devtools import Tab, tab
from tests.web.served import Market, Served, serving

LEVELS = 200
UPDATES_PER_S = 20
FRAME_MS_MAX = 17.0
TRANSFER_MAX_BYTES = 200_000
HEAP_MORE_MAX_BYTES = 1_000_000
"""So much more than after its first minute may the page hold at the end, rubbish taken away: compiled code, and what is
kept up to some bound, still grow a little."""
RSS_MORE_MAX_KB = 20_000
"""Of the page's process, rubbish and all."""
_PICTURES = 40
_LEVELS_OF_VENUE = 100
_OTHER_ROWS = 2
"""The ladder's head, and what stands between its sides."""
_PRICE = Decimal(64_000)
_MEASURE = """
    window.frames_ms = [];
    window.books = window.long_tasks = window.shifted = 0;
    window.measuring = false;
    window.heard = () => {};
    let before = 0;
    const watch = (type, note) => new PerformanceObserver(list => {
        if (measuring) list.getEntries().forEach(note);
    }).observe({type});
    watch("longtask", () => long_tasks += 1);
    watch("layout-shift", entry => shifted += entry.hadRecentInput ? 0 : entry.value);
    const frame = now => {
        if (measuring && before) frames_ms.push(now - before);
        before = measuring ? now : 0;
        requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    const Known = WebSocket;
    window.WebSocket = class extends Known {
        constructor(...how) {
            super(...how);
            this.addEventListener("message", event => {
                heard(event.data);
                if (measuring && event.data.slice(0, 60).includes('"channel":"book"')) books += 1;
            });
        }
    };
"""

FAULTS = {
    "leak": """
        window.kept = [];
        heard = data => kept.push(JSON.parse(data), JSON.parse(data));
    """,
    "jank": """
        heard = () => { const until = performance.now() + 60; while (performance.now() < until); };
    """,
}
"""What a page may do with each message that it must not: keep it, or keep everybody waiting."""
_FILL = """
    window.fill = (where, event, value) => {
        const field = document.querySelector(where);
        field.value = value;
        field.dispatchEvent(new Event(event, {bubbles: true}));
    }
"""


@dataclass(frozen=True)
class Length:
    """
    How long is measured, how often memory is looked at, and what counts.

    Args:
        frame_ms_max: At p95; what a machine that does other things too may add counts as well.
        books_per_s_min: So many have to come, of 20.
    """

    seconds: float = 300.0
    samples: int = 10
    frame_ms_max: float = FRAME_MS_MAX
    books_per_s_min: float = 18.0


IN_FULL = Length()


class Crowd(Market):
    """Venues all of whose levels change each time."""

    def open(self) -> None:
        """Draw all that will be shown."""
        numbers = random.Random(7)
        self._pictures = [
            {name: _picture(numbers, place, Decimal(number % 20) / 2) for place, name in enumerate(VENUES)}
            for number in range(_PICTURES)
        ]
        super().open()

    def show(self) -> None:
        """Show every venue's next picture."""
        self.shown += 1
        now_ns = self.clock.now_ns()
        for name, (bids, asks) in self._pictures[self.shown % _PICTURES].items():
            self.board.publish(VenueBook(name, "BTC/USDT", bids, asks, now_ns, self.shown), now_ns)

    async def moving(self) -> None:
        """Show a picture at each twentieth of a second, however long it takes."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number in itertools.count(1):
            await asyncio.sleep(began_s + number / UPDATES_PER_S - loop.time())
            self.show()


@contextmanager
def each_one_told() -> Iterator[None]:
    """Have streams tell each picture; left alone they rest as long after each look, and tell some 17 a second."""
    before, stream.ROUND_S = stream.ROUND_S, 0.01
    try:
        yield
    finally:
        stream.ROUND_S = before


def _picture(numbers: random.Random, place: int, moved: Decimal) -> tuple[Ladder, Ladder]:
    """Draw a book; no two venues have a price in common."""

    def side(sign: int) -> Ladder:
        levels, price = [], _PRICE + moved + sign * (1 + Decimal(place) / 100)
        for _ in range(_LEVELS_OF_VENUE):
            price += sign * Decimal(numbers.randint(1, 9)) / 10
            levels.append(Level(price, Decimal(numbers.randint(1, 400_000)) / 100_000))
        return Ladder.of(levels)

    return side(-1), side(1)


async def frames(folder: Path, length: Length = IN_FULL, *, fault: str | None = None) -> dict[str, Any]:
    """
    Have a page under load; gives figures, with ``ok``.

    Args:
        fault: One of ``FAULTS``.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(each_one_told())
        served = await stack.enter_async_context(serving(folder, market_of=Crowd))
        page = await stack.enter_async_context(tab(1920, 1080))
        transferred = await _loaded(page, served, fault)
        return _judged(await _measured(page, length), transferred, length)


async def _loaded(page: Tab, served: Served, fault: str | None) -> int:
    """Open the page with a quote that goes on, and give the bytes that came for that, as they came."""
    await page.send("Page.enable")
    await page.send("Page.addScriptToEvaluateOnNewDocument", source=_MEASURE + FAULTS.get(fault or "", ""))
    await page.send("Network.enable")
    await page.send("Page.navigate", url=served.address)
    await page.until("document.querySelector('input[name=key]')")
    await page.evaluate(f"{_FILL}; fill('input[name=key]', 'input', {served.keys['all']!r})")
    await page.evaluate("document.querySelector('form').requestSubmit()")
    await page.until("document.querySelector('[data-testid=ladder] [data-price]')")
    await page.evaluate(f"fill('.levels select', 'change', '{LEVELS}')")
    await page.evaluate("fill('input[name=quantity]', 'input', '1')")
    rows = 2 * LEVELS + _OTHER_ROWS
    await page.until(f"document.querySelector('[data-testid=ladder]').getAttribute('aria-rowcount') === '{rows}'")
    await page.until("document.querySelector('[data-testid=total] [data-value]')")
    await page.send("Network.disable")
    ended = [event["params"] for event in page.events if event["method"] == "Network.loadingFinished"]
    return sum(one["encodedDataLength"] for one in ended)


async def _measured(page: Tab, length: Length) -> dict[str, Any]:
    """Let it run, and look at its memory now and then, while nothing is measured."""
    await page.send("Performance.enable", timeDomain="threadTicks")
    heaps: list[dict[str, float]] = [await _heap(page)]
    worked: dict[str, float] = {}
    measured_s = 0.0
    for _ in range(length.samples):
        before, began = await _metrics(page), time.monotonic()
        await page.evaluate("measuring = true")
        await asyncio.sleep(length.seconds / length.samples)
        await page.evaluate("measuring = false")
        measured_s += time.monotonic() - began
        after = await _metrics(page)
        for name in ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration"):
            worked[name] = worked.get(name, 0.0) + after[name] - before[name]
        heaps.append(await _heap(page))
    found = await page.evaluate("({frames_ms, books, long_tasks, shifted})")
    rows = await page.evaluate("document.querySelector('[data-testid=ladder]').getAttribute('aria-rowcount')")
    return {**found, "worked": worked, "heaps": heaps, "measured_s": measured_s, "levels": int(rows) - _OTHER_ROWS}


async def _metrics(page: Tab) -> dict[str, float]:
    answer = await page.send("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in answer["metrics"]}


async def _heap(page: Tab) -> dict[str, float]:
    """Take rubbish away, and give what is held then."""
    for _ in range(2):
        await page.send("HeapProfiler.collectGarbage")
    metrics = await _metrics(page)
    kept = {name: metrics[name] for name in ("JSHeapUsedSize", "Nodes", "JSEventListeners")}
    return {**kept, "rss_kb": page.rss_kb()}


def _judged(found: dict[str, Any], transferred: int, length: Length) -> dict[str, Any]:
    times = sorted(found["frames_ms"])
    books, worked, heaps = found["books"], found["worked"], found["heaps"]
    settled = heaps[length.samples // 5]
    figures = {
        "measured_s": round(found["measured_s"], 1),
        "books_per_s": round(books / found["measured_s"], 1),
        "levels": found["levels"],
        "frame_ms": {
            "p50": round(times[len(times) // 2], 1),
            "p95": round(times[len(times) * 95 // 100], 1),
            "p99": round(times[len(times) * 99 // 100], 1),
            "max": round(times[-1], 1),
        },
        "frames_per_s": round(len(times) / found["measured_s"], 1),
        "main_thread_ms_per_book": round(worked["TaskDuration"] * 1_000 / max(1, books), 2),
        "of_it": {
            name.removesuffix("Duration"): round(worked[name] * 1_000 / max(1, books), 2)
            for name in ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
        },
        "long_tasks": found["long_tasks"],
        "layout_shift": found["shifted"],
        "heap_kb": [round(heap["JSHeapUsedSize"] / 1_024) for heap in heaps],
        "rss_kb": [heap["rss_kb"] for heap in heaps],
        "nodes": [round(heap["Nodes"]) for heap in heaps],
        "transferred_bytes": transferred,
        "load_average": round(os.getloadavg()[0], 1),
    }
    fast = figures["frame_ms"]["p95"] < length.frame_ms_max and figures["books_per_s"] > length.books_per_s_min
    flat = (
        heaps[-1]["JSHeapUsedSize"] - settled["JSHeapUsedSize"] < HEAP_MORE_MAX_BYTES
        and heaps[-1]["rss_kb"] - settled["rss_kb"] < RSS_MORE_MAX_KB
        and heaps[-1]["Nodes"] <= settled["Nodes"] * 1.05
        and heaps[-1]["JSEventListeners"] <= settled["JSEventListeners"] * 1.05
    )
    small = 0 < transferred < TRANSFER_MAX_BYTES
    return figures | {"ok": bool(fast and flat and small and found["levels"] == 2 * LEVELS)}
