"""Recorded files: whole or cut, they read back up to there, and no damage makes a wrong book of them."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exchanges import recording
from exchanges.board import Board
from exchanges.book import UNIT, Ladder, VenueBook
from exchanges.clock import MS
from exchanges.errors import RecordingError
from exchanges.inputs import (
    Arranged,
    Doubted,
    Emptied,
    Failed,
    Instructed,
    Published,
    Rejected,
    Seated,
    Spoiled,
    Unseated,
)
from exchanges.instruments import Instrument
from exchanges.recorded import CLOSED, CUT, Encoder, Ended
from exchanges.recording import MAGIC, Recorder, Recording
from tests.exchanges.test_recorded import HEADER

WITHIN_S = 20.0


def until(condition):
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this in time"
        time.sleep(0.01)


class Told:
    """A board that is told all kinds of things, and takes note of them."""

    def __init__(self, clock):
        self.clock = clock
        self.board = Board(Decimal(100))
        self.all = []
        for venue in ("kraken", "okx"):
            self.board.seat(venue, "BTC/USDT", 5_000, clock.now_ns())
        self.board.watch(self.all.append)

    def show(self, venue, mid, levels=1):
        bids, asks = (
            Ladder(tuple((mid + sign * n) * UNIT // 10 for n in range(1, levels + 1)), (UNIT,) * levels)
            for sign in (-1, 1)
        )
        now_ns = self.clock.now_ns()
        self.board.publish(VenueBook(venue, "BTC/USDT", bids, asks, now_ns - 3 * MS, None), now_ns)
        self.clock.advance(50)

    def a_little(self):
        for mid in (1_000, 1_001, 1_003):
            self.show("kraken", mid)
            self.show("okx", mid + 1, 3)
        self.board.instruct(Instrument("okx", "BTC/USDT", None, Decimal("0.1"), None, None, Decimal(10)))
        self.board.reject("okx", "BTC/USDT", "crossed", self.clock.now_ns())
        self.board.fail("kraken", "BTC/USDT", "timeout", self.clock.now_ns(), at_once=True)
        self.board.spoil("loop_stalled", self.clock.now_ns())
        self.board.doubt("okx", "BTC/USDT", "contradicted", self.clock.now_ns())
        self.board.empty("okx", "BTC/USDT", "gap", self.clock.now_ns())
        self.board.arrange(["okx", "kraken"], ["BTC/USDT"], Decimal(80))
        return self


@pytest.fixture
def told(clock):
    return Told(clock)


def header(clock):
    return replace(HEADER, started_ns=clock.now_ns())


def record(path, told):
    return Recorder(path, header(told.clock), told.board, told.clock)


def read(path):
    """Give all of a recording; what it ends in is the last."""
    with Recording(path) as recorded:
        return [one for _, one in recorded]


def read_until_damage(path):
    """Give all that can be read, and the words of the error it ends in, if it does."""
    found = []
    try:
        with Recording(path) as recorded:
            found.extend(one for _, one in recorded)
    except RecordingError as error:
        return found, str(error)
    return found, None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "books.rec"


@pytest.fixture
def whole(path, told, monkeypatch):
    """A small recording of several blocks, and what was told."""
    with monkeypatch.context() as patched:
        patched.setattr(recording, "BLOCK_MAX_BYTES", 120)
        recorder = record(path, told)
        told.a_little()
        recorder.close()
    return path.read_bytes(), [*told.all, Ended(CLOSED)]


def test_recording_reads_back_as_it_was_told(whole, path):
    """
    Books, rejects, failures, rules and stalls are read in their order; the header is the one it began with.
    """
    data, told = whole
    with Recording(path) as recorded:
        back = list(recorded)

    assert told == [one for _, one in back]
    assert sorted(at_ns for at_ns, _ in back) == [at_ns for at_ns, _ in back]
    assert data.startswith(MAGIC)
    assert HEADER.venues == recorded.header.venues
    kinds = {Published, Instructed, Rejected, Failed, Spoiled, Doubted, Emptied, Arranged, Seated, Ended}
    assert kinds == {type(one) for one in told}


def test_same_told_makes_the_same_board(path, told):
    """
    A board that takes what a recording holds shows the same sources at every moment, since when included.
    """
    told.all.clear()
    recorder = record(path, told)
    told.a_little().board.unseat("okx", "ETH/USDT")
    recorder.close()
    board = Board(Decimal(100))
    for one in read(path)[:-1]:
        board.take(one)

    for ms in (0, 1_000, 4_700, 10_000):
        now_ns = told.clock.now_ns() + ms * MS
        assert told.board.sources("BTC/USDT", now_ns) == board.sources("BTC/USDT", now_ns)
    assert told.board.tally("okx") == board.tally("okx")
    assert Unseated("okx", "ETH/USDT") == told.all[-1]


def test_file_cut_off_anywhere_reads_up_to_its_last_whole_block(whole, path):
    """
    After a kill or a full disk, whatever is there of a file is the beginning of what was told, and says that it is cut.
    """
    data, told = whole
    lengths = set()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        found, error = read_until_damage(path)
        if error is None:
            assert [*told[: len(found) - 1], Ended(CUT)] == found
            lengths.add(len(found))
        else:
            assert not found
            assert ("it is no recording" if length < len(MAGIC) else "before its first book") in error

    assert len(lengths) > 3


def test_flipped_bytes_make_no_wrong_book(whole, path):
    """
    Whatever byte of a file is another one: what is read is the beginning of what was told, and then an end.
    """
    data, told = whole
    random_bits = random.Random(7)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << random_bits.randrange(8)
        path.write_bytes(damaged)
        found, error = read_until_damage(path)

        assert told != found
        if error is None:
            assert Ended(CUT) == found.pop()
        assert told[: len(found)] == found


def blocks(*bodies, start=0):
    """Write blocks as they should be, around bodies that may be anything."""
    data = b""
    for number, body in enumerate(bodies, start):
        frame = struct.pack(">III", number, len(body), 0)
        data += struct.pack(">III", number, len(body), zlib.crc32(body, zlib.crc32(frame))) + body
    return data


LINE = Encoder(HEADER.started_ns).line(Spoiled("loop_stalled", HEADER.started_ns), 0)
END = Encoder(HEADER.started_ns).end(HEADER.started_ns)
FIRST = zlib.compress(HEADER.encode())


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"not compressed", "not compressed as it should be"),
        (zlib.compress(LINE) + b"more", "longer than blocks are"),
        (zlib.compress(LINE)[:-4], "longer than blocks are"),
        # 60 kB that would be 64 MiB
        (zlib.compress(b" " * 2**26), "longer than blocks are"),
        (zlib.compress(b""), "not JSON"),
        (zlib.compress(LINE + b"\n\n" + LINE), "not JSON"),
        (zlib.compress(END + b"\n" + LINE), "goes on after its end"),
    ],
)
def test_block_that_holds_something_else_is_refused(path, body, problem):
    """
    A checksum that fits proves nothing: what is in a block is looked at as a stranger's.
    """
    path.write_bytes(MAGIC + blocks(FIRST, body))

    assert problem in read_until_damage(path)[1]


def test_block_of_just_the_greatest_length_is_read(path, monkeypatch):
    """
    The limit of a block's length is not one less for who reads it.
    """
    monkeypatch.setattr(recording, "BLOCK_MAX_BYTES", len(HEADER.encode()))
    padded = LINE + b" " * (len(HEADER.encode()) - len(LINE))
    path.write_bytes(MAGIC + blocks(FIRST, zlib.compress(padded)))

    assert [Spoiled("loop_stalled", HEADER.started_ns), Ended(CUT)] == read(path)


def test_block_that_is_missing_is_found(whole, path):
    """
    Blocks are numbered: a file with one taken out is damaged there.
    """
    path.write_bytes(MAGIC + blocks(FIRST) + blocks(zlib.compress(LINE), start=2))

    assert ([], "it is damaged in block 1") == read_until_damage(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is no recording"),
        (b"PK" + bytes(100), "it is no recording"),
        (MAGIC, "cut off before its first book"),
        (MAGIC + blocks(zlib.compress(b"{}")), "of version 'None'"),
        (MAGIC + blocks(zlib.compress(LINE)), "begins with its header"),
    ],
)
def test_file_that_is_no_recording_is_refused(path, data, problem):
    """
    Another kind of file, an empty one, or a recording of another version is refused with what is wrong.
    """
    path.write_bytes(data)

    with pytest.raises(RecordingError, match=f"books.rec cannot be replayed: .*{problem}"):
        Recording(path)


def test_file_that_cannot_be_read_is_refused(path, tmp_path):
    """
    A file that is not there, or a folder, is refused with its name.
    """
    for name in (path, tmp_path):
        with pytest.raises(RecordingError, match=f"{name} cannot be read"):
            Recording(name)


def test_file_that_is_there_is_never_written_over(path, told):
    """
    A recording that somebody made is not lost to the next one.
    """
    path.write_bytes(b"mine")

    with pytest.raises(RecordingError, match="is there already"):
        record(path, told)
    assert b"mine" == path.read_bytes()


def test_file_that_cannot_be_made_is_refused(tmp_path, told):
    """
    A folder that is not there is an error before anything starts.
    """
    with pytest.raises(RecordingError, match="cannot be written: No such file"):
        record(tmp_path / "missing" / "books.rec", told)


def test_full_disk_ends_the_recording_and_nothing_else(told):
    """
    The board goes on as if nothing was; one line of the log says what ended the recording.
    """
    with capture_logs() as logs:
        recorder = record(Path("/dev/full"), told)
        told.a_little()
        until(lambda: recorder.stopped)
        told.clock.advance(50)
        told.show("kraken", 1_004)
        recorder.close()

    stopped = [line for line in logs if line["event"] == "recording.stopped"]
    assert [("No space left on device", 0.0)] == [(line["reason"], line["megabytes"]) for line in stopped]
    assert "recording.ended" not in [line["event"] for line in logs]
    assert Decimal("100.4") == Decimal(told.board.source("kraken", "BTC/USDT", told.clock.now_ns()).book.mid) / UNIT


def test_recording_ends_when_the_file_is_large_enough(path, told):
    """
    A recording that nobody ends does not fill the disk; what it has until then is played.
    """
    recorder = Recorder(path, header(told.clock), told.board, told.clock, bytes_max=300)
    with capture_logs() as logs:
        told.a_little()
        until(lambda: recorder.stopped)
        told.a_little()
        recorder.close()

    assert ["the file is as large as it may be"] == [line["reason"] for line in logs]
    assert Ended(CUT) == read(path)[-1]
    assert 300 <= path.stat().st_size < 2_000


@pytest.fixture
def blocked(tmp_path):
    """A disk that takes some thousand bytes and then nothing more: a pipe that nobody reads."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reading
    os.close(reading)


