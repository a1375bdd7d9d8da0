"""From the logits of views to scores."""

import numpy as np

from service.sparsity.rules import probabilities_of


def test_probabilities_are_averaged_not_logits() -> None:
    logits = np.array([[10.0, 0.0], [0.0, 1.0]], np.float32)
    each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities_of(logits), each.mean(axis=0), rtol=1e-6)
    huge = np.array([[1e30, -1e30]], np.float32)
    np.testing.assert_array_equal(probabilities_of(huge), [1.0, 0.0])
