"""Hosts that train together compare their settings, data and version before the first step.

Otherwise each would take its share of a step with its own learning rate, or wait for ever in a
sum whose parts have different sizes.
"""

import json
from collections.abc import Iterator

from petseg import config_json, config_rules
from petseg.config import Config
from petseg.devices import Devices
from petseg.errors import UserError
from petseg.version import __version__


def check_same(config: Config, data_digest: str, devices: Devices) -> None:
    """Checks that all hosts are about to train the same; every host must call it.

    Paths may differ, as each host may have its own copy of the data.

    Args:
      config: This host's settings.
      data_digest: Of its data set's manifest.
      devices: Of all hosts.

    Raises:
      UserError: On every host alike: what differs, and on which host.
    """
    if devices.host_count == 1:
        return
    own = {
        "petseg's version": __version__,
        "the data set (SHA-256 of its manifest)": data_digest,
        "config": config_json.to_json(config),
    }
    first, *others = map(json.loads, _gather(json.dumps(own), devices))
    for index, other in enumerate(others, 1):
        if found := next(_differences(first, other), None):
            name, here, there = found
            raise UserError(
                f"{name} is {here!r} on host 0 and {there!r} on host {index}; start the same "
                "command on all hosts"
            )


def _differences(
    one: dict[str, str], other: dict[str, str]
) -> Iterator[tuple[str, object, object]]:
    """Yields name and both values of what must be the same; settings only of one version."""
    *whole, settings = one
    for name in whole:
        if one[name] != other[name]:
            yield name, one[name], other[name]
    configs = [config_json.from_json(content[settings]) for content in (one, other)]
    for name, (here, there) in config_rules.differences(*configs).items():
        rules = config_rules.find_rules(name)
        are_paths = [value and value not in rules.not_paths for value in (here, there)]
        if not (rules.is_path and all(are_paths)):
            yield name, here, there


def _gather(text: str, devices: Devices) -> list[str]:
    """Returns the texts of all hosts, in their order."""
    content, count, own = text.encode(), devices.host_count, devices.host_index
    lengths = devices.agree([float(len(content)) if i == own else 0.0 for i in range(count)])
    width = int(max(lengths))
    numbers = [0.0] * (count * width)
    numbers[own * width : own * width + len(content)] = map(float, content)
    gathered = bytes(map(round, devices.agree(numbers)))
    return [
        gathered[i * width : i * width + int(length)].decode() for i, length in enumerate(lengths)
    ]
