"""Keep all streams: who follows what, and what is told when.

One task looks at whatever anybody follows, at most twenty times a second, each thing once for all; another reads what
comes on record; a third sees after the clients.  None of them runs while nobody listens.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from time import perf_counter
from typing import Final

import structlog
from aiohttp import web

from exchanges.inputs import Input
from service.api.handlers import API, Api
from service.api.stream_client import CLOSE_WITHIN_S, GOING_AWAY, POLICY, Client, Subscription, SubscriptionKey
from service.api.stream_messages import Refusal, refusal
from service.api.stream_topics import ExecutionsTopic, Topic, Watched
from service.errors import RequestError, Unavailable
from service.keys import KeyRing, Principal

ROUND_S = 0.05
"""The least time between two looks at everything, and so between two frames of a subscription."""
IDLE_S = 0.1
"""How long nothing is looked at where nothing has happened: books grow old by themselves."""
SHARE = 3
"""After a round, at least so many times what it took is left to others."""
SLICE_S = 0.005
"""After so long others are let in between."""
SLICE_CLIENTS = 100
RECORD_S = 0.025
"""How often it is asked whether something has come on record here."""
RECORD_SHARED_S = 0.25
"""How often a record is read into which others write too, or which could not be read."""
LOOK_AFTER_S = 1.0
"""How often keys, pings and readers are looked after."""
AUTH_WITHIN_S = 10.0
STREAMS_MAX, WITHOUT_KEY_MAX, WITHOUT_KEY_OF_ADDRESS_MAX = 2_000, 200, 20
"""Of all clients, of those whose key has not come yet, and of these from one address."""
AGAIN_S = 1.0
"""When something is looked at again whose look has failed."""

log = structlog.get_logger()


class Streams:
    """All streams of a process."""

    def __init__(self, api: Api, ring: KeyRing) -> None:
        """Begin without any; *ring* tells whether a key is still in force."""
        self._api = api
        self.ring = ring
        self.clients: dict[Client, None] = {}
        self._by_key: Counter[str] = Counter()
        self._without_key: dict[Client, str] = {}
        self._watched: dict[Hashable, Watched] = {}
        self._executions: dict[Hashable, ExecutionsTopic] = {}
        self._poked = asyncio.Event()
        self._reread = False
        self._failed_until: dict[Hashable, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False
        self._gone = asyncio.Event()

    # Clients

    def admit(self, principal: Principal | None, network: str) -> None:
        """
        See whether one more stream may be opened.

        Args:
            network: Where it comes from, as far as one client can be expected to have it; empty if many share it.

        Raises:
            RequestError: If the key has too many.
            Unavailable: If there are too many in all or without a key, or the service is stopping.
        """
        if self._closing or self._api.desk.closing:
            raise Unavailable("shutting_down", "the service is stopping")
        if len(self.clients) >= STREAMS_MAX or (principal is None and len(self._without_key) >= WITHOUT_KEY_MAX):
            raise Unavailable("overloaded", "too many streams are open")
        if principal is not None:
            self._count(principal)
        elif network and list(self._without_key.values()).count(network) >= WITHOUT_KEY_OF_ADDRESS_MAX:
            raise Unavailable("overloaded", "too many streams without a key are open from this address")

    def _count(self, principal: Principal) -> None:
        most = self._api.switching.settings.service.streams_per_key
        if self._by_key[principal.key_id] >= most:
            raise RequestError("rate_limited", f"at most {most} streams of one key may be open")

    def join(self, client: Client, network: str) -> None:
        """Look after a client until it leaves."""
        self.clients[client] = None
        self._without_key[client] = network
        self._gone.clear()
        if self._closing:
            client.end(GOING_AWAY, "the service is stopping")
        self._run("look after", self._look_after)

    def identify(self, client: Client, principal: Principal) -> None:
        """
        Note whose stream it is.

        Raises:
            RequestError: If the key lacks the scope, or has too many.
        """
        if "quote" not in principal.scopes:
            raise RequestError("insufficient_scope", "a stream needs a key with the scope 'quote'")
        self._count(principal)
        client.principal = principal
        del self._without_key[client]
        self._by_key[principal.key_id] += 1

    def silence(self, client: Client) -> None:
        """Let a client follow nothing any more."""
        for key in list(client.subscriptions):
            self.unsubscribe(client, key)

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self.silence(client)
        self.clients.pop(client, None)
        self._without_key.pop(client, None)
        if client.principal is not None:
            self._by_key[client.principal.key_id] -= 1
            if not self._by_key[client.principal.key_id]:
                del self._by_key[client.principal.key_id]
        if not self.clients:
            self._gone.set()

    async def close(self) -> None:
        """Close all streams, and wait until they are; clients that do not read are not waited for much longer."""
        self._closing = True
        for client in list(self.clients):
            client.end(GOING_AWAY, "the service is stopping")
        if self.clients:
            try:
                async with asyncio.timeout(2 * CLOSE_WITHIN_S):
                    await self._gone.wait()
            except TimeoutError:
                pass  # Their handlers are cut by the server, which ends anyway.
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # Subscriptions

    async def subscribe(self, client: Client, key: SubscriptionKey, topic: Topic, began: bytes) -> Callable[[], None]:
        """
        Let a client follow a topic, or the one of the same key that others follow, in place of what had that *key*.

        Returns:
            What begins it, to be called when the client has been told that it is subscribed.

        Raises:
            Unavailable: If the record cannot be read.
        """
        if isinstance(topic, ExecutionsTopic) and topic.key not in self._executions:
            await topic.begin(self._api.ledger)
            self._reread = True  # What came on record meanwhile may have been looked at without it.
        self.unsubscribe(client, key)
        followed = self._watched.get(topic.key) or self._executions.get(topic.key) or topic
        subscription = Subscription(client, followed, began)
        followed.followers[subscription] = None
        client.subscriptions[key] = subscription
        if isinstance(followed, Watched):
            self._watch(followed)
        elif isinstance(followed, ExecutionsTopic):
            self._executions[followed.key] = followed
            self._run("record", self._follow_record)
        return lambda: self._begin(subscription)

    def _begin(self, subscription: Subscription) -> None:
        value = subscription.topic.value
        if value is not None and not subscription.topic.executions and subscription in subscription.topic.followers:
            subscription.offer(value)

    def _watch(self, topic: Watched) -> None:
        if not self._watched:
            self._api.board.watch(self._on_input)
        self._watched[topic.key] = topic
        self._poked.set()
        self._run("look", self._look)

    def unsubscribe(self, client: Client, key: SubscriptionKey) -> bool:
        """End a client's subscription; False if it has none of that key."""
        subscription = client.subscriptions.pop(key, None)
        if subscription is None:
            return False
        topic = subscription.topic
        client.drop(subscription)
        del topic.followers[subscription]
        if not topic.followers:
            self._executions.pop(topic.key, None)
            self._failed_until.pop(topic.key, None)
            if self._watched.pop(topic.key, None) is not None and not self._watched:
                self._api.board.unwatch(self._on_input)
        return True

    # What is told

    def _on_input(self, told: Input) -> None:
        self._poked.set()

    def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Have a task work, unless it does."""
        if name not in self._tasks and not self._closing:
            # For all who follow, not for the stream that came first.
            nobody_s, guarded = contextvars.Context(), self._guarded(name, work)
            self._tasks[name] = asyncio.create_task(guarded, name=f"streams: {name}", context=nobody_s)

    async def _guarded(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Work for as long as there is something to do, and go on after a mistake."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("streams.failed", topic=name)
                await asyncio.sleep(AGAIN_S)
            else:
                del self._tasks[name]
                return

    async def _look(self) -> None:
        while self._watched:
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._poked.wait()
            except TimeoutError:
                pass
            self._poked.clear()
            spent_s, began_s = 0.0, perf_counter()
            for topic in list(self._watched.values()):
                await self._look_at(topic)
                took_s = perf_counter() - began_s
                if took_s >= SLICE_S:
                    await asyncio.sleep(0)
                    spent_s, began_s = spent_s + took_s, perf_counter()
            spent_s += perf_counter() - began_s
            await asyncio.sleep(max(ROUND_S, SHARE * spent_s))

    async def _look_at(self, topic: Watched) -> None:
        """Tell a topic's followers if it has changed; a mistake about one topic is kept from the others."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._failed_until.get(topic.key, 0.0) or not topic.followers:
            return
        try:
            value = topic.look(self._api, self._api.clock.now_ns())
        except Exception:
            log.exception("streams.failed", topic=str(topic.key[0] if isinstance(topic.key, tuple) else topic.key))
            self._failed_until[topic.key] = now_s + AGAIN_S
            value = Refusal("internal_error", "an error of the service; it has been logged")
        if value is None:
            return
        value = topic.tell(value)
        for number, subscription in enumerate(list(topic.followers), 1):
            if subscription in topic.followers:
                subscription.offer(value)
            if number % SLICE_CLIENTS == 0:
                await asyncio.sleep(0)

    async def _follow_record(self) -> None:
        loop, ledger = asyncio.get_running_loop(), self._api.ledger
        seq, due = -1, 0.0
        while self._executions:
            began = loop.time()
            head = ledger.head[0]
            if head != seq or began >= due or self._reread:
                self._reread = False
                due = began + RECORD_SHARED_S if ledger.shared else float("inf")
                seq = head
                for topic in list(self._executions.values()):
                    if not await self._read(topic):
                        due = loop.time() + RECORD_SHARED_S
            await asyncio.sleep(max(RECORD_S, SHARE * (loop.time() - began)))

    async def _read(self, topic: ExecutionsTopic) -> bool:
        """Tell an account's followers what has come on record; False if it could not be read."""
        try:
            messages, whole = await topic.read(self._api)
        except Unavailable as error:
            if not topic.troubled:
                topic.troubled = True
                for subscription in list(topic.followers):
                    subscription.offer(refusal(error))
            return False
        topic.troubled = False
        for subscription in list(topic.followers):
            if not whole:
                subscription.miss(1)
            for message in messages:
                subscription.offer(message)
        return True

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while self.clients:
            await asyncio.sleep(LOOK_AFTER_S)
            now = loop.time()
            for client in list(self.clients):
                principal = client.principal
                if principal is not None and not self.ring.in_force(principal.key_id):
                    client.end(POLICY, "the key is no longer in force")
                elif principal is None and now - client.opened_at >= AUTH_WITHIN_S:
                    client.end(POLICY, "no key came in time")
                client.look_after()


STREAMS: Final = web.AppKey("streams", Streams)


def open_streams(app: web.Application, ring: KeyRing) -> None:
    """Let an application that has its ``API`` have streams, and close them when it is shut down."""
    app[STREAMS] = Streams(app[API], ring)
    app.on_shutdown.append(close_streams)


async def close_streams(app: web.Application) -> None:
    """Close all streams (1001), and take no new ones; done within little more than ``CLOSE_WITHIN_S``."""
    await app[STREAMS].close()
