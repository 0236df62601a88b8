# %% [markdown]
# # Train, look, export
#
# From labelled images to a file that runs without PyTorch, in Python. The images are drawn by the program; put
# the path of your labels in their place.

# %%
from pathlib import Path

import solobox
from solobox import synthetic

folder = Path("notebook")
data = synthetic.write(folder / "images", 60, seed=1, size=(160, 120))
data[0].box  # x1, y1, x2, y2 in pixels of the upright image

# %% [markdown]
# `Dataset.read("labels.csv")` reads CSV, COCO, Pascal VOC, YOLO and many more. What is wrong with labels, row by row:

# %%
diagnosis = solobox.check(data)
print(diagnosis)

# %% [markdown]
# ## Train
#
# Small images and few epochs, so that it takes seconds here. Leave these options out for a model that you mean to use.

# %%
model = solobox.train(data, folder / "run", size=96, crops=2, epochs=4)

# %% [markdown]
# ## Look
#
# The test split was left out of training. Its worst images tell more than its mean.

# %%
evaluation = solobox.evaluate(model, data)
print(f"mean IoU {evaluation.metrics.mean_iou:.3f} of {len(evaluation.iou)} images")

# %%
worst = int(evaluation.iou.argmin())
sample = evaluation.dataset[worst]
solobox.draw(sample.image, evaluation.predictions[worst], true_box=sample.box)

# %% [markdown]
# All of them, with charts, on one page:

# %%
solobox.write_report(folder / "report.html", evaluation, title="My first model", run=None)

# %% [markdown]
# ## Predict
#
# A path, bytes, a PIL image, an array or a tensor; of a list, a list. In a notebook a prediction shows itself.

# %%
prediction = model.predict(data.paths[0])
print(prediction.box, prediction.familiarity)

# %% [markdown]
# ## Export
#
# One ONNX file, from raw pixels of any size to a box in pixels. It is compared with the model before it is written.

# %%
model.export(folder / "model.onnx")
again = solobox.load(folder / "model.onnx").predict(data.paths[0])
print(abs(again.box - prediction.box).max(), "pixels apart")
assert abs(again.box - prediction.box).max() < 0.5
