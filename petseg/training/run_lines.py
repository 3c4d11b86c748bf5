"""What a training says at its start and at its end."""

import shlex
from collections.abc import Mapping

from petseg.config import Config
from petseg.metrics.measure import named_values
from petseg.run_dir import checkpoints
from petseg.training.setup import RunSetup


def first_line(run: RunSetup, step: int) -> str:
    """What is trained from a step on, on which data, by how many replicas."""
    if step == run.total_steps:
        setting = "stages" if run.config.train.stages else "epochs"
        return f"trained before, to step {step}; for more: config.train.{setting}"
    model, hosts = run.config.model, run.devices.host_count
    return (
        f"{'resuming' if run.is_resumed else 'starting'} at step {step} of {run.total_steps}: "
        f"{model.decoder} on {model.encoder}, {run.data.train.records:,} training and "
        f"{run.data.validation.records:,} validation images, batches of "
        f"{run.data.options.batch_size} over {run.devices.replicas} replica(s)"
        f"{f' on {hosts} hosts' if hosts > 1 else ''}"
    )


def last_lines(run_dir: str, config: Config, step: int, figures: Mapping[int, dict]) -> list[str]:
    """What to do with a finished run, and which checkpoint is better than the last one.

    Args:
      run_dir: The run folder.
      config: Its settings.
      step: The last one.
      figures: Of all evaluations, by step.
    """
    kind = " --proposals" if config.patches.enabled else ""
    lines = [f"done: {run_dir}; next: petseg-evaluate --workdir={shlex.quote(run_dir)}{kind}"]
    metric = config.train.best_metric
    best = checkpoints.best_step(run_dir, metric)
    values = {one: named_values(figures[one]).get(metric) for one in (best, step) if one in figures}
    if len(values) == 2 and None not in values.values() and values[best] > values[step]:
        lines.append(
            f"the last checkpoint is taken by default; the best {metric}, {values[best]:.4f}, was "
            f"at step {best}: --checkpoint=best"
        )
    return lines
