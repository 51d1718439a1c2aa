"""The tables of the settings: every key with its type, its default, and the values it takes.

``service.settings`` reads them.  ``docs/settings.md`` lists every key; a test holds it, ``settings.toml`` and what
stands here together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from service.addresses import read_range

SYMBOL = re.compile(r"[A-Z0-9]+/[A-Z0-9]+", re.ASCII)
ORIGIN = re.compile(r"https?://([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?", re.ASCII)
VENUE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
ACCOUNT = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)
DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)
ASSET = re.compile(r"[A-Z0-9]{1,20}", re.ASCII)
MICRO = Decimal("0.000001")
AMOUNT_UNIT = Decimal("0.00000001")
AMOUNT_MAX = 10**10
AMOUNT_DESCRIPTION = "a number from 0 to 10000000000 with at most 8 decimals"
SHOWN_MAX = 40

BY_ASSET = frozenset({("accounts", "starting_balances"), ("risk", "position_max")})
"""Tables whose keys are assets."""


def exact_bps(value: object) -> object:
    """
    Take basis points as they were written: an integer, a decimal literal or a string.

    Returns:
        A Decimal with at most 6 decimals and no trailing zeros; None as it came.

    Raises:
        ValueError: Not such a number, or finer than 6 decimals.  Its range is the field's affair.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = Decimal(value if DECIMAL.fullmatch(value) else "NaN")
    elif type(value) is int:
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value < 10**6:
        raise ValueError("not a number of basis points")
    exact = value.quantize(MICRO)
    if exact != value:
        raise ValueError("finer than 6 decimals")
    return Decimal(f"{abs(exact):f}".rstrip("0").rstrip("."))


def exact_amount(value: object) -> Decimal:
    """
    Take an amount as it was written: an integer, a decimal literal or a string.

    Returns:
        A Decimal from 0 to 10**10 with at most 8 decimals.

    Raises:
        ValueError: Not such a number.
    """
    if isinstance(value, str):
        value = Decimal(value if DECIMAL.fullmatch(value) else "NaN")
    elif type(value) is int:
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value <= AMOUNT_MAX:
        raise ValueError("not an amount")
    exact = value.quantize(AMOUNT_UNIT)
    if exact != value:
        raise ValueError("finer than 8 decimals")
    return exact


def exact_amounts(value: object) -> dict[str, Decimal]:
    """Take a table of assets and amounts; every entry that is wrong is named."""
    if not isinstance(value, Mapping):
        raise ValueError("not a table")
    amounts, wrong = {}, []
    for asset, amount in value.items():
        if not ASSET.fullmatch(asset):
            wrong.append(f"{shown(asset)} cannot be an asset: 1 to 20 upper-case letters and digits")
            continue
        try:
            amounts[asset] = exact_amount(amount)
        except ValueError:
            wrong.append(f"{asset} must be {AMOUNT_DESCRIPTION}, not {shown(amount)}")
    if wrong:
        raise PydanticCustomError("said", "{reason}", {"reason": "; ".join(wrong)})
    return amounts


