"""A head's model: the sum of a text's buckets' weights, by rarity, damped by the text's length.

Logistic regression over buckets weighted by inverse document frequency. Divided by its whole length (power 1/2 of the
squares), a sentence of abuse vanishes in a window of other text; by a root of it less so. Both weights fold into one
number a bucket, so that serving adds up one table row a bucket:
    logit = sum(w * idf) / sum(idf ** 2) ** power + bias.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float32]
_LEAST = 2
"""Texts that a bucket must occur in; what occurs in fewer cannot be told from chance."""


class Linear(NamedTuple):
    """`table` (buckets, 2): by bucket its folded weight and its squared idf."""

    table: Floats
    bias: float
    power: float

    def logits(self, buckets: sparse.csr_matrix) -> Floats:
        """By text. A text of unknown buckets only gets the bias."""
        sums = np.asarray(buckets @ self.table, np.float32)
        return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], np.float32(1)) ** self.power + self.bias, np.float32)


def idf(buckets: sparse.csr_matrix, rows: npt.NDArray[np.int64]) -> Floats:
    """Smoothed inverse document frequency; a document is a row, not each of its windows.

    Zero for a bucket of fewer than two rows, and for bucket 0, which pads.
    """
    of_row = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (np.unique(rows, return_inverse=True)[1], np.arange(len(rows))))
    )
    times = np.asarray(((of_row @ buckets) > 0).sum(axis=0)).ravel()
    rarity = np.log((1 + of_row.shape[0]) / (1 + times)) + 1
    rarity[(times < _LEAST) | (np.arange(len(times)) == 0)] = 0
    return np.asarray(rarity, np.float32)


def weighted(buckets: sparse.csr_matrix, rarity: Floats, power: float) -> sparse.csr_matrix:
    """Buckets weighted by rarity, each text damped by its length; see above for `power`."""
    scaled = buckets @ sparse.diags(rarity)
    lengths = np.maximum(buckets @ (rarity**2), 1) ** power
    return sparse.csr_matrix(sparse.diags((1 / lengths).astype(np.float32)) @ scaled)


def fit(
    texts: sparse.csr_matrix,
    labels: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    strength: float,
    seed: int,
) -> tuple[Floats, float]:
    """Weights and bias, from `weighted` texts; `strength` is the inverse of the regularisation.

    Both labels count the same in all, however rare one is. The primal is solved by Newton steps in a trust region
    (Lin et al. 2008, JMLR 9): the dual, coordinate by coordinate, does not converge where regularisation is weak.
    """
    balanced = weights.copy()
    for label in (False, True):
        balanced[labels == label] *= len(labels) / 2 / balanced[labels == label].sum()
    model = LogisticRegression(C=strength, solver="liblinear", tol=0.01, max_iter=1000, random_state=seed)
    model.fit(texts.astype(np.float64), labels, sample_weight=balanced)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])
