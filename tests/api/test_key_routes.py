"""API keys over HTTP: made once, listed without secrets, rotated, revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

SOON = "2100-01-01T00:00:00.000Z"
LABELLED = {
    "account": "carol",
    "scopes": ["account", "quote"],
    "expires_at": SOON,
    "addresses": ["10.0.0.0/8", "::1", "::ffff:192.0.2.7"],
    "label": "a job",
    "limits": {"quote_per_s": 5},
}
UNKNOWN = "0123456789"


async def make(house, **fields):
    """Make a key that is made, unless *fields* say otherwise."""
    return await house.ask(
        "POST", "/v1/admin/keys", key="admin", body={"account": "carol", "scopes": ["quote", "account"], **fields}
    )


def known(house, reply):
    """Let the house ask with a key that was just made; gives its id."""
    house.keys[reply.json["id"]] = reply.json["key"]
    return reply.json["id"]


async def listed(house):
    """Give all keys, by id."""
    reply = await house.get("/v1/admin/keys?limit=500", key="admin")
    return {key["id"]: key for key in reply.json["keys"]}


async def test_key_is_shown_once_and_works_at_once(house):
    """
    The answer to its making has the key, which opens what its scopes say, for an account that is open now.
    """
    made = await house.ask("POST", "/v1/admin/keys", key="admin", body=LABELLED)
    key_id, answer = known(house, made), made.json

    assert 201 == made.status
    text = answer.pop("key")
    assert key_id == text.split("_")[2]
    created_at = datetime.fromisoformat(answer.pop("created_at"))
    assert timedelta(0) <= datetime.now(UTC) - created_at < timedelta(minutes=1)
    assert {
        "id": key_id,
        "account": "carol",
        "scopes": ["quote", "account"],
        "status": "in_force",
        "label": "a job",
        "addresses": ["10.0.0.0/8", "::1/128", "192.0.2.7/32"],
        "limits": {"quote_per_s": 5, "execute_per_s": None},
        "expires_at": SOON,
        "revoked_at": None,
        "last_used_at": None,
    } == answer
    row = (await listed(house))[key_id]
    assert answer == {name: row[name] for name in answer} and text not in str(house.replies[-1].body)


async def test_account_of_a_new_key_is_open(house):
    """
    Whoever gets the key has the starting balances.
    """
    key_id = known(house, await make(house))

    account = await house.account(key=key_id)
    assert ("carol", "100000000") == (account["account"], account["balances"]["USDT"]["total"])


async def test_last_use_is_shown(house):
    """
    A key that was never used says so; one that was says when.
    """
    key_id = known(house, await make(house))
    assert (await listed(house))[key_id]["last_used_at"] is None

    await house.quote(key=key_id)
    used_at = datetime.fromisoformat((await listed(house))[key_id]["last_used_at"])
    assert timedelta(0) <= datetime.now(UTC) - used_at < timedelta(minutes=1)


async def test_keys_are_paged_newest_first(house):
    """
    Page by page all keys come once, the newest first, also while others are being made.
    """
    made = [known(house, await make(house)) for _ in range(3)]
    before = {key.key_id for key in await house.ledger.keys()}
    ids, query = [], "limit=2"
    while query:
        page = (await house.get(f"/v1/admin/keys?{query}", key="admin")).json
        ids += [key["id"] for key in page["keys"]]
        assert len(page["keys"]) == 2 or page["next_cursor"] is None
        query = page["next_cursor"] and f"limit=2&cursor={page['next_cursor']}"
        await make(house)

    assert made[::-1] == ids[:3]
    assert len(ids) == len(before) and before == set(ids)


@pytest.mark.parametrize("cursor", ["x", "a2" + "A" * 30, "a0FBQUFBQUFBQUE", "ZTE"])
async def test_cursor_that_was_not_given_is_refused(house, cursor):
    """
    A cursor is what ``next_cursor`` said, and of this list.
    """
    reply = await house.get(f"/v1/admin/keys?cursor={cursor}", key="admin")

    assert (400, [("cursor", "invalid_parameter")]) == (reply.status, reply.faults)


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    [
        ({"scopes": []}, "/scopes", "at least one of quote, execute, account, admin"),
        ({"scopes": "quote"}, "/scopes", "at least one of"),
        ({"scopes": ["quote", 5]}, "/scopes", "at least one of"),
        ({"account": "No"}, "/account", "must be 1 to 32"),
        ({"expires_at": "tomorrow"}, "/expires_at", "RFC 3339"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at", "must be in the future"),
        ({"addresses": "10.0.0.0/8"}, "/addresses", "must be a list of ranges"),
        ({"addresses": ["10.0.0.1/8"]}, "/addresses", "did you mean 10.0.0.0/8?"),
        ({"addresses": ["10.0.0.0/8", "x"]}, "/addresses", "addresses are ranges"),
        ({"addresses": ["10.0.0.1"] * 65}, "/addresses", "at most 64"),
        ({"label": ""}, "/label", "must be 1 to 64"),
        ({"label": "a\u0000"}, "/label", "must be 1 to 64"),
        ({"limits": 5}, "/limits", "must be an object of quote_per_s and execute_per_s"),
        ({"limits": {"quote_per_s": -1}}, "/limits", "from 0 to 1000000"),
        ({"limits": {"quote_per_s": 1.5}}, "/limits", "from 0 to 1000000"),
        ({"limits": {"quote_per_s": "5"}}, "/limits", "from 0 to 1000000"),
        ({"limits": {"qoute_per_s": 5}}, "/limits", "must be an object of"),
        ({"limits": {"quote_per_s": None}}, "/limits", "must be an object of"),
    ],
)
async def test_key_that_cannot_be_is_refused(house, fields, pointer, detail):
    """
    A key with a mistake in its terms is not made, and the answer says where the mistake is.
    """
    before = len(await house.ledger.keys())
    reply = await make(house, **fields)

    [fault] = reply.json["errors"]
    assert (400, pointer, "invalid_parameter") == (reply.status, fault["pointer"], fault["code"])
    assert detail in fault["detail"]
    assert before == len(await house.ledger.keys())


async def test_key_whose_time_is_over_while_it_is_made_is_refused(house):
    """
    It makes no difference how late that is found.
    """
    house.ring.now = lambda: datetime.now(UTC) + timedelta(hours=1)
    expires_at = (datetime.now(UTC) + timedelta(minutes=1)).isoformat(timespec="milliseconds")
    asked = {"account": "carol", "scopes": ["quote"], "expires_at": expires_at}
    reply = await house.ask("POST", "/v1/admin/keys", key="admin", body=asked)

    assert (400, [("/expires_at", "invalid_parameter")]) == (reply.status, reply.faults)


async def test_misspelt_scope_is_told_with_the_nearest(house):
    """
    What was meant stands in ``suggested``; all other mistakes are told as well.
    """
    reply = await make(house, scopes=["quote", "acount"], label="", expires_at="2020-01-01T00:00:00Z")

    suggested = {fault["pointer"]: fault.get("suggested") for fault in reply.json["errors"]}
    assert {"/scopes": "account", "/label": None, "/expires_at": None} == suggested


async def test_key_pasted_as_a_label_is_refused_and_not_kept(house):
    """
    A label is shown to every admin, so that no key may stand in one.
    """
    text = house.keys["all"]
    reply = await make(house, label=text)

    assert [("/label", "invalid_parameter")] == reply.faults
    assert text not in reply.body.decode() and text not in house.log.getvalue().decode()


async def test_revoked_key_is_unauthenticated_from_the_answer_on(house):
    """
    Revoking twice is revoking once; of an unknown key we are told.
    """
    key_id = known(house, await make(house))
    assert 200 == (await house.quote(key=key_id)).status

    revoked = await house.ask("DELETE", f"/v1/admin/keys/{key_id}", key="admin")
    assert (200, "revoked") == (revoked.status, revoked.json["status"])
    assert "unauthenticated" == (await house.quote(key=key_id)).code
    again = await house.ask("DELETE", f"/v1/admin/keys/{key_id}", key="admin")
    assert (200, revoked.json) == (again.status, again.json)
    for key_id in (UNKNOWN, "x", "%00", "a" * 100):
        assert "not_found" == (await house.ask("DELETE", f"/v1/admin/keys/{key_id}", key="admin")).code


@pytest.mark.parametrize("key_id", ["%00", "a%00b", "%ED%A0%80", "a" * 21, "a-b", "%C3%A9"])
async def test_what_is_no_keys_id_is_not_looked_for(house, key_id):
    """
    Some of it a database would choke on.
    """
    house.ledger.trouble["revoke_key"] = RuntimeError("was asked")
    revoked = await house.ask("DELETE", f"/v1/admin/keys/{key_id}", key="admin")
    rotated = await house.ask("POST", f"/v1/admin/keys/{key_id}/rotate", key="admin", body={"overlap_ms": 0})

    assert [(404, "not_found")] * 2 == [(reply.status, reply.code) for reply in (revoked, rotated)]


async def test_admin_key_may_revoke_and_rotate_itself(house):
    """
    An admin leaves with the key that they came with; nobody is kept from locking up.
    """
    key_id = known(house, await make(house, scopes=["admin"]))
    rotated = await house.ask("POST", f"/v1/admin/keys/{key_id}/rotate", key=key_id, body={"overlap_ms": 60_000})
    new_id = known(house, rotated)

    assert 200 == (await house.ask("DELETE", f"/v1/admin/keys/{key_id}", key=key_id)).status
    assert "unauthenticated" == (await house.get("/v1/admin/keys", key=key_id)).code
    assert 200 == (await house.ask("DELETE", f"/v1/admin/keys/{new_id}", key=new_id)).status
    assert "unauthenticated" == (await house.get("/v1/admin/keys", key=new_id)).code


async def test_rotated_keys_work_both_until_the_overlap_is_over(house):
    """
    The new key is like the old one, whose end is told, and comes.
    """
    key_id = known(house, await house.ask("POST", "/v1/admin/keys", key="admin", body={**LABELLED, "addresses": []}))
    reply = await house.ask("POST", f"/v1/admin/keys/{key_id}/rotate", key="admin", body={"overlap_ms": 3_600_000})
    new_id, replaced = known(house, reply), reply.json["replaces"]

    assert 201 == reply.status
    own = {"id", "key", "created_at", "expires_at", "replaces"}
    assert {name: value for name, value in reply.json.items() if name not in own} == {
        name: value for name, value in replaced.items() if name not in own
    }
    assert (key_id, True) == (replaced["id"], new_id != key_id)
    ends = datetime.fromisoformat(replaced["expires_at"])
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1)
    assert [200, 200] == [(await house.quote(key=one)).status for one in (key_id, new_id)]
    house.ring.now = lambda: ends + timedelta(milliseconds=1)  # What is shown has been cut to milliseconds.
    assert [401, 200] == [(await house.quote(key=one)).status for one in (key_id, new_id)]


async def test_key_that_is_not_in_force_is_not_rotated(house):
    """
    Nothing that works comes of a key that does not.
    """
    revoked = house.keys["revoked"].split("_")[2]
    for key_id in (revoked, UNKNOWN):
        reply = await house.ask("POST", f"/v1/admin/keys/{key_id}/rotate", key="admin", body={"overlap_ms": 0})
        assert (404, "not_found") == (reply.status, reply.code)
    assert len(await house.ledger.keys()) == len(await listed(house))


@pytest.mark.parametrize("overlap_ms", [-1, 2_592_000_001, 1.5, "1", None])
async def test_overlap_that_is_none_is_refused(house, overlap_ms):
    """
    An overlap is a whole number of milliseconds, of thirty days at most.
    """
    key_id = known(house, await make(house))
    body = {"overlap_ms": overlap_ms}
    reply = await house.ask("POST", f"/v1/admin/keys/{key_id}/rotate", key="admin", body=body)

    assert (400, [("/overlap_ms", "invalid_parameter")]) == (reply.status, reply.faults)


async def test_what_admins_do_to_keys_is_logged_without_them(house):
    """
    Which key was made, rotated and revoked, and by which one, stands in the log; no key does.
    """
    key_id = known(house, made := await make(house))
    rotated = await house.ask("POST", f"/v1/admin/keys/{key_id}/rotate", key="admin", body={"overlap_ms": 0})
    await house.ask("DELETE", f"/v1/admin/keys/{key_id}", key="admin")

    by = house.keys["admin"].split("_")[2]
    assert 3 * [(by, key_id)] == [(line["key_id"], line["for_key_id"]) for line in house.lines("request")]
    events = ("key.made", "key.rotated", "key.revoked")
    assert [key_id] * 3 == [line["key_id"] for event in events for line in house.lines(event)]
    log = house.log.getvalue().decode()
    assert made.json["key"] not in log and rotated.json["key"] not in log
