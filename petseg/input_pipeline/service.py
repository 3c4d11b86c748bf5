"""A tf.data service: other machines decode, this one trains."""

import tensorflow as tf


def distribute(dataset: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """The same elements, made by the workers of a service, each by one of them.

    The workers share out the elements of the dataset's source as they come to them, so
    the order varies; each is made once (Audibert et al. 2023, "dynamic sharding").

    Args:
      dataset: what the workers run.
      address: of the dispatcher, such as grpc://host:5050.
    """
    return dataset.apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=address,
        )
    )
