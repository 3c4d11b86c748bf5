"""python shares_of_replicas.py DATA REPLICAS FILE: writes what each logical device is fed.

A program of its own, as logical devices are made before TensorFlow uses any.
"""

import sys

import numpy as np

from petseg.config import Config
from petseg.devices import Devices
from petseg.training import data, distribution

STEPS = 4


def main() -> None:
    """Writes an .npz file: every tensor of some batches, by key, step and replica."""
    folder, replicas, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    config = Config()
    config.data.dir, config.data.image_size, config.data.batch_size = folder, 32, 16
    config.data.label_map = "three_class"
    config.augment.min_crop_area = 0.3
    strategy = distribution.make_strategy("mirrored", "tf_config", replicas, 16)
    devices = Devices(strategy)
    batches = data.open_data_set(config).image_batches(devices).train("decoder", 0)
    distributed = iter(distribution.distribute(devices, batches))
    shares = {}
    for step in range(STEPS):
        for key, value in next(distributed).items():
            for replica, share in enumerate(strategy.experimental_local_results(value)):
                assert share.device.endswith(f"CPU:{replica}"), share.device
                shares[f"{key} {step} {replica}"] = share.numpy()
    np.savez(file, **shares)


if __name__ == "__main__":
    main()
