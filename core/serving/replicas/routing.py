"""Choice of the replica for a request: the one it names, or the one with the most free places."""

from __future__ import annotations

import pickle
import random
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

STATS = 1.0
"""Seconds between two reports of free places."""
SOCKET = "/v1/live"


class Router(RequestRouter):
    """Routes requests with `?replica=NAME` to that replica while it runs, other sockets to the replica with the most
    free places, and other requests to any.
    """

    def initialize_state(self, **_: Any) -> None:
        """See RequestRouter."""
        self._sockets: dict[str, deque[float]] = {}

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Replicas in order of preference, each of its own rank."""
        asked, socket = "", False
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
            asked, socket = wish_of(pending_request.args)
        there = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        if asked in there:
            return [[there[asked]]]
        order = random.sample(list(there), len(there))
        if socket:
            order = by_room({name: self._room(there[name]) for name in order})
        return [[there[name]] for name in order]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """See RequestRouter."""
        if wish_of(pending_request.args)[1]:
            self._sockets.setdefault(replica_id.unique_id, deque()).append(time.monotonic())

    def _room(self, replica: RunningReplica) -> int:
        """Free places by the last report, less the sockets that it may not hold yet."""
        recent = self._sockets.get(replica.replica_id.unique_id, deque())
        while recent and recent[0] < time.monotonic() - 2 * STATS:
            recent.popleft()
        return int(replica.routing_stats.get("free", 0)) - len(recent)


def by_room(room: Mapping[str, int]) -> list[str]:
    """Names by free places, the most first; equal ones keep their order."""
    return sorted(room, key=lambda name: -room[name])


def wish_of(arguments: Any) -> tuple[str, bool]:
    """Arguments of a pending request -> the replica that its query names or "", and whether it is the socket.

    Ray's proxies hand over the ASGI scope, pickled; a request of another shape names none.
    """
    try:
        scope = pickle.loads(arguments[0]).asgi_scope
        query = parse_qs(scope["query_string"].decode("latin-1"))
    except (IndexError, TypeError, KeyError, AttributeError, pickle.UnpicklingError):
        return "", False
    return query.get("replica", [""])[0], scope["path"] == SOCKET
