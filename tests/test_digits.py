import numpy as np
import pytest
from sklearn.datasets import load_digits

from subliminal_jax.data import digits
from subliminal_jax.data.digits import read_digits
from subliminal_jax.errors import InputError


def rows(images, labels):
    return sorted(
        (image.astype(np.uint8).tobytes(), int(label))
        for image, label in zip(images, labels, strict=True)
    )


def test_the_split_is_a_partition_stratified_by_label():
    parts, whole = read_digits(), load_digits()
    assert parts["train_images"].shape == (1437, 8, 8)
    assert parts["test_images"].shape == (360, 8, 8)
    assert parts["train_images"].dtype == parts["test_labels"].dtype == np.uint8
    train = rows(parts["train_images"], parts["train_labels"])
    test = rows(parts["test_images"], parts["test_labels"])
    assert sorted(train + test) == rows(whole.images, whole.target)
    expected = np.bincount(whole.target) * 360 / 1797
    assert np.all(np.abs(np.bincount(parts["test_labels"]) - expected) < 1)


@pytest.mark.parametrize("change", ["content", "split"])
def test_other_content_or_another_split_is_refused(monkeypatch, change):
    if change == "split":
        monkeypatch.setattr(digits, "_SPLIT_SEED", 1)
    else:
        pixels, labels = load_digits(return_X_y=True)
        pixels[0, 0] += 1
        monkeypatch.setattr("sklearn.datasets.load_digits", lambda return_X_y: (pixels, labels))
    with pytest.raises(InputError, match=r"scikit-learn's digits .* is not the published content"):
        read_digits()
