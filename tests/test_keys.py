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
from service.keys import (
    KEY_COLUMNS,
    SCOPES,
    KeyLimits,
    KeyRing,
    KeyTerms,
    Pepper,
    Principal,
    address_ranges,
    ends,
    key_row,
    load_pepper,
    quote_key,
    status,
)
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


def test_row_of_a_key_shows_nothing_secret():
    """
    A listing has a key's id, what it may, and times to the second, and neither digest nor key.
    """
    made = "2026-11-01T12:00:00+00:00"
    assert (KEY.key_id, "demo", "quote,execute", made, *[""] * 6) == tuple(key_row(KEY))
    terms = {"addresses": ("10.0.0.0/8", "::1/128"), "label": "a job", "quote_per_s": 0, "execute_per_s": 5}
    times = {name: NOW + timedelta(seconds=1.5) for name in ("expires_at", "revoked_at", "last_used_at")}
    row = dict(zip(KEY_COLUMNS, key_row(replace(KEY, **terms, **times)), strict=True))
    assert {"2026-11-01T12:00:01+00:00"} == {row["expires"], row["revoked"], row["last used"]}
    assert ("10.0.0.0/8,::1/128", "quote=0,execute=5", "a job") == (row["addresses"], row["limits"], row["label"])


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


# Terms


class Wall:
    """A wall clock that is moved by hand."""

    def __init__(self):
        self.at = NOW

    def __call__(self):
        return self.at


@pytest.fixture
def wall():
    return Wall()


def ring_with_terms(wall, **terms):
    ring = KeyRing(PEPPER, "simulated", wall)
    text, key = ring.make("demo", ["quote"], NOW, KeyTerms(**terms))
    ring.hold([key])
    return ring, text, key


def test_key_expires_at_its_moment(wall):
    """
    Until just before the moment it works; from then on it is nobody's key, without anybody doing anything.
    """
    ring, text, key = ring_with_terms(wall, expires_at=NOW + timedelta(hours=1))

    for after, expected in [(0, True), (3599.999999, True), (3600, False), (1e9, False)]:
        wall.at = NOW + timedelta(seconds=after)
        assert (after, expected, expected) == (after, ring.check(text) is not None, ring.in_force(key.key_id))
        assert ("in_force" if expected else "expired") == status(key, wall.at)
    assert "revoked" == status(replace(key, revoked_at=NOW), NOW)


def test_in_force_is_what_can_be_checked(wall):
    """
    A stream that was opened with a key asks by its id alone.
    """
    ring, _, key = ring_with_terms(wall)
    assert ring.in_force(key.key_id)

    ring.hold([replace(key, revoked_at=NOW)])
    assert not ring.in_force(key.key_id)
    ring.hold([key])
    assert ring.in_force(key.key_id)
    ring.drop(key.key_id)
    assert not ring.in_force(key.key_id)
    assert not ring.in_force("nobody")


def test_key_keeps_its_terms(wall):
    """
    Whom a key stands for says from where, and how often.
    """
    limits = KeyLimits(quote_per_s=5, execute_per_s=0)
    ring, text, key = ring_with_terms(wall, addresses=("10.0.0.0/8", "::1"), label="a job", limits=limits)

    assert Principal(key.key_id, "demo", frozenset({"quote"}), address_ranges(["10.0.0.0/8", "::1"]), limits) == (
        ring.check(text)
    )
    assert (("10.0.0.0/8", "::1/128"), "a job", 5, 0) == (key.addresses, key.label, key.quote_per_s, key.execute_per_s)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"expires_at": NOW}, "a key expires in the future"),
        ({"label": ""}, "a label is 1 to 64"),
        ({"label": "a\tb"}, "a label is 1 to 64"),
        ({"label": "x" * 65}, "a label is 1 to 64"),
        # A key that was pasted into the wrong place does not get into the record.
        ({"label": TEXT}, "and is no key"),
        ({"label": f"for {TEXT}"[:64]}, "and is no key"),
        ({"limits": KeyLimits(quote_per_s=-1)}, "limits are whole numbers from 0 to 1000000"),
        ({"limits": KeyLimits(execute_per_s=1_000_001)}, "limits are whole numbers"),
        ({"addresses": ("10.0.0.1/8",)}, r"bits beyond its range; did you mean 10\.0\.0\.0/8\?"),
        ({"addresses": ("2001:db8::1/32",)}, r"did you mean 2001:db8::/32\?"),
        ({"addresses": ("10.0.0.0/33",)}, "addresses are ranges such as"),
        ({"addresses": ("10.0.0.0/255.0.0.0",)}, "addresses are ranges such as"),
        ({"addresses": ("fe80::1%eth0",)}, "addresses are ranges such as"),
        ({"addresses": ("010.0.0.1",)}, "addresses are ranges such as"),
        ({"addresses": ("localhost",)}, "addresses are ranges such as"),
        ({"addresses": ("",)}, "addresses are ranges such as"),
        ({"addresses": ("10.0.0.0/8,::/0",)}, "addresses are ranges such as"),
        ({"addresses": tuple(f"10.0.0.{n}" for n in range(65))}, "at most 64 ranges"),
    ],
)
def test_term_that_cannot_be_is_refused_in_a_sentence(wall, terms, expected):
    """
    No key is made with a term that would not do what was meant.
    """
    with pytest.raises(ValueError, match=expected):
        ring_with_terms(wall, **terms)


