"""Record what a board is told to a file, and read such files.

The file is a line of text that says what it is, and blocks: number, length, checksum, and up to 4 MiB of lines
(``exchanges.recorded``) compressed by zlib.  A block is written at least every second, so that a file that is cut off
anywhere reads back up to its last whole block.

The event loop only encodes; a thread compresses and writes.  Between them is a queue with an end: where the disk is too
slow for it, recording stops, and the feeds go on.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import structlog

from exchanges.board import Board
from exchanges.clock import Clock
from exchanges.errors import RecordingError
from exchanges.inputs import Input, Published
from exchanges.recorded import CLOSED, CUT, Decoder, Encoder, Ended, Header

MAGIC = b"internal-orderbook recording\n"
WRITE_EVERY_S = 0.5
WRITE_BYTES = 256 * 1_024
"""So much is not waited for any longer."""
PENDING_MAX_BYTES = 32 * 1_024 * 1_024
"""So much that is not on its way to the disk yet means that the disk is too slow."""
BLOCK_MAX_BYTES = 4 * 1_024 * 1_024
"""Of lines; the longest line, of a book of 5,000 levels a side all of whose numbers are long, is less than 1 MiB."""
CLOSE_WITHIN_S = 5.0
LEVEL = 3
"""zlib's: 6 takes twice the time for 6 % less."""
_FRAME = struct.Struct(">III")
_COMPRESSED_MAX_BYTES = BLOCK_MAX_BYTES + 64 * 1_024

log = structlog.get_logger()


class Recorder:
    """Follows a board until it is closed, or something keeps it from writing."""

    def __init__(self, path: Path, header: Header, board: Board, clock: Clock, bytes_max: int | None = None) -> None:
        """
        Begin a file; to be done before the board is told of the first book.

        Args:
            bytes_max: Recording ends when the file is this large; None for never.

        Raises:
            RecordingError: If there is such a file already, or it cannot be made.
        """
        self.path = path
        self.books = 0
        self.stopped: str | None = None
        """Why nothing is recorded any more; None while it is."""
        self._file = _created(path)
        self._bytes_written, self._bytes_max = 0, bytes_max
        self._board = board
        self._clock = clock
        self._encoder = Encoder(header.started_ns)
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._pending_bytes = 0
        self._due = threading.Event()
        self._closing = False
        self._blocks = 0
        self._thread = threading.Thread(target=self._write_until_closed, args=(header.encode(),), daemon=True)
        self._thread.start()
        board.watch(self._record)
        log.info("recording.started", path=str(path))

    @property
    def megabytes(self) -> float:
        """Give the size of the file so far."""
        return round(self._bytes_written / 1_000_000, 3)

    def close(self) -> None:
        """Write what is left and end the file; waits for the disk, but no longer than some seconds."""
        self._board.unwatch(self._record)
        with self._lock:
            if self.stopped is None:
                self._lines.append(self._encoder.end(self._clock.now_ns()))
        self._closing = True
        self._due.set()
        self._thread.join(CLOSE_WITHIN_S)
        if self._thread.is_alive():
            self._stop("the disk is too slow")
        elif self.stopped is None:
            self.stopped = CLOSED
            log.info("recording.ended", path=str(self.path), books=self.books, megabytes=self.megabytes)

    def _record(self, told: Input) -> None:
        """Take note of what a board was told; called on the event loop."""
        if self.stopped is not None:
            return
        line = self._encoder.line(told, 0 if isinstance(told, Published) else self._clock.now_ns())
        with self._lock:
            self._lines.append(line)
            self._pending_bytes += len(line) + 1
            pending_bytes = self._pending_bytes
        self.books += isinstance(told, Published)
        if pending_bytes > PENDING_MAX_BYTES:
            self._stop("the disk is too slow")
        elif pending_bytes > WRITE_BYTES:
            self._due.set()

    def _stop(self, reason: str) -> None:
        with self._lock:
            if self.stopped is not None:
                return
            self.stopped = reason
            self._lines, self._pending_bytes = [], 0
        log.warning("recording.stopped", path=str(self.path), reason=reason, books=self.books, megabytes=self.megabytes)

    # In the thread

    def _write_until_closed(self, header: bytes) -> None:
        try:
            with self._file:
                self._put(MAGIC)
                self._put_block(header)
                while not self._closing and self.stopped is None:
                    self._due.wait(WRITE_EVERY_S)
                    self._due.clear()
                    self._write_pending()
                self._write_pending()
        except OSError as error:
            self._stop(error.strerror or type(error).__name__)

    def _write_pending(self) -> None:
        with self._lock:
            lines, self._lines, self._pending_bytes = self._lines, [], 0
        for block in _blocks_of(lines):
            self._put_block(block)
        if self._bytes_max is not None and self._bytes_written >= self._bytes_max:
            self._stop("the file is as large as it may be")

    def _put_block(self, block: bytes) -> None:
        compressed = zlib.compress(block, LEVEL)
        start = _FRAME.pack(self._blocks, len(compressed), 0)
        self._put(_FRAME.pack(self._blocks, len(compressed), zlib.crc32(compressed, zlib.crc32(start))) + compressed)
        self._blocks += 1

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._bytes_written += len(data)