def test_slow_disk_ends_the_recording_and_nothing_waits(blocked, told, monkeypatch):
    """
    What cannot be written in time is not kept for ever: recording stops, and says why.
    """
    monkeypatch.setattr(recording, "PENDING_MAX_BYTES", 200_000)
    monkeypatch.setattr(recording, "WRITE_BYTES", 10_000)
    monkeypatch.setattr(recording, "LEVEL", 0)
    monkeypatch.setattr(recording, "CLOSE_WITHIN_S", 0.1)
    path, _ = blocked
    with capture_logs() as logs:
        recorder = record(path, told)
        slowest_s = 0.0
        for n in range(2_000):
            began = time.monotonic()
            told.show("kraken", 100_000 + n % 3 * 1_000, 50)
            slowest_s = max(slowest_s, time.monotonic() - began)
            if recorder.stopped:
                break
        recorder.close()

    assert ["the disk is too slow"] == [line["reason"] for line in logs if line["event"] == "recording.stopped"]
    assert slowest_s < 5.0


def test_disk_that_never_answers_does_not_keep_from_closing(blocked, told, monkeypatch):
    """
    Closing waits for the disk for some seconds, and then says that the file is not whole.
    """
    monkeypatch.setattr(recording, "LEVEL", 0)
    monkeypatch.setattr(recording, "CLOSE_WITHIN_S", 0.2)
    path, _ = blocked
    with capture_logs() as logs:
        recorder = record(path, told)
        for n in range(200):
            told.show("kraken", 100_000 + n % 3 * 1_000, 100)
        recorder.close()

    assert ["the disk is too slow"] == [line["reason"] for line in logs if line["event"] == "recording.stopped"]


