"""Servers that the tests of the server and of its page share."""

import pytest
from clocked_server import clocked_server


@pytest.fixture
def clocked(tmp_path):
    """A server that plays through a device and follows a MIDI clock, and its MIDI ports."""
    with clocked_server(tmp_path / "jams") as (running, ports):
        yield running, ports
