"""scikit-learn's digits: a task of pictures on every machine.

1,797 handwritten digits of 8 x 8 pixels and 17 shades (Alpaydin and Kaynak 1998, Optical Recognition of Handwritten
Digits, UCI Machine Learning Repository, test part), which come with scikit-learn's wheel.
"""

from __future__ import annotations

import numpy as np
import PIL.Image
from datasets import ClassLabel, Dataset, Features, Image
from sklearn.datasets import load_digits

SHADES = 16  # of ink, from 0


def digits() -> Dataset:
    """Columns ``image`` (8 x 8, grey, 0 is paper) and ``label`` (0 to 9), in scikit-learn's order."""
    bunch = load_digits()
    grey = np.rint(bunch.images * 255 / SHADES).astype(np.uint8)
    features = Features({"image": Image(), "label": ClassLabel(names=[str(name) for name in bunch.target_names])})
    columns = {"image": [PIL.Image.fromarray(pixels) for pixels in grey], "label": bunch.target.tolist()}
    return Dataset.from_dict(columns, features=features)
