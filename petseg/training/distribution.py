"""Which devices share the work, and how several hosts agree on what to do next."""

import json
import os
from collections.abc import Iterable, Sequence

import tensorflow as tf

from petseg.devices import Agree, Devices
from petseg.errors import UserError
from petseg.training import kubernetes_hosts, rendezvous, signals, slurm_hosts

_TASK_TYPES = ("chief", "worker")  # of which both train


def choose_devices(
    name: str, cluster: str, cpu_replicas: int, batch_size: int, microbatches: int = 1
) -> Devices:
    """Chooses devices; see make_strategy. Must be called before TensorFlow uses any device."""
    strategy = make_strategy(name, cluster, cpu_replicas, batch_size, microbatches)
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return Devices(strategy)
    addresses, index = _hosts(resolver)
    return Devices(strategy, _make_agree(strategy), index, len(addresses))


def distribute(devices: Devices, dataset: tf.data.Dataset) -> Iterable:
    """Spreads this host's batches over its replicas."""
    strategy = devices.strategy
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return strategy.experimental_distribute_dataset(dataset)
    # TensorFlow would divide it again by hosts; here each replica takes the next slice.
    rows = dataset.element_spec["mask"].shape[0] // devices.local_replicas
    return strategy.distribute_datasets_from_function(lambda _: dataset.rebatch(rows))


def make_strategy(
    name: str, cluster: str, cpu_replicas: int, batch_size: int, microbatches: int = 1
) -> tf.distribute.Strategy:
    """Chooses a strategy; must be called before TensorFlow uses any device.

    Args:
      name: 'auto' (several hosts if TF_CONFIG names them, MirroredStrategy if there are
        several GPUs, else one device), 'one_device', 'mirrored', 'multi_worker' or 'tpu'.
      cluster: How 'multi_worker' finds its hosts: 'tf_config', 'slurm', 'kubernetes'.
      cpu_replicas: With 'mirrored' and no GPU, the number of logical CPU devices to make.
      batch_size: The global batch, which the replicas share evenly.
      microbatches: Parts into which each replica cuts its share.

    Raises:
      UserError: There is nothing to mirror over, the cluster is not described, or the batch
        does not divide evenly.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if name == "multi_worker" or (name == "auto" and _workers_of_tf_config() > 1):
        strategy = _make_multi_worker(cluster)
    elif name == "tpu":
        strategy = _make_tpu()
    elif name == "one_device" or (name == "auto" and len(gpus) < 2):
        strategy = tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    elif gpus:
        strategy = tf.distribute.MirroredStrategy(local_devices(len(gpus)))
    elif cpu_replicas:
        strategy = tf.distribute.MirroredStrategy(local_devices(cpu_replicas))
    else:
        raise UserError(
            "config.devices.strategy=mirrored: this machine has no GPU that TensorFlow can "
            "use; set it to auto, or rehearse on the CPU with --config.devices.cpu_replicas=2"
        )
    shares = strategy.num_replicas_in_sync * microbatches
    if batch_size % shares:
        parts = f" of {microbatches} microbatches" if microbatches > 1 else ""
        raise UserError(
            f"config.data.batch_size={batch_size} does not divide by "
            f"{strategy.num_replicas_in_sync} replicas{parts}; use "
            f"{batch_size // shares * shares or shares} or {(batch_size // shares + 1) * shares}"
        )
    return strategy


def _make_agree(strategy: tf.distribute.Strategy) -> Agree:
    devices = len(strategy.extended.worker_devices)

    @tf.function(autograph=False)
    def add_up(values: tf.Tensor) -> tf.Tensor:
        def on_replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return strategy.experimental_local_results(strategy.run(on_replica))[0]

    def agree(values: Sequence[float]) -> list[float]:
        sums = add_up(tf.constant(values, tf.float64)).numpy()
        return [float(value) / devices for value in sums]

    return agree


def local_devices(count: int) -> list[str]:
    """Names of the first GPUs; without GPUs, makes logical CPU devices."""
    if tf.config.list_physical_devices("GPU"):
        return [f"/gpu:{index}" for index in range(count)]
    cpu = tf.config.list_physical_devices("CPU")[0]
    wanted = [tf.config.LogicalDeviceConfiguration()] * count
    current = tf.config.get_logical_device_configuration(cpu)
    if current is None or len(current) < count:
        try:
            tf.config.set_logical_device_configuration(cpu, wanted)
        except RuntimeError as error:
            raise UserError(
                "config.devices.cpu_replicas: TensorFlow has used the CPU in this process already; "
                "start a new one"
            ) from error
    return [f"/cpu:{i}" for i in range(count)]


def _workers_of_tf_config() -> int:
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 1
    try:
        content = json.loads(text)
        cluster, task = content.get("cluster", {}), content.get("task", {}).get("type")
        count = len(cluster.get("chief", ())) + len(cluster.get("worker", ()))
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"TF_CONFIG is not what TensorFlow expects: {error}") from error
    if task is not None:
        try:
            _check_task_type(task)
        except ValueError as error:
            raise UserError(f"TF_CONFIG: {error}") from error
    return count


def _check_task_type(task_type: str) -> None:
    """Raises ValueError for an evaluator or a parameter server, which would train as a worker."""
    if task_type not in _TASK_TYPES:
        raise ValueError(
            f"this task is {task_type!r}, but petseg has only {' and '.join(_TASK_TYPES)}: each of "
            "them trains, and the first one evaluates too; do not start this one"
        )


def _make_multi_worker(cluster: str) -> tf.distribute.Strategy:
    where = f"config.devices.cluster={cluster}"
    try:
        resolver = _make_resolver(cluster)
        addresses, index = _hosts(resolver)
    # Resolvers raise all kinds of errors: a missing variable, package or permission.
    except Exception as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error
    if not addresses:
        raise UserError(
            "config.devices.strategy=multi_worker: the environment variable TF_CONFIG names no "
            'workers; set it to {"cluster": {"worker": ["HOST:PORT", ...]}, '
            '"task": {"type": "worker", "index": 0}} on each host, with its own index'
        )
    try:
        rendezvous.wait_for_all(addresses, index)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: host {index}, {addresses[index]}: {error}") from error
    with signals.ending_at_once():
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def _hosts(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> tuple[list[str], int]:
    """HOST:PORT of all hosts, and the index of this one; raises ValueError if it is none."""
    cluster = resolver.cluster_spec().as_dict()
    if cluster and resolver.task_type:
        _check_task_type(resolver.task_type)
    chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
    before = 0 if resolver.task_type == "chief" else len(chiefs)
    index = before + (resolver.task_id or 0)
    addresses = [*chiefs, *workers]
    if index >= len(addresses) > 0:
        raise ValueError(f"there is no {resolver.task_type} {resolver.task_id}")
    return addresses, index


def _make_resolver(cluster: str) -> tf.distribute.cluster_resolver.ClusterResolver:
    resolvers = tf.distribute.cluster_resolver
    if cluster == "tf_config":
        return resolvers.TFConfigClusterResolver()
    find = slurm_hosts.hosts_of_step if cluster == "slurm" else kubernetes_hosts.hosts_of_job
    addresses, index = find(os.environ)
    return resolvers.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=index,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )


def _make_tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"config.devices.strategy=tpu: no TPU here ({reason})") from error
