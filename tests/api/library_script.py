"""A user's first script: no `if __name__ == "__main__"`, and nothing but petseg and Keras."""

import sys

import petseg

raw, work = sys.argv[1:]
manifest = petseg.convert(raw, f"{work}/records", validation_fraction=0.25)
train, validation = petseg.load_dataset(f"{work}/records", image_size=64, batch_size=4)
model = petseg.build_model(num_classes=3, weights="none", image_size=64, encoder_width=4)
import keras

model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True, ignore_class=255))
fitted = model.fit(train, validation_data=validation, epochs=2, verbose=0)
config = petseg.load_recipe("quickstart", f"{work}/records")
config.data.image_size, config.data.label_map, config.train.epochs = 64, "", 2.0
run = petseg.train(config, f"{work}/run")
image = next(iter(validation))[0][0].numpy()[:50]
print("shards", sum(len(split.shards) for split in manifest.splits.values()))
print("fitted", len(fitted.history["val_loss"]))
print("history", [figures["step"] for figures in run.history], *run.class_names)
print("evaluated", run.evaluate("validation")["mean_iou"] == run.history[-1]["mean_iou"])
print("predicted", run.predict(image).shape, run.predict(image, probabilities=True).shape)
print("exported", run.export(f"{work}/model")["agreement"])
print("loaded", (petseg.load_run(f"{work}/run").predict(image) == run.predict(image)).all())
