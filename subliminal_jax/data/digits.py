"""The digits that come with scikit-learn: 1,797 images of 8x8 pixels, no download.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998 (its test set), CC BY 4.0.
"""

import numpy as np

from subliminal_jax.data.image_parts import PART_NAMES, Parts, check_digests

TEST_IMAGES = 360
_SPLIT_SEED = 0

# They pin content and split: a new scikit-learn must not change either unnoticed.
EXPECTED_SHA256 = {
    "train_images": "94980b513d983ee1cb560f6c170bc91a117a08ca240f4e1a0bcdd3d653afc399",
    "train_labels": "d1dd98b2b42041d998c5838b99fce77d3151615d464a99bcdd1930a2e9efc360",
    "test_images": "03427fdb4e4b7c2b7c54677bb7e634b2a874b1f92a7271c8782110333a594813",
    "test_labels": "0001787526e86554f99b0c74856f5e466a7cb5d1b270a80ee5176aadc3a08157",
}


def read_digits() -> Parts:
    """The digits in a fixed split, stratified by label: 1,437 to train and 360 to test.

    Returns:
        Images uint8 [1437, 8, 8] and [360, 8, 8] with values 0 to 16, labels uint8 [1437] and
        [360].

    Raises:
        InputError: The installed scikit-learn gives other content or another split.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, digits = load_digits(return_X_y=True)
    labels = np.array(digits, np.uint8)
    train_images, test_images, train_labels, test_labels = train_test_split(
        np.array(pixels, np.uint8).reshape(-1, 8, 8),
        labels,
        test_size=TEST_IMAGES,
        stratify=labels,
        random_state=_SPLIT_SEED,
    )
    parts = {
        "train_images": train_images,
        "train_labels": train_labels,
        "test_images": test_images,
        "test_labels": test_labels,
    }
    places = {name: f"scikit-learn's digits ({name})" for name in PART_NAMES}
    check_digests(parts, EXPECTED_SHA256, places, remedy="install scikit-learn 1.5 to 1.9")
    return parts
