"""A tf.data service: other machines decode while this one trains."""

import socket
import urllib.parse

import tensorflow as tf

from petseg.errors import UserError

_TIMEOUT_SECONDS = 10


def check_reachable(address: str) -> None:
    """Raises UserError if nothing answers there: TensorFlow would retry for an hour.

    Args:
      address: The dispatcher's address, such as grpc://host:5050.
    """
    url = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((url.hostname, url.port), timeout=_TIMEOUT_SECONDS).close()
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"config.data.service_address={address}: no dispatcher answers there ({error}); "
            "start one, or leave it out"
        ) from error


def distribute(dataset: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """The same elements, each made by one of the workers of a service.

    A worker takes the next element of the dataset's source when it is ready for one, so the
    order varies; each is made once (Audibert et al. 2023, "dynamic sharding").

    Args:
      dataset: What the workers run.
      address: The dispatcher's address, such as grpc://host:5050.
    """
    return dataset.apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=address,
        )
    )
