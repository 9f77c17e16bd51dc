"""A server with a small model as a process of its own, to be killed; prints its port. Argument: where it records."""

from __future__ import annotations

import sys
from pathlib import Path

from serving_small import TOKEN, prepared, small_player

from accomp.core.registry import Registry
from accomp.core.serving.address import Address
from accomp.core.serving.limits import Limits
from accomp.core.serving.playing.engine import Engine
from accomp.core.serving.playing.recording import Recorder
from accomp.core.serving.security import AccessControl
from accomp.core.serving.server import Server
from accomp.core.serving.web import run_until_signal

if __name__ == "__main__":
    limits = Limits(ending=1.0, late_share=1.0)
    server = Server("serve", Engine(), AccessControl(TOKEN), limits, recorder=Recorder(Path(sys.argv[1])))
    address = Address(port=0)
    bound = address.bind()
    runs = [("small", small_player())]
    run_until_signal(
        server,
        address,
        bound,
        lambda say: prepared(server, runs, Registry(third_party=False), 2),
        lambda: print(bound.getsockname()[1], flush=True),
    )
    print("ended", flush=True)
