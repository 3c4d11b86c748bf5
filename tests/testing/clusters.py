"""Several processes on loopback that train together, and single ones, for tests."""

import contextlib
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from petseg import config_json
from petseg.config import Config
from testing import command_processes
from testing.command_processes import CommandProcess


def write_config(config: Config, path: Path) -> Path:
    """A config file that gives these settings."""
    path.write_text(
        "from petseg.config_json import from_json\n"
        f"def get_config():\n    return from_json({config_json.to_json(config)!r})\n"
    )
    return path


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def training(
    config_file: Path, run: Path, hosts: int = 1, flags: Sequence[str] = ()
) -> Iterator[list[CommandProcess]]:
    """One petseg.train a host; those that still run at the end are killed."""
    ports = free_ports(hosts)
    processes = []
    try:
        for index in range(hosts):
            cluster = {
                "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
                "task": {"type": "worker", "index": index},
            }
            environment = {"TF_CONFIG": json.dumps(cluster)} if hosts > 1 else {}
            log = run.parent / f"{run.name}.{index}.log"
            command = ["-m", "petseg.train", f"--config={config_file}", f"--workdir={run}", *flags]
            processes.append(command_processes.start(command, environment, log, log))
        yield processes
    finally:
        for process in processes:
            process.kill()


def log_of(run: Path, index: int = 0) -> str:
    """What a host has said so far, in all of its lives."""
    return (run.parent / f"{run.name}.{index}.log").read_text()


def train(config_file: Path, run: Path, hosts: int = 1, flags: Sequence[str] = ()) -> list[int]:
    """Trains to the end; the exit statuses."""
    with training(config_file, run, hosts, flags) as processes:
        return [process.wait(timeout=900) for process in processes]
