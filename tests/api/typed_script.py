"""What mypy must see of a user's script."""

import petseg
from petseg import Config

config: Config = petseg.load_recipe("oxford_pets", "records")
config.train.epochs = 8.0
config.data.image_size = (224, 320)
run: petseg.Run = petseg.train(config, "run")
score: float = run.evaluate("validation")["mean_iou"]
wrong_name = run.histories  # error: attr-defined
wrong_type: int = run.config.data.label_map  # error: assignment
petseg.train("oxford_pets", "run")  # error: arg-type
config.model.head = "fcn8s"  # error: attr-defined
