"""What a run leaves in its folder: settings, checkpoints, evaluations, the trained model."""
