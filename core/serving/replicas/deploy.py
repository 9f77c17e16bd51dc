"""Replicas in a Ray cluster: deployed, watched, and ended on a signal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from attrs import frozen
from ray import serve
from ray.serve.config import HTTPOptions, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from accomp.core.compute.interrupts import stop_wish
from accomp.core.console import say, warn
from accomp.core.engines.ray import connect
from accomp.core.errors import WorkError
from accomp.core.serving.address import Address
from accomp.core.serving.replicas.replica import (
    CHECKS,
    UNCHECKED,
    Front,
    Prepare,
    Replica,
    ReplicaOptions,
    prepare_runs,
)
from accomp.core.serving.replicas.routing import STATS
from accomp.core.serving.server import FADE

APP = "accomp"
ROUTER = "accomp.core.serving.replicas.routing.Router"
MOST_REQUESTS = 1000
"""Requests and sockets of a replica at a time. It refuses clients long before; those beyond this number would hang."""
GRACE = 15.0
"""Seconds for the end of a replica, beyond that of its sessions."""
POLL = 0.5


@frozen
class Cluster:
    """Size of a deployment.

    Attributes:
        cpus, gpus: of each replica.
        address: of the Ray cluster; "": Ray is started on this machine.
    """

    replicas: int = 1
    cpus: int = 1
    gpus: float = 0.0
    address: str = ""


def serve_replicas(
    address: Address,
    options: ReplicaOptions,
    cluster: Cluster,
    *,
    prepare: Prepare = prepare_runs,
    started: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until a signal; a second one ends at once. started: called with the page's address once replicas are ready.

    Raises UserError for an address or a cluster that cannot be used, WorkError where Ray or the replicas do not start.
    """
    address.bind().close()
    connect(cluster.address, "--ray-address")
    try:
        deploy(address, options, cluster, prepare)
        with stop_wish() as wish:
            started(address.url(address.port, options.token))
            state = "RUNNING"
            while not wish.signal:
                time.sleep(POLL)
                state = _report_state(state)
            say("ending: no new sessions; those that play have 30 s")
            serve.delete(APP)
    finally:
        if not cluster.address:  # of others there may be more in the cluster
            serve.shutdown()
        ray.shutdown()


def deploy(address: Address, options: ReplicaOptions, cluster: Cluster, prepare: Prepare = prepare_runs) -> None:
    """Start proxies and replicas in the connected cluster, and wait until they are ready. Raises WorkError."""
    web = HTTPOptions(
        host=address.host, port=address.port, ssl_certfile=_text(address.cert), ssl_keyfile=_text(address.key)
    )
    quiet = LoggingConfig(log_level="ERROR", enable_access_log=False)
    serve.start(proxy_location="EveryNode", http_options=web, logging_config=quiet)
    deployment = serve.deployment(
        serve.ingress(Front())(Replica),
        name="server",
        num_replicas=cluster.replicas,
        ray_actor_options={"num_cpus": cluster.cpus, "num_gpus": cluster.gpus},
        max_ongoing_requests=MOST_REQUESTS,
        max_constructor_retry_count=1,
        logging_config=LoggingConfig(enable_access_log=False),
        health_check_period_s=CHECKS,
        health_check_timeout_s=10.0,
        graceful_shutdown_wait_loop_s=1.0,
        graceful_shutdown_timeout_s=options.limits.ending + FADE + UNCHECKED + GRACE,
        request_router_config=RequestRouterConfig(request_router_class=ROUTER, request_routing_stats_period_s=STATS),
    )
    say(f"starting {cluster.replicas} replicas; each loads the models and measures its machine")
    try:
        serve.run(deployment.bind(options, prepare), name=APP, route_prefix="/")
    except RuntimeError as error:
        raise WorkError(f"the replicas do not start: {error}") from error


def _report_state(before: str) -> str:
    """Report a change of the application's state -> the state."""
    app = serve.status().applications.get(APP)
    state = "missing" if app is None else str(app.status.value)
    if state != before and state == "RUNNING":
        say("all replicas run again")
    elif state != before:
        warn(f"the replicas are {state}: {'they were removed' if app is None else app.message or 'one is replaced'}")
    return state


def _text(path: Any) -> str | None:
    return None if path is None else str(path)
