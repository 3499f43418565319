"""The CTC loss and its gradient against the definition; `tests/training/test_ctc.py` has PyTorch's."""

import numpy as np
import pytest

from ops.training import TrainingError
from tests.ops.layers import ctc, ctc_reference, utterances


def compare(log_probs, lengths, sequences):
    losses, gradient = ctc(log_probs, lengths, sequences)
    expected, expected_gradient = ctc_reference(log_probs, lengths, sequences)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=3e-5)
    return losses


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("scale", [0.1, 1, 5])
def test_loss_and_gradient_are_those_of_the_definition(scale):
    lengths = [1, 2, 9, 31, 60]
    log_probs, sequences = utterances(lengths, [1, 1, 4, 12, 20], 7, scale)
    assert (compare(log_probs, lengths, sequences) > 0).all()


@pytest.mark.usefixtures("isa")
def test_repeats_need_a_blank_between_them():
    log_probs, _ = utterances([5, 3, 2], [0, 0, 0], 4)
    losses = compare(log_probs, [5, 3, 2], [[2, 2, 3], [1, 1], [1, 1]])
    assert (losses[:2] > 0).all()
    assert losses[2] == 0


def test_no_labels_means_blanks_alone():
    log_probs, _ = utterances([5, 5], [0, 0], 3)
    losses = compare(log_probs, [5, 3], [[], [1]])
    assert losses[0] == pytest.approx(-log_probs[0, :, 0].sum(), rel=1e-5)


@pytest.mark.parametrize("label", [-1, 0, 3])
def test_labels_are_checked(label):
    log_probs, _ = utterances([5], [0], 3)
    with pytest.raises(TrainingError):
        ctc(log_probs, [5], [[label]])
