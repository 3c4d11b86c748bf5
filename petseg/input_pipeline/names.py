"""Which images a training batch holds."""

from collections.abc import Sequence

from petseg.data import record
from petseg.input_pipeline import reading
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.reading import Shards


def names_in_batch(
    views: Sequence[Shards], options: InputOptions, step: int, num_workers: int = 1
) -> list[str] | None:
    """Names of the images in the n-th global training batch, of images or of features.

    Args:
      views: The training split: its shards, and any alternative views of them.
      options: How batches are made.
      step: n, from 0.
      num_workers: Number of workers that share each batch.

    Returns:
      As many names as the global batch has examples; None where the order varies or depends
      on which worker reads which shard.
    """
    shares_files = options.share_files and num_workers > 1
    if options.service_address or not options.deterministic or shares_files:
        return None
    records = reading.read_epochs(
        views[0],
        more_views=views[1:],
        shuffle_records=options.shuffle_records,
        seed=options.seed,
        start_record=step * options.batch_size,
    ).take(options.batch_size)
    return [record.parse_name(one).numpy().decode(errors="replace") for one in records]
