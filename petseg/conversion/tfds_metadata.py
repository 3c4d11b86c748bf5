"""Writes the metadata that lets TFDS read a folder of shards."""

from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from petseg.conversion import shards
from petseg.data.manifest import Manifest
from petseg.data.store_kinds import RAW

FILE_NAMES = ("dataset_info.json", "features.json")


def write_tfds_metadata(output_dir: str, finished: Manifest, class_names: Sequence[str]) -> None:
    """Writes dataset_info.json and features.json for a finished data set."""
    image_format = "png" if finished.store == RAW else "jpeg"
    features = tfds.features.FeaturesDict(
        {
            "image": {
                "encoded": tfds.features.Image(shape=(None, None, 3), encoding_format=image_format),
                "format": tfds.features.Text(),
                "filename": tfds.features.Text(),
                "height": tfds.features.Scalar(np.int64),
                "width": tfds.features.Scalar(np.int64),
                "source_id": tfds.features.Text(),
                "segmentation": {
                    "class": {
                        "encoded": tfds.features.Image(
                            shape=(None, None, 1), encoding_format="png"
                        ),
                        "format": tfds.features.Text(),
                    }
                },
                "class": {
                    "label": tfds.features.ClassLabel(names=list(class_names)),
                    "text": tfds.features.Text(),
                },
            }
        }
    )
    tfds.folder_dataset.write_metadata(
        data_dir=output_dir,
        features=features,
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[shard.records for shard in content.shards],
                num_bytes=content.bytes,
                filename_template=tfds.core.ShardedFileTemplate(
                    template=shards.TFDS_FILENAME_TEMPLATE,
                    data_dir=output_dir,
                    dataset_name=finished.name,
                    split=split,
                    filetype_suffix="tfrecord",
                ),
            )
            for split, content in finished.splits.items()
        ],
        check_data=False,
    )
