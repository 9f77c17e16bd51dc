"""Fixtures of the page's tests: a browser, and the stub server in front of which it stands."""

import pytest


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium; not of a whole session, since its driver holds the thread's event loop."""
    from page_browser import chromium

    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """The page's modules without a browser."""
    from page_files import Node

    node = Node(tmp_path_factory.mktemp("node"))
    yield node
    node.close()


@pytest.fixture(scope="module")
def stub_server():
    from page_stub import Stub, serving

    stub = Stub()
    with serving(stub.app) as address:
        yield stub, address


@pytest.fixture
def stub(stub_server):
    """The stub server, as at its beginning."""
    stub_server[0].reset()
    return stub_server[0]


@pytest.fixture
def address(stub_server):
    """Where the stub server is."""
    return stub_server[1]
