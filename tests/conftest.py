"""Settings of all tests."""

import os

from hypothesis import HealthCheck, settings

# A busy machine is no failure: no example is timed, and slow draws are not held against a test.
anywhere = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The suite tries the same examples each time, so that what turns red is what was changed; `make fuzz` tries others.
settings.register_profile("suite", anywhere, derandomize=True)
settings.register_profile("fuzz", anywhere, print_blob=True)
settings.load_profile("fuzz" if os.environ.get("ACCOMP_FUZZ") else "suite")
