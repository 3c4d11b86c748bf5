"""What is done with a trained run: scoring, prediction, export."""
