"""Stand at the door: whose key it is, from where, and how often."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns

from aiohttp import web

from service.addresses import Network, client_address, is_within, network_of, read_address
from service.api.limits import Bucket, Buckets, Kind, LimitRules, S
from service.errors import RequestError
from service.keys import KeyRing, Principal


class RateLimited(RequestError):
    """Refuse for an empty bucket, with the header fields that tell when it will hold something."""

    def __init__(self, bucket: Bucket, wait_ns: int, now_ns: int, detail: str) -> None:
        super().__init__("rate_limited", detail)
        self.headers = {
            "RateLimit-Policy": bucket.policy,
            "RateLimit": bucket.state(now_ns),
            "Retry-After": str(-(-wait_ns // S)),
        }


class Guard:
    """Checks keys with all that surrounds them."""

    def __init__(self, ring: KeyRing, now_ns: Callable[[], int] = monotonic_ns) -> None:
        """Check keys against *ring*, without limits until ``serve`` gives some."""
        self._ring = ring
        self._now_ns = now_ns
        self._keys, self._addresses = Buckets(), Buckets()
        self._rules = LimitRules(0, 0, 0)
        self._proxies: tuple[Network, ...] = ()

    def serve(self, rules: LimitRules, proxies: tuple[Network, ...]) -> None:
        """Go by these limits from now on, and believe these proxies."""
        self._rules, self._proxies = rules, proxies

    def address(self, request: web.Request) -> str:
        """Give the client's address, as far as it can be known."""
        peer = request.remote or ""
        if not self._proxies:
            return peer
        return client_address(peer, request.headers.getall("X-Forwarded-For", []), self._proxies)

    def is_proxy(self, address: str) -> bool:
        """Tell whether an address is a proxy's, and so stands for many clients."""
        return is_within(read_address(address), self._proxies)

    def identify(self, request: web.Request, text: str | None = None) -> Principal:
        """
        Give whom a request, or the key *text* that came later on its connection, stands for.

        Raises:
            RequestError: ``unauthenticated``, ``rate_limited`` after too many of those, or ``address_not_allowed``.
        """
        if text is None:
            text = offered_key(request)
        principal = None if text is None else self._ring.check(text)
        if principal is None:
            self._count_failure(request)
            raise RequestError("unauthenticated", "send a valid API key as X-API-Key, or as a bearer token")
        if principal.addresses and not principal.admits(self.address(request)):
            raise RequestError("address_not_allowed", "this key may not be used from this address")
        return principal

    def _count_failure(self, request: web.Request) -> None:
        per_s = self._rules.failed_keys_per_s
        if not per_s:
            return
        now_ns = self._now_ns()
        bucket = self._addresses.of(network_of(self.address(request)), "failed_keys", per_s, now_ns)
        if wait_ns := bucket.take(now_ns):
            raise RateLimited(bucket, wait_ns, now_ns, "too many requests without a valid key came from this address")

    def count(self, principal: Principal, kind: Kind) -> tuple[str, str] | None:
        """
        Count a request of a key; give the header fields ``RateLimit-Policy`` and ``RateLimit``, None without a limit.

        Raises:
            RequestError: ``rate_limited``, with those fields and the time to wait.
        """
        rules, own = self._rules, principal.limits
        per_s = rules.execute_per_s if kind == "execute" else rules.quote_per_s
        if own is not None:
            mine = own.execute_per_s if kind == "execute" else own.quote_per_s
            per_s = per_s if mine is None else mine
        if not per_s:
            return None
        now_ns = self._now_ns()
        bucket = self._keys.of(principal.key_id, kind, per_s, now_ns)
        if wait_ns := bucket.take(now_ns):
            raise RateLimited(bucket, wait_ns, now_ns, "this key has been used too often; nothing has run")
        return bucket.policy, bucket.state(now_ns)


def offered_key(request: web.Request) -> str | None:
    """Give the one key that a request bears; None where there is none, or where two differ."""
    offered = request.headers.getall("X-API-Key", [])
    for value in request.headers.getall("Authorization", []):
        scheme, _, credentials = value.partition(" ")
        offered.append(credentials.strip() if scheme.lower() == "bearer" else "")
    return offered[0] if offered and len(set(offered)) == 1 else None


GUARD: web.AppKey[Guard] = web.AppKey("guard", Guard)
