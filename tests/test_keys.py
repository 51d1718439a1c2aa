"""API keys: only the key itself is accepted, whatever is sent; the pepper is never shown."""

from __future__ import annotations

import hmac
import os
import re
import string
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.errors import ConfigError
from service.keys import SCOPES, KeyRing, Pepper, Principal, key_sentence, load_pepper, quote_key
from service.ledger.sqlite import SqliteLedger

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
PEPPER = b"a pepper of at least thirty-two characters"
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
FORM = re.compile(r"iob_(live|test)_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}")


def ring_with_key(mode="simulated", account="demo", scopes=("quote", "execute"), pepper=PEPPER):
    ring = KeyRing(pepper, mode)
    text, key = ring.make(account, scopes, NOW)
    ring.hold([key])
    return ring, text, key


RING, TEXT, KEY = ring_with_key()
LIVE_RING, LIVE_TEXT, LIVE_KEY = ring_with_key("live")


def with_checksum(text):
    """End a text with the checksum that a key of it would have, worked out anew: CRC-32 in base 62, 6 digits."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        digits = BASE62[number % 62] + digits
        number //= 62
    return text + digits


@pytest.mark.parametrize(
    ("mode", "begins"), [("live", "iob_live_"), ("simulated", "iob_test_"), ("replay", "iob_test_")]
)
def test_key_is_one_word_of_the_documented_form(mode, begins):
    """
    A double click takes all of a key, a secret scanner finds it, and it says what it is for.
    """
    texts = {ring_with_key(mode)[1] for _ in range(50)}

    assert 50 == len(texts)
    for text in texts:
        assert text.startswith(begins) and FORM.fullmatch(text) and text.replace("_", "").isalnum() and text.isascii()
        assert with_checksum(text[:-6]) == text


def test_every_letter_and_digit_occurs_in_keys():
    """
    No part of the alphabet is left out: 43 characters of 62 are 256 bits.
    """
    assert set(BASE62) == set("".join(ring_with_key()[1].rsplit("_", 1)[1] for _ in range(60)))


def test_key_stands_for_its_account_and_scopes():
    """
    A key tells whose orders it gives and what it may do.
    """
    assert Principal(KEY.key_id, "demo", frozenset({"quote", "execute"})) == RING.check(TEXT)
    assert TEXT.split("_")[2] == KEY.key_id
    assert (("quote", "execute"), NOW, None) == (KEY.scopes, KEY.created_at, KEY.revoked_at)


def test_scopes_are_kept_once_and_in_their_order():
    """
    However they were listed, scopes read alike.
    """
    assert SCOPES == KeyRing(PEPPER, "live").make("demo", [*reversed(SCOPES), "quote"], NOW)[1].scopes


@given(st.text() | st.text(alphabet=BASE62 + "_") | st.from_regex(FORM, fullmatch=True))
def test_no_text_other_than_the_key_is_accepted(text):
    """
    Junk of any kind, and texts of the right form, are nobody's key and no accident either.
    """
    assume(text not in (TEXT, LIVE_TEXT))

    assert RING.check(text) is None


@given(st.text(alphabet=BASE62, min_size=43, max_size=43))
def test_other_secret_under_a_known_id_is_not_accepted(secret):
    """
    The id, which may be shown, opens nothing, even with a right checksum.
    """
    text = with_checksum(f"iob_test_{KEY.key_id}_{secret}")
    assume(text != TEXT)

    assert RING.check(text) is None


@pytest.mark.parametrize("right_checksum", [False, True])
def test_no_single_change_is_accepted(right_checksum):
    """
    A character replaced, left out or put in anywhere is another key, also where the checksum is made to fit.
    """
    body = TEXT[:-6] if right_checksum else TEXT
    others = "0aZ_- \n\0é\ud800"
    changed = {body[:at] + other + body[at + 1 :] for at in range(len(body)) for other in others}
    changed |= {body[:at] + body[at + 1 :] for at in range(len(body))}
    changed |= {body[:at] + other + body[at:] for at in range(len(body) + 1) for other in others}
    changed.discard(body)
    if right_checksum:
        changed = {with_checksum(text) for text in changed if "\ud800" not in text}

    assert [] == [text for text in changed if RING.check(text) is not None]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\0",
        "\ud800",
        "iob_test_\ud800",
        "iob_test_" + "é" * 10 + "_" + "é" * 49,
        # Digits to some, not to us.
        "iob_test_" + "٣" * 10 + "_" + "٣" * 49,
        "x" * 1_000_000,
        "iob_test_" + "a" * 1_000_000,
        TEXT * 15_000,
        TEXT + "\n",
        " " + TEXT,
        TEXT.upper(),
        TEXT.swapcase(),
        LIVE_TEXT,
        # The other mode's prefix with a checksum that fits.
        with_checksum(TEXT[:-6].replace("iob_test_", "iob_live_")),
        with_checksum(LIVE_TEXT[:-6].replace("iob_live_", "iob_test_")),
        f"Bearer {TEXT}",
        TEXT[:-6] + "000000",
    ],
    ids=map(str, range(19)),
)
def test_junk_is_nobodys_key(text):
    """
    What is not a key of this mode is not accepted, and never raises.
    """
    assert RING.check(text) is None


def test_key_of_the_other_mode_is_not_accepted_even_if_it_is_on_record():
    """
    A live key does nothing in a simulation, nor the other way about, whatever the record says.
    """
    for mode, text, key in (("simulated", LIVE_TEXT, LIVE_KEY), ("live", TEXT, KEY)):
        ring = KeyRing(PEPPER, mode)
        ring.hold([key])
        assert ring.check(text) is None


def test_revoked_key_is_like_an_unknown_one():
    """
    Revoked, unknown and never made: all the same answer.
    """
    ring, text, key = ring_with_key()
    assert ring.check(text) is not None

    ring.hold([replace(key, revoked_at=NOW)])
    assert ring.check(text) is None
    ring.hold([])
    assert ring.check(text) is None
    ring.hold([key])
    assert ring.check(text) is not None


def test_made_key_is_not_in_force_before_it_is_held():
    """
    A key that was not kept opens nothing.
    """
    ring = KeyRing(PEPPER, "simulated")

    assert ring.check(ring.make("demo", ["quote"], NOW)[0]) is None


@pytest.mark.parametrize("pepper", [b"another pepper of more than thirty-two characters", PEPPER + b"."])
def test_digest_hangs_on_the_pepper(pepper):
    """
    The record alone does not tell whether a key is right: under another pepper it is not.
    """
    ring = KeyRing(pepper, "simulated")
    ring.hold([KEY])

    assert ring.check(TEXT) is None
    assert 32 == len(KEY.digest)


@pytest.mark.parametrize(
    ("account", "scopes", "expected"),
    [
        ("", ["quote"], "an account's name is 1 to 32 of a-z 0-9 _ -, and begins with a letter or digit"),
        ("A", ["quote"], "an account's name is"),
        ("_a", ["quote"], "an account's name is"),
        ("a b", ["quote"], "an account's name is"),
        ("a\n", ["quote"], "an account's name is"),
        ("é", ["quote"], "an account's name is"),
        ("\ud800", ["quote"], "an account's name is"),
        ("a" * 33, ["quote"], "an account's name is"),
        ("a", [], "a key needs at least one scope of quote, execute, account, admin"),
        ("a", ["qoute"], "scopes are quote, execute, account, admin; did you mean quote?"),
        ("a", ["quote", "zzz"], "scopes are quote, execute, account, admin"),
        ("a", [""], "scopes are quote, execute, account, admin"),
        ("a", ["QUOTE"], "scopes are quote, execute, account, admin"),
    ],
)
def test_what_no_key_can_have_is_refused_in_a_sentence(account, scopes, expected):
    """
    A wrong name or scope is refused, with the nearest right one.
    """
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        KeyRing(PEPPER, "live").make(account, scopes, NOW)

    text = str(refused.value)
    assert text == expected or (expected.endswith("is") and text.startswith(expected))


@pytest.mark.parametrize("account", ["a", "0", "a-b_c", "a" * 32])
def test_accounts_names(account):
    """
    Accounts are named in small letters, digits, dashes and underscores.
    """
    ring, text, _ = ring_with_key(account=account)

    assert account == ring.check(text).account


def test_key_sentence_shows_nothing_secret():
    """
    A listing has id, account, scopes and times to the second, and neither digest nor key.
    """
    assert (KEY.key_id, "demo", "quote,execute", "2026-11-01T12:00:00+00:00", "") == tuple(key_sentence(KEY))
    revoked = replace(KEY, revoked_at=NOW + timedelta(seconds=1.5))
    assert "2026-11-01T12:00:01+00:00" == key_sentence(revoked)[-1]


async def test_files_of_the_ledger_never_hold_the_key(tmp_path):
    """
    Neither the database nor its log holds a key's secret, while open and after; only its id.
    """
    ledger = SqliteLedger.open(tmp_path / "ledger.db", "simulated")
    await ledger.add_key(KEY)
    open_files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    await ledger.close()
    closed_files = b"".join(file.read_bytes() for file in tmp_path.iterdir())

    secret = TEXT.rsplit("_", 1)[1]
    for files in (open_files, closed_files):
        assert KEY.key_id.encode() in files and KEY.digest in files
        assert secret[:43].encode() not in files and secret[:12].encode() not in files and PEPPER not in files


# The pepper


def problem_of(env, ledger):
    """Load a pepper that must be refused; give the sentence."""
    with pytest.raises(ConfigError) as refused:
        load_pepper(env, ledger)
    (problem,) = refused.value.problems
    return problem


@pytest.fixture
def ledger(tmp_path):
    """Name a ledger in a folder that is not there yet."""
    return tmp_path / "data" / "ledger.db"


def private(path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)


def test_pepper_is_made_once_and_kept(ledger):
    """
    Without a pepper one is made beside the ledger, for the owner alone, and used ever after.
    """
    before = os.umask(0)
    try:
        made = load_pepper({}, ledger)
    finally:
        os.umask(before)
    beside = ledger.parent / "pepper"

    assert beside == made.made_at
    assert (0o600, 0o700) == (beside.stat().st_mode & 0o777, ledger.parent.stat().st_mode & 0o777)
    assert len(made.secret) >= 32 and beside.read_bytes() == made.secret
    assert ["pepper"] == [file.name for file in ledger.parent.iterdir()]
    assert Pepper(made.secret) == load_pepper({}, ledger)
    assert made.secret != load_pepper({}, ledger.parent / "other" / "ledger.db").secret


def test_processes_that_start_together_make_one_pepper(ledger):
    """
    Whoever starts at the same moment gets the same pepper, whole; one of them made it.
    """
    for attempt in range(20):
        together = threading.Barrier(8)

        def load(ledger=ledger.parent / str(attempt) / "ledger.db", together=together):
            together.wait()
            return load_pepper({}, ledger)

        with ThreadPoolExecutor(8) as threads:
            peppers = [done.result() for done in [threads.submit(load) for _ in range(8)]]

        assert 1 == len({pepper.secret for pepper in peppers})
        assert 1 == len([pepper for pepper in peppers if pepper.made_at])


@pytest.mark.parametrize("around", [(b"", b""), (b"", b"\n"), (b" ", b"\r\n")])
def test_pepper_is_the_same_given_or_in_a_file(tmp_path, ledger, around):
    """
    A line feed at the end, as editors and shells leave it, is no part of the pepper; nothing is made then.
    """
    text = around[0] + PEPPER + around[1]
    file = private(tmp_path / "file", text)

    assert Pepper(PEPPER) == load_pepper({"IOB_PEPPER": text.decode()}, ledger)
    assert Pepper(PEPPER) == load_pepper({"IOB_PEPPER_FILE": file}, ledger)
    assert Pepper(PEPPER) == load_pepper({"IOB_PEPPER_FILE": file, "IOB_PEPPER": ""}, ledger)
    assert not ledger.parent.exists()


def test_pepper_of_any_bytes_is_taken_from_the_environment(ledger):
    """
    Bytes that are not UTF-8 are a pepper, too.
    """
    secret = bytes(range(128, 192))

    assert Pepper(secret) == load_pepper({"IOB_PEPPER": os.fsdecode(secret)}, ledger)


SECRET = "do-not-show-me"


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (SECRET.encode(), 0o600, "IOB_PEPPER_FILE: the pepper needs at least 32 characters"),
        (b"", 0o600, "IOB_PEPPER_FILE: the pepper needs at least 32 characters"),
        (b" " * 40, 0o600, "IOB_PEPPER_FILE: the pepper needs at least 32 characters"),
        (SECRET.encode() * 3, 0o640, "is open to other users; give it mode 0600"),
        (SECRET.encode() * 3, 0o604, "is open to other users; give it mode 0600"),
        (SECRET.encode() * 3, 0o620, "is open to other users; give it mode 0600"),
    ],
)
def test_pepper_file_that_is_no_good_is_refused_and_not_shown(tmp_path, ledger, content, mode, expected):
    """
    A pepper that is short or that others may read is refused without showing it.
    """
    file = tmp_path / "file"
    file.write_bytes(content)
    file.chmod(mode)

    problem = problem_of({"IOB_PEPPER_FILE": str(file)}, ledger)

    assert problem.endswith(expected) and SECRET not in problem


def test_short_or_double_pepper_is_refused_and_not_shown(tmp_path, ledger):
    """
    Given too short, or in two ways, the pepper is refused without showing it.
    """
    file = private(tmp_path / "file", PEPPER)

    assert "IOB_PEPPER: the pepper needs at least 32 characters" == problem_of({"IOB_PEPPER": SECRET}, ledger)
    assert "IOB_PEPPER: the pepper needs at least 32 characters" == problem_of({"IOB_PEPPER": "a" * 31}, ledger)
    both = {"IOB_PEPPER": SECRET * 3, "IOB_PEPPER_FILE": file}
    assert "IOB_PEPPER and IOB_PEPPER_FILE are both set; keep one of them" == problem_of(both, ledger)
    assert load_pepper({"IOB_PEPPER": "a" * 32}, ledger)


def test_pepper_that_cannot_be_read_or_made_is_refused(tmp_path, ledger):
    """
    A file that is not there, a folder in its place, a name that is none: each is a sentence.
    """
    assert "cannot be read: No such file or directory" in problem_of({"IOB_PEPPER_FILE": str(tmp_path / "x")}, ledger)
    assert "cannot be read: Is a directory" in problem_of({"IOB_PEPPER_FILE": str(tmp_path)}, ledger)
    (tmp_path / "file").touch()
    assert "cannot be read: Not a directory" in problem_of({}, tmp_path / "file" / "ledger.db")
    assert "cannot be made: not a file name" in problem_of({}, tmp_path / "nul\0" / "ledger.db")
    assert "cannot be made: File name too long" in problem_of({}, tmp_path / ("x" * 300) / "ledger.db")


def test_damaged_pepper_beside_the_ledger_is_refused_not_replaced(ledger):
    """
    A pepper that was emptied is not made anew: all keys would be lost without a word.
    """
    load_pepper({}, ledger)
    beside = ledger.parent / "pepper"
    beside.write_bytes(b"")

    assert "the pepper beside the ledger: the pepper needs at least 32 characters" == problem_of({}, ledger)
    assert b"" == beside.read_bytes()
    beside.chmod(0o644)
    assert "is open to other users" in problem_of({}, ledger)


def test_pepper_is_not_shown_by_repr():
    """
    A pepper that gets into a message does not show itself; nor does the ring that holds it.
    """
    pepper = Pepper(PEPPER)

    for shown in (repr(pepper), str(pepper), f"{[pepper]}", repr(KeyRing(PEPPER, "live"))):
        assert PEPPER.decode() not in shown and "pepper of" not in shown


def test_quote_key_hangs_on_pepper_and_ledger():
    """
    Quotes of one ledger are signed alike by all its processes, and by no other's.
    """
    keys = {quote_key(pepper, ledger) for pepper in (PEPPER, PEPPER + b".") for ledger in ("a" * 32, "b" * 32)}

    assert 4 == len(keys)
    assert {32} == {len(key) for key in keys}
    assert quote_key(PEPPER, "a" * 32) == quote_key(PEPPER, "a" * 32)
    assert PEPPER not in keys


def test_wrong_checksum_is_junk_even_if_the_record_has_its_digest():
    """
    A mistyped key is dropped before anything is looked up, so that not even a digest that fits lets it in.
    """
    mistyped = TEXT[:-1] + ("a" if TEXT[-1] != "a" else "b")
    ring = KeyRing(PEPPER, "simulated")
    ring.hold([replace(KEY, digest=hmac.digest(PEPPER, mistyped.encode(), "sha256"))])

    assert ring.check(mistyped) is None
