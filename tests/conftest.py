"""Settings of all tests."""

import os
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure: no example is timed, and slow draws are not held against a test.
anywhere = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The suite tries the same examples each time, so that what turns red is what was changed; `make fuzz` tries others.
settings.register_profile("suite", anywhere, derandomize=True)
settings.register_profile("fuzz", anywhere, print_blob=True)
settings.load_profile("fuzz" if os.environ.get("ACCOMP_FUZZ") else "suite")

ALONE = "ACCOMP_TEST_ALONE"
"""Set in the process of a test marked `alone`."""


def refuse_forks(event, _):
    """A copy of a process has its locks and none of the threads that would release them: it may wait for ever."""
    if event in ("os.fork", "os.forkpty"):
        raise RuntimeError("this process has run other tests and may have threads: mark a test that forks with `alone`")


if ALONE not in os.environ:
    sys.addaudithook(refuse_forks)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test marked `alone` in a new process; its outcome and what it has printed are those of the test here."""
    if ALONE in os.environ or pyfuncitem.get_closest_marker("alone") is None:
        return None
    folder = pyfuncitem.session.config._tmp_path_factory.mktemp("alone") / "tests"
    words = ["-pno:xdist", "-pno:cacheprovider", "-rs", "--timeout=300", f"--basetemp={folder}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", pyfuncitem.nodeid, *words],
        cwd=pyfuncitem.config.rootpath,
        env={**environment, ALONE: "1"},
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr, sep="\n")
    if skipped := re.search(r"^SKIPPED \[1\] \S+: (.*)$", done.stdout, re.MULTILINE):
        pytest.skip(skipped[1])
    assert done.returncode == 0, f"the test failed in its own process ({done.returncode})"
    return True
