"""Raw files -> TFRecord shards, TFDS metadata and a manifest."""
