"""One cluster for the tests of a module: they leave it well."""

import pytest

from stereo import Stereo


@pytest.fixture(scope="module")
def stereo(request):
    with Stereo(request.config.getoption("--witness")) as running:
        yield running.start()
