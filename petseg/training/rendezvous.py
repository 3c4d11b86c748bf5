"""Hosts wait for each other in Python, before TensorFlow does.

TensorFlow's own wait cannot be interrupted and does not say which host is missing.
"""

import contextlib
import errno
import ipaddress
import socket
import sys
import time
from collections.abc import Iterator, Sequence

_POLL_S = 0.5
_SECONDS_BETWEEN_LINES = 30.0
_CONNECT_S = 2.0


def wait_for_all(addresses: Sequence[str], own_index: int) -> None:
    """Returns once every host can be reached; prints which are missing every 30 seconds.

    Args:
      addresses: HOST:PORT of every host.
      own_index: Index of this host; its port must be free.

    Raises:
      OSError: This host's port is in use.
      ValueError: An address is not HOST:PORT.
    """
    missing = [address for i, address in enumerate(addresses) if i != own_index]
    printed_s = -_SECONDS_BETWEEN_LINES
    with _listening(*_split(addresses[own_index])):
        while missing := [address for address in missing if not _is_reachable(address)]:
            if time.monotonic() - printed_s >= _SECONDS_BETWEEN_LINES:
                printed_s = time.monotonic()
                print(f"waiting for {', '.join(missing)}", file=sys.stderr, flush=True)
            time.sleep(_POLL_S)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[None]:
    """Lets other hosts connect to this one; the system itself accepts.

    Where the host is an address of this machine, it listens there alone. A host's name may mean
    127.0.1.1 on the host itself, and an address may be that of a router: then on all.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_own_address(host), port))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            listener.bind(("", port))
        listener.listen(128)
        yield


def _own_address(host: str) -> str:
    """The address that a host certainly means on the host itself; '' stands for all."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""


def _is_reachable(address: str) -> bool:
    try:
        with socket.create_connection(_split(address), _CONNECT_S):
            return True
    except OSError:
        return False


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)  # [::1]:1234