def test_recording_goes_through_a_pipe(blocked, told, path):
    """
    What is no file is written to, so that another program may take it on the way.
    """
    pipe, reading = blocked
    recorder = record(pipe, told)
    told.a_little()
    recorder.close()
    path.write_bytes(os.read(reading, 1_000_000))

    assert [*told.all, Ended(CLOSED)] == read(path)


def test_books_are_on_the_disk_within_a_second(path, told):
    """
    What was shown a moment ago is in the file, though recording goes on.
    """
    recorder = record(path, told)
    told.show("kraken", 1_000)

    until(lambda: len(read_until_damage(path)[0]) == 4)
    told.show("okx", 1_000)
    until(lambda: len(read(path)) == 5)
    assert Ended(CUT) == read(path)[-1]
    recorder.close()
    assert Ended(CLOSED) == read(path)[-1]
    assert (2, "closed") == (recorder.books, recorder.stopped)
    assert round(path.stat().st_size / 1_000_000, 3) == recorder.megabytes


def test_killed_recorder_leaves_what_it_had_written(path):
    """
    A kill in the middle of recording costs what was not written yet, and nothing before it.
    """
    program = (
        "import sys; from pathlib import Path; from tests.conftest import HeldClock\n"
        "from tests.exchanges.test_recording import Told, record\n"
        "told = Told(HeldClock()); recorder = record(Path(sys.argv[1]), told)\n"
        "told.a_little(); print(len(told.all), flush=True)\n"
        "while True: told.show('kraken', 1_000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        told = next(int(line) for line in process.stdout if line.strip().isdigit())
        until(lambda: len(read_until_damage(path)[0]) > told)
        process.send_signal(signal.SIGKILL)

    found = read(path)
    assert (Seated, Ended(CUT)) == (type(found[0]), found[-1])
    assert len(found) > told


def test_closed_recorder_follows_no_more(path, told):
    """
    What comes after the end is not in the file, and its thread is gone.
    """
    threads = threading.active_count()
    recorder = record(path, told)
    recorder.close()
    told.show("kraken", 1_000)

    assert threads == threading.active_count()
    assert [Seated, Seated, Ended] == [type(one) for one in read(path)]
