"""TFRecord shards -> batches of uint8 images and class ids."""
