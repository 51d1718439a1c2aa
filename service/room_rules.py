"""Give each room what it goes by, out of the settings: at the start, and again whenever they have changed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from exchanges.feeds import VenueConfig
from service.accounting import MONEY_SCALE, rate
from service.addresses import Network, read_range
from service.api.guard import Guard
from service.api.limits import LimitRules
from service.api.server import Room
from service.desk.accounts import RiskLimits
from service.desk.floor import DeskRules
from service.ledger.opening import starting_balances
from service.market.screening import Rules
from service.settings import Settings


def venue_configs(settings: Settings) -> list[VenueConfig]:
    """Give the venues that are switched on, as the feeds want them."""
    return [
        VenueConfig(
            name=name,
            exchange=venue.exchange,
            poll_interval_ms=venue.poll_interval_ms,
            rate_limit_ms=venue.rate_limit_ms,
            depth=venue.depth,
            stale_after_ms=venue.stale_after_ms,
            taker_fee_bps=venue.taker_fee_bps,
            base_url=venue.base_url,
            symbols=venue.symbols,
            transport=venue.transport,
        )
        for name, venue in settings.venues.items()
        if venue.enabled
    ]


def switched_on(settings: Settings) -> list[str]:
    """Name the venues that are switched on."""
    return [name for name, venue in settings.venues.items() if venue.enabled]


def listings(settings: Settings) -> dict[str, dict[str, str]]:
    """Give every symbol that is served, with the venues that are switched on and what they trade it as."""
    venues = venue_configs(settings)
    return {symbol: {venue.name: venue.own(symbol) for venue in venues} for symbol in settings.market.symbols}


def market_rules(settings: Settings) -> Rules:
    """Give the numbers by which books are believed."""
    return Rules(
        venues_min=settings.market.venues_min,
        crossed_bps_max=settings.market.crossed_bps_max,
        outlier_bps=settings.market.outlier_bps,
        depeg_bps=settings.pricing.depeg_bps,
    )


def desk_rules(settings: Settings) -> DeskRules:
    """Give the desk's own numbers."""
    risk, quotes, pricing = settings.risk, settings.quotes, settings.pricing
    return DeskRules(
        market_data=settings.service.mode,
        ttl_ms=quotes.ttl_ms,
        tolerance_bps=quotes.tolerance_bps,
        markup_rate=rate(pricing.markup_bps),
        account_markup_rates={account: rate(bps) for account, bps in pricing.account_markup_bps.items()},
        firm_ttl_ms_max=quotes.firm_ttl_ms_max,
        firm_open_max=quotes.firm_open_max,
        firm_venues_min=quotes.firm_venues_min,
        risk=RiskLimits(
            order_notional_max=int(risk.order_notional_max.scaleb(MONEY_SCALE)),
            daily_notional_max=int(risk.daily_notional_max.scaleb(MONEY_SCALE)),
            position_max=_amounts(risk.position_max),
            trading_enabled=risk.trading_enabled,
        ),
        starting=starting_balances(settings),
    )


def door(settings: Settings) -> tuple[LimitRules, tuple[Network, ...]]:
    """Give how often clients are answered, and whose word about addresses is taken."""
    limits = settings.limits
    rules = LimitRules(limits.quote_per_s, limits.execute_per_s, limits.failed_keys_per_s)
    return rules, tuple(map(read_range, settings.service.trusted_proxies))


def room(settings: Settings, guard: Guard) -> Room:
    """Give how many connections there may be."""
    return Room(settings.service.connections_per_address_max, settings.service.connections_max, guard.is_proxy)


def _amounts(amounts: Mapping[str, Decimal]) -> dict[str, int]:
    return {asset: int(amount.scaleb(MONEY_SCALE)) for asset, amount in amounts.items()}
