"""The contracts on disk: records, shards, manifest and label maps."""