class Table(BaseModel):
    """One table of the file: frozen, no conversion between types, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class ServiceSettings(Table):
    """Where the service listens, and whether its prices are real."""

    host: str = Field(default="127.0.0.1", pattern=r"^[0-9A-Za-z.:_%-]+$", description="an address or a host name")
    port: int = Field(default=8080, ge=0, le=65535)
    mode: Literal["live", "simulated", "replay"] = "live"
    connections_per_address_max: int = Field(default=2_500, ge=1, le=100_000)
    connections_max: int = Field(default=5_000, ge=1, le=100_000)
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description='a list of IP addresses and networks, like ["10.0.0.1", "fd00::/8"]'
    )
    stream_origins: tuple[str, ...] = Field(
        default=(), description='a list of web origins, like ["https://desk.example:8443"]'
    )
    streams_per_key: int = Field(default=20, ge=1, le=10_000)

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> tuple[str, ...]:
        """Name every item that is no network."""
        if not isinstance(value, list | tuple):
            raise ValueError("not a list")
        wrong = []
        for item in value:
            try:
                read_range(item if isinstance(item, str) else "")
            except ValueError:
                wrong.append(f"{shown(item)} is not an IP address or network")
        if wrong:
            raise PydanticCustomError("said", "{reason}", {"reason": "; ".join(wrong)})
        return tuple(value)

    @field_validator("stream_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> tuple[str, ...]:
        """Name every item that is no origin."""
        if not isinstance(value, list | tuple):
            raise ValueError("not a list")
        wrong = [item for item in value if not isinstance(item, str) or not ORIGIN.fullmatch(item)]
        if wrong:
            reason = "; ".join(f"{shown(item)} is not http:// or https:// and a host, in lower case" for item in wrong)
            raise PydanticCustomError("said", "{reason}", {"reason": reason})
        return tuple(value)


class MarketSettings(Table):
    """Which symbols are served, and when venues' books may be used together."""

    symbols: tuple[str, ...] = Field(
        description='a list of at least one BASE/QUOTE in upper-case letters and digits, none twice, like ["BTC/USDT"]'
    )
    venues_min: int = Field(default=1, ge=1, le=100)
    crossed_bps_max: Decimal = Field(default=Decimal(50), ge=0, le=9999)
    outlier_bps: Decimal = Field(default=Decimal(100), ge=0, le=9999)

    _exact = field_validator("crossed_bps_max", "outlier_bps", mode="before")(exact_bps)

    @field_validator("symbols", mode="before")
    @classmethod
    def _symbols(cls, value: object) -> tuple[str, ...]:
        """Name every item that is wrong, not only the first."""
        if not isinstance(value, list | tuple) or not value:
            raise ValueError("not a list")
        wrong = [
            f"{shown(item)} is not BASE/QUOTE in upper-case letters and digits"
            for item in value
            if not isinstance(item, str) or not SYMBOL.fullmatch(item)
        ]
        texts = [item for item in value if isinstance(item, str)]
        wrong += [f"{shown(text)} stands there twice" for text in dict.fromkeys(texts) if texts.count(text) > 1]
        if wrong:
            raise PydanticCustomError("said", "{reason}", {"reason": "; ".join(wrong)})
        return tuple(texts)


class LedgerSettings(Table):
    """Where executions are kept."""

    # A relative path is relative to the working directory of the process, not to the settings file.
    url: str = Field(
        default="sqlite:///var/ledger.db",
        pattern=r"^(sqlite:///[^?#\r\n]+|postgresql://[^\s]+)$",
        description="an address sqlite:///path or postgresql://user:password@host/database",
        repr=False,  # it may carry a password
    )


class QuotesSettings(Table):
    """How long quotes hold."""

    ttl_ms: int = Field(default=3000, ge=100, le=60_000)
    tolerance_bps: Decimal = Field(default=Decimal(0), ge=0, le=9999)
    firm_ttl_ms_max: int = Field(default=10_000, ge=100, le=10_000)
    firm_open_max: int = Field(default=20, ge=1, le=1_000)
    firm_venues_min: int = Field(default=2, ge=1, le=100)

    _exact = field_validator("tolerance_bps", mode="before")(exact_bps)


class LiquiditySettings(Table):
    """Whether what mock fills take is there for the next order."""

    taken: Literal["shared", "per_account", "off"] = "shared"
    taken_half_life_ms: int = Field(default=30_000, ge=0, le=86_400_000)


class AccountsSettings(Table):
    """What paper accounts begin with."""

    starting_balances: Mapping[str, Decimal] = Field(
        default={"USDT": Decimal(1_000_000), "BTC": Decimal(10), "ETH": Decimal(100)},
        description="a table of assets and amounts with at most 8 decimals, like { USDT = 1000000 }",
    )

    _exact = field_validator("starting_balances", mode="before")(exact_amounts)