@pytest.mark.parametrize(
    ("ranges", "inside", "outside"),
    [
        ([], ["10.0.0.1", "::1", "", "not an address"], []),
        (["10.0.0.0/8"], ["10.0.0.0", "10.255.255.255"], ["11.0.0.0", "9.255.255.255", "::1"]),
        (["192.0.2.7"], ["192.0.2.7"], ["192.0.2.8", "192.0.2.6"]),
        (["2001:db8::/32"], ["2001:db8::", "2001:db8:ffff::1"], ["2001:db9::", "10.0.0.1"]),
        # An address with the zone that it was seen in is the same address.
        (["fe80::/10"], ["fe80::1%eth0", "fe80::1"], ["fec0::1%eth0"]),
        # A listener on both protocols sees IPv4 callers under mapped addresses.
        (["10.0.0.0/8"], ["::ffff:10.1.2.3", "::FFFF:a01:203"], ["::ffff:11.1.2.3"]),
        (["::ffff:10.0.0.0/104"], ["10.1.2.3", "::ffff:10.1.2.3"], ["11.1.2.3", "::1"]),
        (["::ffff:192.0.2.7"], ["192.0.2.7"], ["192.0.2.8"]),
        # All of IPv6 is not IPv4.
        (["::/0"], ["::1", "2001:db8::1"], ["10.0.0.1", "::ffff:10.0.0.1"]),
        (["0.0.0.0/0"], ["10.0.0.1", "::ffff:10.0.0.1"], ["::1"]),
        (["10.0.0.0/8", "::1"], ["10.0.0.1", "::1"], ["::2", "192.0.2.1"]),
        # What is no address is inside of no range.
        (["0.0.0.0/0", "::/0"], [], ["", "unknown", "10.0.0.1, 10.0.0.2", "10.0.0", "1", "１.1.1.1"]),  # noqa: RUF001
    ],
)
def test_key_admits_addresses_of_its_ranges(ranges, inside, outside):
    """
    A key with ranges works from these and from nowhere else; one without works from everywhere.
    """
    principal = Principal("k", "demo", frozenset(), address_ranges(ranges))

    assert dict.fromkeys(inside, True) | dict.fromkeys(outside, False) == {
        address: principal.admits(address) for address in (*inside, *outside)
    }


# Rotation


def test_key_that_takes_anothers_place_is_like_it(wall):
    """
    Account, scopes and terms are the same; the id, the secret and the times are its own.
    """
    terms = {"addresses": ("10.0.0.0/8",), "label": "a job", "limits": KeyLimits(5, 6)}
    ring, text, key = ring_with_terms(wall, expires_at=NOW + timedelta(days=90), **terms)
    old = replace(key, last_used_at=NOW)
    later = NOW + timedelta(days=80)

    new_text, new = ring.make_after(old, later)

    assert FORM.fullmatch(new_text) and with_checksum(new_text[:-6]) == new_text and text != new_text
    assert new.key_id == new_text.split("_")[2] != key.key_id and new.digest != key.digest
    assert new == replace(
        key, key_id=new.key_id, digest=new.digest, created_at=later, expires_at=later + timedelta(days=90)
    )
    ring.add(new)
    assert ring.check(new_text) is not None