def _created(path: Path) -> BinaryIO:
    """Make a new file, or open what is no file (a pipe); nothing is buffered, so that a kill loses what waits only."""
    try:
        try:
            return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb", buffering=0)
        except FileExistsError:
            if stat.S_ISREG(path.stat().st_mode):
                raise
            return path.open("wb", buffering=0)
    except FileExistsError:
        raise RecordingError(f"{path} is there already; name another file, or remove it") from None
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror}") from error


def _blocks_of(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Join lines to blocks that are not too long."""
    block: list[bytes] = []
    length = 0
    for line in lines:
        if block and length + len(line) + 1 > BLOCK_MAX_BYTES:
            yield b"\n".join(block)
            block, length = [], 0
        block.append(line)
        length += len(line) + 1
    if block:
        yield b"\n".join(block)


class Recording:
    """A recorded file, opened for reading from its beginning to its end, once."""

    def __init__(self, path: Path) -> None:
        """
        Open it and read its header.

        Raises:
            RecordingError: If it cannot be opened, or is no recording.
        """
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
        self._blocks = 0
        self._ended = False
        try:
            if self._file.read(len(MAGIC)) != MAGIC:
                raise RecordingError("it is no recording")
            header = self._block()
            if header is None:
                raise RecordingError("it is cut off before its first book")
            self.header = Header.decode(header)
        except (RecordingError, OSError) as error:
            self._file.close()
            raise RecordingError(f"{path} cannot be replayed: {error}") from error
        self._decoder = Decoder(self.header.started_ns)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *failed: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def lines(self) -> list[bytes] | None:
        """
        Read the next block's lines, which are for ``read``; None after the last block.

        Raises:
            RecordingError: If the file is damaged there.
        """
        try:
            block = self._block()
        except OSError as error:
            raise RecordingError(f"it cannot be read on: {error.strerror}") from error
        return None if block is None else block.split(b"\n")

    def read(self, line: bytes) -> tuple[int, Input | Ended]:
        """
        Read a line, in its turn: when (boot-time clock, ns), and what the board was told.

        Raises:
            RecordingError: If it is no line of a recording.
        """
        if self._ended:
            raise RecordingError("it goes on after its end")
        at_ns, told = self._decoder.read(line)
        self._ended = isinstance(told, Ended)
        return at_ns, told

    def __iter__(self) -> Iterator[tuple[int, Input | Ended]]:
        """
        Give all that the board was told, and when (boot-time clock, ns), in order; the last one is the ``Ended``.

        Raises:
            RecordingError: Where the file is damaged, after all that stands before.
        """
        at_ns = self.header.started_ns
        while (lines := self.lines()) is not None:
            for line in lines:
                at_ns, told = self.read(line)
                yield at_ns, told
        if not self._ended:
            yield at_ns, Ended(CUT)

    def _block(self) -> bytes | None:
        """Read a block; None where the file ends before it does."""
        frame = self._file.read(_FRAME.size)
        if len(frame) < _FRAME.size:
            return None
        number, length, checksum = _FRAME.unpack(frame)
        if number != self._blocks or length > _COMPRESSED_MAX_BYTES:
            raise RecordingError(f"it is damaged in block {self._blocks}")
        compressed = self._file.read(length)
        if len(compressed) < length:
            return None
        if zlib.crc32(compressed, zlib.crc32(_FRAME.pack(number, length, 0))) != checksum:
            raise RecordingError(f"it is damaged in block {self._blocks}")
        self._blocks += 1
        return _decompressed(compressed)


def _decompressed(compressed: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        block = decompressor.decompress(compressed, BLOCK_MAX_BYTES + 1)
    except zlib.error as error:
        raise RecordingError("a block of it is not compressed as it should be") from error
    if not decompressor.eof or decompressor.unused_data or len(block) > BLOCK_MAX_BYTES:
        raise RecordingError("a block of it is longer than blocks are")
    return block
