"""Two servers behind one address, as replicas of Ray Serve here: who goes where, who is told what, how they end."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from attrs import frozen
from serving_small import TOKEN, Client, prepare_small
from websockets.exceptions import ConnectionClosed

from accomp.core.errors import WorkError
from accomp.core.serving.address import Address
from accomp.core.serving.limits import Limits

if not os.environ.get("ACCOMP_REPLICAS"):
    pytest.skip("Ray and two servers take a minute: make test-replicas", allow_module_level=True)
pytest.importorskip("ray", reason="the extra ray is not installed")
pytest.importorskip("fastapi", reason="Ray is installed without Ray Serve: pip install 'ray[serve]'")

HELPERS = Path(__file__).parents[1]
LIMITS = Limits(hellos_per_minute=1000, sessions_per_address=100, ending=1.0, stalled=2.0, late_share=1.0)
SOUND = np.random.default_rng(0).uniform(-0.3, 0.3, 640).astype(np.float32)


@frozen
class Front:
    port: int

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def replicas(self) -> dict[str, dict]:
        return {one["labels"]["replica"]: one["labels"] for one in json.loads(self.ask("/v1/replicas")[1])}


@pytest.fixture
def front(tmp_path, monkeypatch):
    """Two replicas of one slot."""
    import ray
    from ray import serve

    from accomp.core.engines.ray import start_here
    from accomp.core.serving.replicas.deploy import Cluster, deploy
    from accomp.core.serving.replicas.replica import ReplicaOptions

    monkeypatch.setenv("PYTHONPATH", f"{HELPERS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr("accomp.core.engines.ray.cores", lambda: 2)
    bound = Address(port=0).bind()
    port = bound.getsockname()[1]
    bound.close()
    try:
        start_here()
    except WorkError as error:
        if "timed out during startup" not in str(error):
            raise
        pytest.skip(f"this machine is too busy for Ray: {error}")
    options = ReplicaOptions({}, TOKEN, slots=1, record=tmp_path / "jams", limits=LIMITS)
    try:
        deploy(Address(port=port), options, Cluster(replicas=2), prepare_small)
        yield Front(port)
    finally:
        serve.shutdown()
        ray.shutdown()


def go_on(client: Client, seconds: float, *, confirm: bool = True) -> None:
    """Play as a page does: sound at its pace, and a ping that says what was read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.send(SOUND)
        with contextlib.suppress(TimeoutError):
            client.receive(0.02)
        numbers = [told["n"] for told in client.told if "n" in told]
        if confirm and numbers and client.number % 10 == 0:
            client.say(type="ping", t=0, seen=numbers[-1])


def until_closed(client: Client, seconds: float = 30.0, **how: bool) -> int:
    """Play until the server closes, and hear all that it said -> the code."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            go_on(client, 0.1, **how)
        except ConnectionClosed:
            break
    while time.monotonic() < end:  # what was said before
        try:
            client.receive(1.0)
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else 0
    raise TimeoutError(f"not closed within {seconds} s; told: {client.told[-3:]}")


def test_two_replicas_share_an_address_and_each_keeps_its_sessions(front):
    """All in one, since Ray and two models take their time to begin."""
    one, other = Client(front), Client(front)
    first = one.hello()
    one.say(type="start", record=True, seed=1)
    go_on(one, 1.5)
    second = other.hello()
    assert {first["replica"], second["replica"]} == set(front.replicas())  # to the one with room
    other.say(type="start", seed=1)
    go_on(other, 1.5)
    go_on(one, 0.5)
    assert one.frames
    assert other.frames

    assert {name: (state["__meta_accomp_free"], state["__meta_accomp_admits"]) for name, state in
            front.replicas().items()} == dict.fromkeys(front.replicas(), ("0", "false"))  # fmt: skip
    with Client(front) as third:
        refused = third.hello()
        assert (refused["type"], refused["reason"], refused["retry_after"]) == ("refused", "full", 30)
        with pytest.raises(ConnectionClosed) as closed:
            third.receive()
        assert closed.value.rcvd.code == 1013

    # health and metrics by replica
    for name in (first["replica"], second["replica"]):
        assert front.ask(f"/health/ready?replica={name}")[0] == 200
        told = front.ask(f"/metrics?replica={name}")[1]
        assert "accomp_sessions_active 1.0" in told
    assert front.ask("/metrics?replica=gone")[0] == 404
    assert "no replica gone runs any more" in front.ask("/metrics?replica=gone")[1]

    # a lost connection comes back to its replica; elsewhere it is told why not
    one.socket.socket.close()
    for _ in range(3):
        go_on(other, 0.2)
        with Client(front, query=f"?replica={first['replica']}") as back:
            again = back.hello(resume=first["resume"])
            assert (again["resumed"], again["session"], again["replica"]) == (True, first["session"], first["replica"])
            back.place = one.place + 6400
            go_on(back, 0.5)
            assert back.frames
            one.place = back.place
    assert front.ask(f"/v1/drain?replica={second['replica']}", "POST")[0] == 200
    with Client(front, query="?replica=gone") as lost:
        refused = lost.hello(resume="a secret of a replica that has ended")
        assert refused["type"] == "refused"  # both are full or drained

    # a reader that confirms nothing is let go, and its place is free again
    assert until_closed(other, confirm=False) == 1008
    assert "nothing was read for 2 s" in other.told[-1]["why"]
    with Client(front, query=f"?replica={first['replica']}") as back:
        assert back.hello(resume=first["resume"])["resumed"]
        back.say(type="stop")
        (url,) = [file["url"] for file in back.next("ended")["files"] if file["name"] == "mix.wav"]
    assert url.endswith(f"?replica={first['replica']}")
    assert front.ask(url.replace("mix.wav", "manifest.json"))[0] == 200

    time.sleep(2.5)  # free places are reported every second
    with Client(front, query="?replica=gone") as lost:  # the other one is drained
        welcome = lost.hello(resume="a secret of a replica that has ended")
        assert (welcome["resumed"], welcome["replica"]) == (False, first["replica"])
        assert welcome["why"].startswith("the session was on replica gone, which has ended")
        lost.say(type="start", seed=1, record=True)
        go_on(lost, 1.0)

        # removed by Ray: told, faded out, recorded
        from ray import serve

        serve.delete("accomp", _blocking=False)
        assert until_closed(lost) == 1012
        assert [told["why"] for told in lost.told if told["type"] == "ending"] == [
            "the server ends; what you play is kept"
        ]
        assert "mix.wav" in {file["name"] for file in lost.told[-1]["files"]}
