"""One cluster for the tests of a module, with a witness of ours."""

import pytest

from stereo import Stereo


@pytest.fixture(scope="module")
def stereo():
    with Stereo("rust") as running:
        yield running.start()
