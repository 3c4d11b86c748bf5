"""A tf.data service: other machines decode, this one trains."""

import socket
import urllib.parse

import tensorflow as tf

from petseg.errors import UserError

_PATIENCE_S = 10


def check_reachable(address: str) -> None:
    """Raises UserError if nothing answers there: TensorFlow would try for an hour.

    Args:
      address: of the dispatcher, such as grpc://host:5050.
    """
    place = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((place.hostname, place.port), timeout=_PATIENCE_S).close()
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"config.data.service_address={address}: no dispatcher answers there ({error}); "
            "BUILD.md says how one is started"
        ) from error


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