def test_life_of_a_key_that_takes_anothers_place(wall):
    """
    For ever after one that was for ever, and no longer than time goes on.
    """
    ring, _, key = ring_with_terms(wall)
    assert ring.make_after(key, NOW)[1].expires_at is None

    ring, _, key = ring_with_terms(wall, expires_at=datetime.max.replace(tzinfo=UTC) - timedelta(days=1))
    assert datetime.max.replace(tzinfo=UTC) == ring.make_after(key, NOW + timedelta(days=2))[1].expires_at


@pytest.mark.parametrize(
    ("expires_after_s", "overlap_s", "expected_s"), [(None, 60, 60), (None, 0, 0), (30, 60, 30), (90, 60, 60)]
)
def test_rotated_key_ends_after_the_overlap_and_never_later_than_before(expires_after_s, overlap_s, expected_s):
    """
    A rotation never makes the old key live longer.
    """
    key = replace(KEY, expires_at=None if expires_after_s is None else NOW + timedelta(seconds=expires_after_s))

    assert NOW + timedelta(seconds=expected_s) == ends(key, NOW, timedelta(seconds=overlap_s))


# What others do, and what is noted


async def test_dropped_key_stays_out_of_force_whatever_the_record_says():
    """
    A revocation that is not on record yet is not undone by the next look at the record.
    """
    ring, text, key = ring_with_key()
    ring.drop(key.key_id)

    ring.hold([key])
    assert ring.check(text) is None
    ring.add(key)
    assert ring.check(text) is None


async def test_key_made_while_the_record_is_read_stays_in_force():
    """
    What was read before a key was made or rotated does not take it, or the rotation, away again.
    """
    ring, text, key = ring_with_key()
    new_text, new = ring.make("demo", ["quote"], NOW)
    over = replace(key, expires_at=NOW)

    async def read():
        before = [key]
        ring.add(new)
        ring.add(over)
        return before

    await ring.follow(read)
    assert (None, True) == (ring.check(text), ring.check(new_text) is not None)

    async def read_later():
        return [over]

    await ring.follow(read_later)
    assert ring.check(new_text) is None


def test_last_use_is_noted_on_success_only(wall):
    """
    Whoever tries a wrong secret under a key's id does not make it look used.
    """
    ring, text, key = ring_with_terms(wall, expires_at=NOW + timedelta(hours=1))
    ring.check(with_checksum(f"iob_test_{key.key_id}_{'a' * 43}"))
    assert {} == ring.used()

    wall.at = NOW + timedelta(minutes=1)
    ring.check(text)
    assert {key.key_id: NOW + timedelta(minutes=1)} == ring.used()
    wall.at = NOW + timedelta(hours=2)
    ring.check(text)
    assert {key.key_id: NOW + timedelta(minutes=1)} == ring.take_used()
    assert {} == ring.used()


def test_use_that_could_not_be_kept_is_given_back_behind_a_later_one(wall):
    """
    What the record did not take is offered again, but for what has become old meanwhile.
    """
    ring, text, key = ring_with_terms(wall)
    ring.check(text)
    taken = {**ring.take_used(), "other": NOW}
    wall.at = NOW + timedelta(minutes=1)
    ring.check(text)

    ring.give_back_used(taken)

    assert {key.key_id: wall.at, "other": NOW} == ring.used()


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


def test_pepper_that_systemd_hands_over_is_taken(tmp_path, ledger):
    """
    A credential is for the service alone, though its mode shows the mask of its ACL: 0440. Beside it, 0440 is open.
    """
    file = tmp_path / "pepper"
    file.write_bytes(PEPPER)
    file.chmod(0o440)
    env = {"IOB_PEPPER_FILE": str(file)}

    assert Pepper(PEPPER) == load_pepper(env | {"CREDENTIALS_DIRECTORY": str(tmp_path)}, ledger)
    for elsewhere in ({}, {"CREDENTIALS_DIRECTORY": ""}, {"CREDENTIALS_DIRECTORY": str(tmp_path.parent)}):
        with pytest.raises(ConfigError, match="is open to other users"):
            load_pepper(env | elsewhere, ledger)
    file.chmod(0o444)
    with pytest.raises(ConfigError, match="is open to other users"):
        load_pepper(env | {"CREDENTIALS_DIRECTORY": str(tmp_path)}, ledger)


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