class RiskSettings(Table):
    """What every account's orders may not exceed; 0, or no entry, is no limit."""

    order_notional_max: Decimal = Field(default=Decimal(0), description=AMOUNT_DESCRIPTION)
    daily_notional_max: Decimal = Field(default=Decimal(0), description=AMOUNT_DESCRIPTION)
    position_max: Mapping[str, Decimal] = Field(
        default={},
        description="a table of base assets and amounts with at most 8 decimals, like { BTC = 5 }",
    )
    trading_enabled: bool = True

    _amount = field_validator("order_notional_max", "daily_notional_max", mode="before")(exact_amount)
    _amounts = field_validator("position_max", mode="before")(exact_amounts)


class PricingSettings(Table):
    """The desk's own margin, and when a stable pair may be converted through."""

    markup_bps: Decimal = Field(default=Decimal(0), ge=0, le=9999)
    account_markup_bps: Mapping[str, Decimal] = Field(
        default={}, description="a table of accounts and their basis points, like { alice = 5 }"
    )
    depeg_bps: Decimal = Field(default=Decimal(100), ge=0, le=9999)

    _exact = field_validator("markup_bps", "depeg_bps", mode="before")(exact_bps)

    @field_validator("account_markup_bps", mode="before")
    @classmethod
    def _account_markups(cls, value: object) -> dict[str, Decimal]:
        """Name every account whose number is wrong."""
        if not isinstance(value, dict):
            raise ValueError("not a table")
        markups, wrong = {}, []
        for account, bps in value.items():
            try:
                exact = exact_bps(bps)
            except ValueError:
                exact = None
            if not ACCOUNT.fullmatch(account):
                wrong.append(f"{shown(account)} cannot be an account's name: 1 to 32 of a-z 0-9 _ -")
            elif not isinstance(exact, Decimal) or exact > 9999:
                wrong.append(f"{account} must be a number from 0 to 9999 with at most 6 decimals, not {shown(bps)}")
            else:
                markups[account] = exact
        if wrong:
            raise PydanticCustomError("said", "{reason}", {"reason": "; ".join(wrong)})
        return markups


class LimitsSettings(Table):
    """How often clients are answered, per second; twice as much at once; 0 is no limit."""

    quote_per_s: int = Field(default=200, ge=0, le=1_000_000)
    execute_per_s: int = Field(default=100, ge=0, le=1_000_000)
    failed_keys_per_s: int = Field(default=10, ge=0, le=1_000_000)


class RecordingSettings(Table):
    """Whether what the venues show is recorded."""

    file: str = Field(default="", pattern=r"^[^\x00]*$", description='a path, or "" for none')
    file_mb_max: int = Field(default=10_000, ge=1, le=1_000_000)


class ReplaySettings(Table):
    """What is played in mode "replay"."""

    file: str = Field(default="", pattern=r"^[^\x00]*$", description='a path, or "" for none')
    speed: Decimal = Field(default=Decimal(1), ge=Decimal("0.01"), le=1_000)

    _exact = field_validator("speed", mode="before")(exact_bps)


