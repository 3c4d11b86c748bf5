"""When TensorBoard is told what, but for evaluations."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from etils import epath

from petseg.errors import FaultFound
from petseg.run_dir import run_folder
from petseg.training import about_run, state, summaries
from petseg.training.run import Course, Run


def introduce(run: Run) -> None:
    """Tells TensorBoard what the run is."""
    config, opened = run.config, run.opened
    if not opened.place.host.is_first:
        return
    layers = run_folder.describe_model(config, opened.model)
    with writing("what TensorBoard is told"):
        summaries.write_run(
            run.writers.run,
            name=epath.Path(run.workdir).name,
            texts=about_run.texts(config, opened.data.manifest, layers),
            hparams=about_run.hparams(config),
            compared=about_run.compared(config),
            class_names=opened.data.label_map.names,
            forward=opened.model,
            image_size=config.data.image_size,
        )


def profile(run: Run, step: int) -> None:
    """Begins and ends the profile of the steps that the settings name."""
    steps = run.config.train.profile_steps
    if not steps or not run.opened.place.host.is_first:
        return
    if step == steps[0]:
        tf.profiler.experimental.start(str(epath.Path(run.workdir) / summaries.TRAIN))
    elif step == steps[1] and end_profile():
        run.progress.say(f"step {step}: profiled {steps[1] - steps[0]} steps")


def end_profile() -> bool:
    """Writes the profile, if one was begun."""
    try:
        tf.profiler.experimental.stop()
    except tf.errors.UnavailableError:  # none is under way
        return False
    return True


def tell_histograms(run: Run, course: Course, gradients: list[tf.Tensor]) -> None:
    """The head's weights, and their gradients of the step that was just made."""
    if not run.config.train.histograms:
        return
    weights = course.learner.state.weights
    told = [weights[place] for place in state.head_places(run.opened.model, weights)]
    values = {f"weights/{w.path}": w.numpy() for w in told}
    for weight, gradient in zip(told, gradients, strict=True):
        values[f"gradients/{weight.path}"] = gradient.numpy()
    with writing(f"the histograms of step {course.step}"):
        summaries.write_histograms(run.writers.train, course.step, values)


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """A full disk, or one that has gone, as one line."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = " ".join((getattr(error, "message", None) or str(error)).split())[:300]
        raise FaultFound(
            f"--workdir: cannot save {what}: {reason}; the last checkpoint is untouched, and "
            "the same command goes on from it"
        ) from error
