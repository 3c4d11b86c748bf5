"""Which devices share the work."""

import tensorflow as tf

from petseg.errors import UserError


def make_strategy(name: str, cpu_replicas: int, batch_size: int) -> tf.distribute.Strategy:
    """Chooses a strategy over this machine's devices.

    Args:
      name: 'auto' (MirroredStrategy if there are several GPUs, else one device),
        'one_device' or 'mirrored'.
      cpu_replicas: with 'mirrored' and no GPU, how many logical CPU devices to make;
        must come before TensorFlow has used any device.
      batch_size: the global batch, which the replicas share evenly.

    Raises:
      UserError: there is nothing to mirror over, or the batch does not divide.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if name == "one_device" or (name == "auto" and len(gpus) < 2):
        strategy = tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    elif gpus:
        strategy = tf.distribute.MirroredStrategy([f"/gpu:{i}" for i in range(len(gpus))])
    elif cpu_replicas:
        strategy = tf.distribute.MirroredStrategy(_split_cpu(cpu_replicas))
    else:
        raise UserError(
            "config.train.strategy=mirrored: this machine has no GPU that TensorFlow can "
            "use; take auto, or rehearse on the CPU with --config.train.cpu_replicas=2"
        )
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"config.data.batch_size={batch_size} does not divide by {replicas} replicas; "
            f"take {batch_size // replicas * replicas or replicas} or "
            f"{(batch_size // replicas + 1) * replicas}"
        )
    return strategy


def _split_cpu(count: int) -> list[str]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    wanted = [tf.config.LogicalDeviceConfiguration()] * count
    current = tf.config.get_logical_device_configuration(cpu)
    if current is None or len(current) < count:
        tf.config.set_logical_device_configuration(cpu, wanted)
    return [f"/cpu:{i}" for i in range(count)]
