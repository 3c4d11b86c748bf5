import socket

import pytest

from petseg.errors import UserError
from petseg.input_pipeline import service


def test_a_service_that_is_not_there_is_one_line():
    with socket.socket() as taken:
        taken.bind(("localhost", 0))  # bound, but nothing listens
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"grpc://localhost:{port}: no dispatcher answers"):
            service.check_reachable(f"grpc://localhost:{port}")


@pytest.mark.parametrize("address", ["grpc://localhost", "grpc://:5050x", "grpc://"])
def test_an_address_without_host_or_port_is_one_line(address):
    with pytest.raises(UserError, match="no dispatcher answers"):
        service.check_reachable(address)
