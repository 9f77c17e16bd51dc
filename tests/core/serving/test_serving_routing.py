"""One of several servers behind an address: what it tells its clients, and which one a request reaches."""

from __future__ import annotations

import pickle
import time

import pytest
from attrs import frozen
from serving_small import Client, serving
from test_serving_doors import closed, fetch

from accomp.core.serving.limits import Limits


@pytest.fixture(scope="module")
def one():
    limits = Limits(sessions_per_address=100, stalled=1.5, ending=1.0)
    with serving(mode="serve", slots=2, limits=limits, replica="r1") as running:
        yield running


def test_a_client_that_confirms_what_it_reads_stays_and_another_goes(one):
    with Client(one) as client:
        assert client.hello()["replica"] == "r1"
        end = time.monotonic() + 3
        while time.monotonic() < end:
            number = client.next("state")["n"]
            client.say(type="ping", t=1, seen=number)
        assert [told["n"] for told in client.told if "n" in told] == list(range(1, number + 1))
    with Client(one) as silent:
        silent.hello()
        code, last = closed(silent)
        assert (code, last["why"]) == (1008, "nothing was read for 1.5 s, or no ping has confirmed it")


@pytest.mark.parametrize(("query", "why"), [
    ("?replica=r0", "the session was on replica r0, which has ended; this is a new one, on r1"),
    ("?replica=r1", "the session has ended; after a lost connection it is kept for 5 s"),
    ("", "the session has ended; after a lost connection it is kept for 5 s"),
])  # fmt: skip
def test_a_session_that_cannot_be_resumed_is_told_why(one, query, why):
    with Client(one, query=query) as client:
        welcome = client.hello(resume="unknown")
        assert (welcome["resumed"], welcome["why"]) == (False, why)
    with Client(one) as client:
        assert "why" not in client.hello()


def test_requests_to_another_replica_are_not_answered_by_this_one(one):
    assert fetch(one, "/health/ready?replica=r1")[0] == 200
    code, headers, text = fetch(one, "/health/ready?replica=r0")
    assert (code, text) == (404, b"no replica r0 runs any more; this is r1, and /v1/replicas lists all")
    assert headers["X-Content-Type-Options"] == "nosniff"


@frozen
class Request:
    """What Ray's proxies hand over."""

    asgi_scope: dict


def test_the_router_reads_the_wish_of_a_request_and_takes_the_server_with_most_room():
    pytest.importorskip("ray.serve", reason="the extra ray is not installed", exc_type=ImportError)
    from accomp.core.serving.replicas.routing import by_room, wish_of

    def wish(path: str, query: bytes) -> tuple[str, bool]:
        return wish_of([pickle.dumps(Request({"path": path, "query_string": query}))])

    assert wish("/v1/live", b"replica=a%20b&x=1") == ("a b", True)
    assert wish("/metrics", b"") == ("", False)
    assert wish("/v1/live", b"") == ("", True)
    assert wish_of([]) == wish_of([3]) == wish_of([b"no pickle"]) == ("", False)
    assert by_room({"a": 0, "b": 3, "c": -1, "d": 3}) == ["b", "d", "a", "c"]
