"""The CTC loss against PyTorch's in double precision."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.training import ctc
from models.training.ctc import summed_ctc
from ops import training
from ops.library import available_instruction_sets
from ops.training import TrainingError


@pytest.fixture(params=available_instruction_sets())
def isa(request, monkeypatch):
    monkeypatch.setenv("DEEPTHIN_OPS_ISA", request.param)


def batch(sequences, lengths, units, scale, seed=0):
    torch.manual_seed(seed)
    logits = torch.randn(len(lengths), max(lengths), units, dtype=torch.float64) * scale
    phones = torch.tensor([p for sequence in sequences for p in sequence], dtype=torch.long)
    return logits, torch.tensor(lengths), phones, torch.tensor([len(s) for s in sequences])


def compare(logits, lengths, phones, phone_lengths, atol=3e-5):
    exact = logits.clone().requires_grad_()
    expected = torch.nn.functional.ctc_loss(
        exact.log_softmax(-1).transpose(0, 1), phones, lengths, phone_lengths, reduction="sum", zero_infinity=True
    )
    (3 * expected).backward()
    single = logits.float().requires_grad_()
    loss = summed_ctc(single.log_softmax(-1), lengths, phones, phone_lengths)
    (3 * loss).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(single.grad, exact.grad.float(), rtol=0, atol=atol)
    return loss.item()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("scale", [0.1, 1, 10])
def test_loss_and_gradient_are_those_of_the_definition(scale):
    torch.manual_seed(1)
    lengths = [1, 2, 9, 40, 200]
    sequences = [torch.randint(1, 7, (n,)).tolist() for n in (1, 1, 4, 17, 60)]
    assert compare(*batch(sequences, lengths, 7, scale)) > 0


@pytest.mark.usefixtures("isa")
def test_repeats_need_a_blank_between_them():
    compare(*batch([[2, 2, 2, 3], [1, 1]], [7, 12], 4, 1))


@pytest.mark.usefixtures("isa")
def test_what_does_not_fit_costs_nothing():
    assert compare(*batch([[2, 2], [1, 2, 3, 4]], [2, 3], 5, 1)) == 0
    assert compare(*batch([[2, 2], [1, 2]], [2, 3], 5, 1)) > 0


def test_a_path_through_very_unlikely_states_is_found():
    """Nearly certain blanks everywhere: the labels lie far below what a product of probabilities can hold."""
    logits, lengths, phones, phone_lengths = batch([[1 + i % 5 for i in range(150)]], [400], 6, 0.5)
    logits[..., 0] += 30
    # States thousands of nats below the best one have but the precision of numbers that large.
    assert compare(logits, lengths, phones, phone_lengths, atol=1e-3) > 3000


def test_no_labels_means_blanks_alone():
    compare(*batch([[], [1]], [5, 5], 3, 1))


def test_not_a_number_is_not_hidden():
    log_probs = torch.zeros(1, 5, 3).log_softmax(-1)
    log_probs[0, 2] = float("nan")
    loss = summed_ctc(log_probs, torch.tensor([5]), torch.tensor([1]), torch.tensor([1]))
    assert torch.isnan(loss)


@pytest.mark.parametrize(("lengths", "phones"), [([6], [1]), ([5], [3]), ([5], [0]), ([-1], [1])])
def test_lengths_and_labels_are_checked(lengths, phones):
    log_probs = torch.zeros(1, 5, 3).log_softmax(-1)
    with pytest.raises(TrainingError):
        summed_ctc(log_probs, torch.tensor(lengths), torch.tensor(phones), torch.tensor([len(phones)]))


def test_without_the_library_it_is_pytorchs(monkeypatch):
    arguments = batch([[1, 2], [2]], [9, 4], 4, 1)
    expected = compare(*arguments)
    monkeypatch.setattr(training, "available", lambda: False)
    monkeypatch.setattr(ctc, "_Ctc", None)
    assert compare(*arguments) == pytest.approx(expected, rel=1e-5)
