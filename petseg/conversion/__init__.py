"""Converts raw files into TFRecord shards, TFDS metadata and a manifest."""
