"""Make quote ids that hold the whole quote and cannot be forged.

A quote id is ``q2.<terms>.<mac>``: the terms as JSON and an HMAC-SHA-256 over them, both in URL-safe base64.  It costs
the server no memory and is honoured by every process that shares the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from exchanges.book import Side
from service.desk.orders import QuotedSide, QuoteRequest
from service.pricing.bounds import Ask

_PREFIX = "q2"
QUOTE_ID_LENGTH_MAX = 4_096
NONCE_BYTES = 16
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class QuoteTerms:
    """
    A quote as its id carries it.

    Args:
        request: What was asked.
        sides: What each side that was asked for was quoted at.
        nonce: 16 random bytes that name the quote in the ledger.
    """

    account: str
    market_data: str
    request: QuoteRequest
    sides: dict[Side, QuotedSide]
    issued_at: datetime
    expires_at: datetime
    nonce: bytes


class QuoteSigner:
    """Seals terms into quote ids and opens them again."""

    def __init__(self, key: bytes) -> None:
        """Use *key* for all ids; whoever has it can make quotes."""
        self._key = key

    def seal(self, terms: QuoteTerms) -> str:
        """Give the quote id of *terms*."""
        request, ask = terms.request, terms.request.ask
        fields = [
            terms.account,
            terms.market_data,
            request.symbol,
            [_text(ask.quantity), _text(ask.total), _text(ask.slippage_bps_max), _text(ask.limit_price)],
            request.venues,
            request.exclude_venues,
            {side.value: [str(q.quantity), str(q.total), q.fillable] for side, q in terms.sides.items()},
            _milliseconds(terms.issued_at),
            _milliseconds(terms.expires_at),
            terms.nonce.hex(),
        ]
        payload = _encoded(orjson.dumps(fields))
        return f"{_PREFIX}.{payload}.{_encoded(self._mac(payload))}"

    def open(self, quote_id: str) -> QuoteTerms | None:
        """Give the terms of a genuine id; None for anything else, however it is wrong."""
        prefix, _, rest = quote_id.partition(".")
        payload, _, mac = rest.partition(".")
        if prefix != _PREFIX or len(quote_id) > QUOTE_ID_LENGTH_MAX or not quote_id.isascii():
            return None
        # Compared as text: base64 has several texts for the same bytes, and only one of them is the id.
        if not hmac.compare_digest(_encoded(self._mac(payload)).encode(), mac.encode()):
            return None
        return _terms(orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))

    def _mac(self, payload: str) -> bytes:
        return hmac.digest(self._key, payload.encode(), hashlib.sha256)


def _terms(fields: list[Any]) -> QuoteTerms:
    account, market_data, symbol, ask, venues, exclude_venues, sides, issued, expires, nonce = fields
    quantity, total, slippage_bps_max, limit_price = ask
    return QuoteTerms(
        account=account,
        market_data=market_data,
        request=QuoteRequest(
            symbol=symbol,
            ask=Ask(
                quantity=None if quantity is None else int(quantity),
                total=None if total is None else int(total),
                slippage_bps_max=None if slippage_bps_max is None else Decimal(slippage_bps_max),
                limit_price=None if limit_price is None else int(limit_price),
            ),
            sides=tuple(map(Side, sides)),
            venues=None if venues is None else tuple(venues),
            exclude_venues=None if exclude_venues is None else tuple(exclude_venues),
        ),
        sides={Side(side): QuotedSide(int(q), int(total), fillable) for side, (q, total, fillable) in sides.items()},
        issued_at=_moment(issued),
        expires_at=_moment(expires),
        nonce=bytes.fromhex(nonce),
    )


def _text(number: int | Decimal | None) -> str | None:
    return None if number is None else str(number)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC)


def _encoded(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode()
