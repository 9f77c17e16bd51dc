"""What the Ray engine does with a cluster, on a pretended one: short of room, losing workers, or out of reach."""

from __future__ import annotations

import pickle
import sys
from types import SimpleNamespace

import pytest
from engine_tasks import Actor, run

from accomp.core.engines import run_tasks
from accomp.core.errors import UserError
from accomp.core.spec.runner import RaySpec, RunnerSpec


class RayError(Exception):
    """Ray's own, of whatever befalls a worker."""


class Cluster:
    """The part of Ray's interface that the engine uses. An actor starts when there is room; ("die", _) is its end."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *, room: int = 2, cpus: float = 8, running: bool = True):
        self.room, self.cpus, self.running = room, cpus, running
        self.actors: list[Pretended] = []
        self.most = self.stopped = 0

    @property
    def alive(self) -> list[Pretended]:
        return [actor for actor in self.actors if not actor.dead]

    def is_initialized(self) -> bool:
        return self.running

    def init(self, address: str, **settings: object) -> None:
        if address != "local":
            raise ConnectionError(f"nobody at {address}\nand much more")
        self.running = True

    def shutdown(self) -> None:
        self.stopped += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": self.cpus}}, {"Alive": False, "Resources": {"CPU": 999}}]

    def remote(self, cls: type) -> SimpleNamespace:
        return SimpleNamespace(
            options=lambda **asked: SimpleNamespace(remote=lambda *a: Pretended(self, cls, asked, a))
        )

    def wait(self, refs: list, num_returns: int, timeout: float) -> tuple[list, list]:
        assert num_returns == 1
        ready = [ref for ref in refs if ref.is_ready()]
        self.most = max(self.most, sum(ref.name == "attempt" for ref in refs))
        assert ready, "nothing will ever be ready"
        return ready[:1], [ref for ref in refs if ref is not ready[0]]

    def get(self, ref: Ref) -> object:
        return ref.value()

    def kill(self, actor: Pretended) -> None:
        actor.dead = True


class Pretended:
    def __init__(self, cluster: Cluster, cls: type, asked: dict, arguments: tuple):
        self.cluster, self.asked, self.dead = cluster, asked, False
        self.worker = cls(*arguments)
        cluster.actors.append(self)
        self.ready = SimpleNamespace(remote=lambda: Ref("ready", self, lambda: None))
        self.attempt = SimpleNamespace(remote=lambda argument: Ref("attempt", self, lambda: self.do(argument)))

    def do(self, argument: bytes) -> bytes:
        if pickle.loads(argument)[0] == "die":
            self.dead = True
            raise RayError("\nThe actor died unexpectedly.\nA long story")
        return self.worker.attempt(argument)


class Ref:
    def __init__(self, name: str, actor: Pretended, value):
        self.name, self.actor, self.value = name, actor, value

    def is_ready(self) -> bool:
        return self.actor in self.actor.cluster.alive[: self.actor.cluster.room]


@pytest.fixture
def pretend(monkeypatch):
    """Puts a cluster in Ray's place."""
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        monkeypatch.setenv(f"{name}_NUM_THREADS", "1")

    def put(**settings) -> Cluster:
        cluster = Cluster(**settings)
        monkeypatch.setitem(sys.modules, "ray", cluster)
        return cluster

    return put


def test_workers_without_room_hold_nothing_up(pretend):
    cluster = pretend(room=1)
    found = run(RunnerSpec(engine="ray", workers=4), *[("square", number) for number in range(9)])
    assert [found[f"{number} square"].value for number in range(9)] == [number**2 for number in range(9)]
    assert len(cluster.actors) <= 4
    assert cluster.most == 1, "only one had really started"
    assert cluster.alive == [], "all are ended, the ones that never started too"
    assert cluster.stopped == 0, "a Ray that was there before stays"


def test_a_worker_that_dies_is_replaced(pretend, capfd):
    cluster = pretend()
    found = run(RunnerSpec(engine="ray", workers=2), ("square", 2), ("die", None), ("square", 3), ("square", 4))
    assert [found[f"{number} square"].value for number in (0, 2, 3)] == [4, 9, 16]
    assert (found["1 die"].failure, found["1 die"].attempts) == ("its worker died: The actor died unexpectedly.", 2)
    assert "A long story" in found["1 die"].trace
    assert "trying again (1 of 1)" in capfd.readouterr().err
    assert 2 <= len(cluster.actors) <= 4


def test_each_task_a_fresh_worker(pretend):
    cluster = pretend()
    found = run(RunnerSpec(engine="ray", workers=2), *[("count", None)] * 5, fresh=True)
    assert [outcome.value[1] for outcome in found.values()] == [1] * 5
    assert len(cluster.actors) == 5


def test_as_many_workers_as_fit_and_each_asks_for_its_share(pretend):
    cluster = pretend(room=99, cpus=8)
    run(RunnerSpec(engine="ray", cpus=3, gpus=0.0), *[("square", number) for number in range(9)])
    assert cluster.most == 2, "8 CPUs, 3 each"
    assert cluster.actors[0].asked == {"num_cpus": 3, "num_gpus": 0.0, "max_restarts": 0}


def test_ray_is_started_here_and_stopped_again(pretend):
    cluster = pretend(running=False)
    assert run(RunnerSpec(engine="ray"), ("square", 3))["0 square"].value == 9
    assert cluster.stopped == 1


def test_what_cannot_be_had_is_told(pretend, capfd):
    pretend(running=False)
    runner = RunnerSpec(engine="ray", cpus=9, gpus=1)
    with (
        pytest.raises(UserError, match=r"runner.cpus = 9, runner.gpus = 1; there are 8 CPUs and 0 GPUs"),
        run_tasks(runner, [], Actor()),
    ):
        pass
    cluster = pretend(running=False)
    runner = RunnerSpec(engine="ray", ray=RaySpec(address="far:6379"))
    with pytest.raises(UserError, match=r"nobody at far:6379; start it.*'far:6379'"), run_tasks(runner, [], Actor()):
        pass
    assert not cluster.running
    pretend()
    with run_tasks(RunnerSpec(engine="ray", cpus=9), [], Actor()) as outcomes:
        assert list(outcomes) == []
    assert "waiting for one to join" in capfd.readouterr().err, "a cluster may grow"
