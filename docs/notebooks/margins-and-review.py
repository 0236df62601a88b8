# %% [markdown]
# # Margins, and a review of labels
#
# How wrong may a box be? And which of the labels are?

# %%
from pathlib import Path

import numpy as np

import solobox
from solobox import synthetic

folder = Path("notebook")
data = synthetic.write(folder / "images", 90, seed=2, size=(160, 120))
model = solobox.train(data, folder / "run", size=96, crops=2, epochs=4, val=0.25)

# %% [markdown]
# ## Margins
#
# `lower` and `upper` bound each of the four edges. All four true edges lie between them with the probability that
# you ask for.

# %%
test = data.with_splits(val=0.25).of_split("test")
predictions = model.predict(list(test.paths), margins=0.8)
first = predictions[0]
print("box  ", first.box.round())
print("lower", first.lower.round())
print("upper", first.upper.round())

# %% [markdown]
# Does it hold? On so few images only roughly: the interval of the measured coverage is wide.

# %%
truth = np.stack([sample.box for sample in test])
lower = np.stack([each.lower for each in predictions])
upper = np.stack([each.upper for each in predictions])
covered = ((lower <= truth) & (truth <= upper)).all(axis=1)
print(f"{covered.sum()} of {len(covered)} images have all four edges within their margins")

# %% [markdown]
# A higher level costs width:

# %%
for level in (0.5, 0.8, 0.9):
    widths = [(each.upper - each.lower).mean() for each in model.predict(list(test.paths), margins=level)]
    print(f"{level}: {np.mean(widths):.0f} pixels wide")

# %% [markdown]
# The outer box holds the whole object: for cropping.

# %%
outer = model.predict(test.paths[0], outer=0.8).outer
print(outer.round())

# %% [markdown]
# ## Review of labels
#
# Spoil three labels, then look for them. The audit predicts each image by a model that did not learn from its label.

# %%
boxes = np.stack([sample.box for sample in data])
spoiled = [5, 21, 40]
boxes[spoiled] = [0, 0, 30, 30]
labels = solobox.Dataset.from_arrays(data.paths, boxes)
recipe = solobox.Recipe.from_preset("quick", {"size": 96, "crops": 2, "epochs": 4})
audit = solobox.audit(labels, recipe, folds=3)

# %%
for finding in audit.findings[:6]:
    print(finding.row, finding.kind, finding.why)

# %% [markdown]
# The worst first. Look at each before you believe it: a flagged label may be right. For many labels there is a
# page with keys: `solobox audit labels.csv --report audit.html`.

# %%
found = {finding.row for finding in audit.findings[:6]}
print("found", len(found & set(spoiled)), "of", len(spoiled))
