"""One training step, the same for every strategy."""

from collections.abc import Callable

import keras
import tensorflow as tf

from petseg.input_pipeline import augment
from petseg.modeling import losses, vgg16_skip
from petseg.modeling.vgg16_skip import SkipModel
from petseg.seeds import Stream, fold_seed

TrainStep = Callable[[dict[str, tf.Tensor], tf.Tensor], dict[str, tf.Tensor]]


def make_schedule(
    learning_rate: float, warmup_steps: int, total_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, over at most half of all steps, then a cosine to 0."""
    warmup = min(warmup_steps, total_steps // 2)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else learning_rate,
        decay_steps=max(total_steps - warmup, 1),
        warmup_target=learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def trained_variables(model: SkipModel, freeze_backbone: bool) -> list[keras.Variable]:
    """The variables that training moves."""
    backbone = [] if freeze_backbone else model.backbone.trainable_variables
    return [*backbone, *model.head.trainable_variables]


def make_train_step(
    model: SkipModel,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    *,
    loss: str,
    freeze_backbone: bool,
    dropout_rate: float,
    global_batch: int,
    seed: int,
) -> TrainStep:
    """Compiles one training step; its result does not depend on the replica count.

    Args:
      model: in the strategy's scope.
      optimizer: built, in the strategy's scope.
      strategy: whose replicas share a batch.
      loss: 'cross_entropy', 'dice' or 'cross_entropy+dice'.
      freeze_backbone: train the head only; the backbone stays out of the tape.
      dropout_rate: see vgg16_skip.drop_channels.
      global_batch: images a step, over all replicas.
      seed: of the dropout.

    Returns:
      A function: (distributed) batch of make_for_train, int64 [] step -> the loss
      ('loss/total') and its parts, float32 [] each.
    """
    keras_variables = trained_variables(model, freeze_backbone)
    variables = [v.value for v in keras_variables]

    def replica_step(batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = augment.apply(batch)
        context = tf.distribute.get_replica_context()
        global_valid = context.all_reduce(
            tf.distribute.ReduceOp.SUM, losses.count_valid_pixels(batch["mask"])
        )
        step_seed = fold_seed(seed, Stream.DROPOUT, step)

        def drop(pools: list[tf.Tensor]) -> list[tf.Tensor]:
            return vgg16_skip.drop_channels(
                pools,
                dropout_rate,
                step_seed,
                context.replica_id_in_sync_group,
                strategy.num_replicas_in_sync,
            )

        def compute_loss(pools: list[tf.Tensor]) -> dict[str, tf.Tensor]:
            logits = model.head(drop(pools), training=True)
            parts = {}
            if "cross_entropy" in loss:
                total = losses.cross_entropy_sum(logits, batch["mask"])
                parts["loss/cross_entropy"] = tf.math.divide_no_nan(total, global_valid)
            if "dice" in loss:
                parts["loss/dice"] = losses.dice_loss_sum(logits, batch["mask"]) / global_batch
            return {**parts, "loss/total": tf.add_n(list(parts.values()))}

        if freeze_backbone:
            pools = model.backbone(batch["image"], training=False)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            if not freeze_backbone:
                pools = model.backbone(batch["image"], training=True)
            values = compute_loss(pools)
        gradients = tape.gradient(values["loss/total"], variables)
        # Under a strategy Keras sums the gradients over all replicas.
        optimizer.apply(gradients, keras_variables)
        return values

    @tf.function
    def train_step(batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
        values = strategy.run(replica_step, args=(batch, step))
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in values.items()
        }

    return train_step