class LogsSettings(Table):
    """The shape of log lines, and which are written."""

    format: Literal["json", "console", "ecs"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class MetricsSettings(Table):
    """Where Prometheus reads metrics without a key."""

    host: str = Field(default="127.0.0.1", pattern=r"^[0-9A-Za-z.:_%-]+$", description="an address or a host name")
    port: int = Field(default=0, ge=0, le=65535)


class VenueSettings(Table):
    """One venue.  ``stale_after_ms`` is held against the effective interval where ccxt's rate limit is known."""

    exchange: str = Field(min_length=1, description="the id of an exchange in ccxt")
    enabled: bool = True
    transport: Literal["poll", "stream", "replay"] = "poll"
    poll_interval_ms: int = Field(default=1000, ge=50, le=3_600_000)
    rate_limit_ms: int | None = Field(default=None, ge=0, le=3_600_000)
    depth: int = Field(default=100, ge=1, le=5000)
    stale_after_ms: int | None = Field(default=None, ge=100, le=3_600_000)
    taker_fee_bps: Decimal | None = Field(default=None, ge=0, le=1000)
    base_url: str | None = Field(
        default=None,
        description="an address http://… or https://… without user, password, query or fragment",
        repr=False,  # a mistyped one may hold a password
    )

    symbols: Mapping[str, str] = Field(
        default={}, description='a table of served symbols and the venue\'s own, like { "BTC/USDT" = "BTC/USD" }'
    )

    _exact = field_validator("taker_fee_bps", mode="before")(exact_bps)

    @field_validator("symbols", mode="before")
    @classmethod
    def _own_symbols(cls, value: object) -> dict[str, str]:
        """Name every line that cannot be converted."""
        if not isinstance(value, dict):
            raise ValueError("not a table")
        wrong = []
        for symbol, own in value.items():
            spelt = all(isinstance(one, str) and SYMBOL.fullmatch(one) for one in (symbol, own))
            if not spelt:
                wrong.append(f"{shown(symbol)} = {shown(own)} is not a pair of BASE/QUOTE")
            elif symbol.partition("/")[0] != own.partition("/")[0]:
                wrong.append(f"{symbol} cannot be served from {own}: their base assets differ")
        if wrong:
            raise PydanticCustomError("said", "{reason}", {"reason": "; ".join(wrong)})
        return dict(value)

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        """Refuse what is not a plain web address; ``urlsplit`` itself raises ValueError on a broken host or port."""
        if value is None:
            return None
        url = urlsplit(value)
        plain = url.hostname and not (url.username or url.password or url.query or url.fragment)
        if url.scheme not in ("http", "https") or not plain or url.port == 0 or re.search(r"[\s@]", value):
            raise ValueError("not a web address")
        return value.rstrip("/")


class Settings(Table):
    """All settings.  ``load_settings`` is the way to one: it also checks what concerns several tables."""

    service: ServiceSettings = ServiceSettings()
    market: MarketSettings
    ledger: LedgerSettings = LedgerSettings()
    quotes: QuotesSettings = QuotesSettings()
    pricing: PricingSettings = PricingSettings()
    liquidity: LiquiditySettings = LiquiditySettings()
    accounts: AccountsSettings = AccountsSettings()
    risk: RiskSettings = RiskSettings()
    limits: LimitsSettings = LimitsSettings()
    recording: RecordingSettings = RecordingSettings()
    replay: ReplaySettings = ReplaySettings()
    logs: LogsSettings = LogsSettings()
    metrics: MetricsSettings = MetricsSettings()
    venues: Mapping[Annotated[str, Field(pattern=f"^{VENUE_NAME.pattern}$")], VenueSettings]


def accepted(field: FieldInfo) -> str:
    """Say which values *field* takes, for error messages and for the page of settings."""
    if field.description:
        return field.description
    taken = kinds(field)
    if bool in taken:
        return "true or false"
    if isinstance(taken[0], str):
        return " or ".join(f'"{kind}"' for kind in taken)
    low = next(rule.ge for rule in field.metadata if isinstance(rule, Ge))
    high = next(rule.le for rule in field.metadata if isinstance(rule, Le))
    if Decimal in taken:
        return f"a number from {low} to {high} with at most 6 decimals"
    return f"a whole number from {low} to {high}"


def kinds(field: FieldInfo) -> tuple[Any, ...]:
    """Return the types of a key, or the values of a Literal; never None's."""
    if get_origin(field.annotation) in (Union, UnionType, Literal):
        return tuple(kind for kind in get_args(field.annotation) if kind is not type(None))
    return (field.annotation,)


def shown(value: object) -> str:
    """Show a plain value in a few characters of one line; of lists and tables only that they are such."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return "a table" if isinstance(value, dict) else "a list"
    try:
        text = json.dumps(value[: SHOWN_MAX + 1]) if isinstance(value, str) else str(value)
    except ValueError:  # an integer of more digits than Python converts
        return "a very long number"
    return text if len(text) <= SHOWN_MAX + 2 else text[:SHOWN_MAX] + "…"
