"""The CTC-CRF loss against every path written out."""

import itertools
import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.training.batches import Batch
from models.training.crf import EDGE, PhoneModel, crf_loss, summed_normaliser
from models.training.validation import collapse
from ops import training
from ops.library import available_instruction_sets
from ops.training import TrainingError

SEQUENCES = [(1, 2, 3), (2, 2), (3, 1, 1, 2), (1,)]


@pytest.fixture(params=[*available_instruction_sets(), "torch"])
def how(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(training, "available", lambda: False)
    else:
        monkeypatch.setenv("DEEPTHIN_OPS_ISA", request.param)


@pytest.fixture
def model():
    return PhoneModel.estimate(SEQUENCES, 4)


def random_log_probs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).mul(1.5).log_softmax(-1)


def all_paths(log_probs, model):
    """Log of the weight of all paths of one utterance [frames, units], in double precision."""
    total = torch.zeros((), dtype=torch.float64)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        phones = math.exp(model.log_probability(collapse(path)))
        total = total + phones * log_probs.double()[range(len(path)), list(path)].sum().exp()
    return total.log()


def batch(sequences, lengths):
    return Batch(
        features=torch.empty(0),
        lengths=torch.tensor(lengths),
        phones=torch.tensor([p for sequence in sequences for p in sequence], dtype=torch.long),
        phone_lengths=torch.tensor([len(sequence) for sequence in sequences]),
        labels=torch.empty(0),
        soft=None,
    )


def test_the_phone_model_is_a_distribution_that_has_seen_its_text(model):
    torch.testing.assert_close(model.probabilities.sum(-1), torch.ones(4, 4))
    assert model.probabilities.min() > 0
    assert model.probabilities[1, 2, 3] > model.probabilities[1, 2, 1]
    assert model.probabilities[EDGE, EDGE, 1] > model.probabilities[EDGE, EDGE, 3]


@pytest.mark.usefixtures("how")
def test_the_normaliser_is_the_sum_over_all_paths(model):
    lengths = [5, 1, 3]
    log_probs = random_log_probs(3, 5, 4).requires_grad_()
    expected = sum(all_paths(log_probs[i, :n], model) for i, n in enumerate(lengths))
    (wanted,) = torch.autograd.grad(expected, log_probs)
    result = summed_normaliser(log_probs, torch.tensor(lengths), model)
    (gradient,) = torch.autograd.grad(2 * result, log_probs)
    assert result.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, 2 * wanted, rtol=1e-4, atol=1e-6)
    assert not gradient[1, 1:].any(), "frames after the end have no gradient"


@pytest.mark.usefixtures("how")
def test_long_utterances_stay_in_range(model):
    log_probs = (20 * random_log_probs(2, 700, 4, seed=3)).log_softmax(-1).requires_grad_()
    result = summed_normaliser(log_probs, torch.tensor([700, 650]), model)
    (gradient,) = torch.autograd.grad(result, log_probs)
    assert math.isfinite(result.item())
    torch.testing.assert_close(gradient[0].sum(-1), torch.ones(700))
    torch.testing.assert_close(gradient[1].sum(-1), torch.cat([torch.ones(650), torch.zeros(50)]))


def test_the_loss_is_minus_the_log_of_the_sequence_s_share(model):
    log_probs = random_log_probs(1, 4, 4, seed=1)
    shares = []
    for length in range(5):
        for sequence in itertools.product((1, 2, 3), repeat=length):
            if length and length + sum(a == b for a, b in itertools.pairwise(sequence)) <= 4:
                shares.append(math.exp(-crf_loss(log_probs, batch([sequence], [4]), model).item() * length))
    nothing = math.exp(model.log_probability(()) + log_probs[0, :, EDGE].sum().item())
    shares.append(nothing / math.exp(summed_normaliser(log_probs, torch.tensor([4]), model).item()))
    assert sum(shares) == pytest.approx(1, rel=1e-4)
    assert max(shares) < 1


def test_what_is_unknown_or_does_not_fit_costs_nothing(model):
    log_probs = random_log_probs(3, 4, 4, seed=2)
    some = crf_loss(log_probs, batch([(), (1, 1, 2, 2), (1, 2)], [4, 4, 3]), model)
    alone = crf_loss(log_probs[2:], batch([(1, 2)], [3]), model)
    assert some.item() == pytest.approx(alone.item(), rel=1e-5)
    assert crf_loss(log_probs[:2], batch([(), (1, 1, 2, 2)], [4, 4]), model).item() == 0


def test_library_and_torch_agree_on_forty_units(monkeypatch):
    torch.manual_seed(4)
    model = PhoneModel.estimate([torch.randint(1, 40, (30,)).tolist() for _ in range(50)], 40)
    log_probs, lengths = random_log_probs(3, 90, 40, seed=4).requires_grad_(), torch.tensor([90, 1, 55])
    compiled = summed_normaliser(log_probs, lengths, model)
    (shares,) = torch.autograd.grad(compiled, log_probs)
    monkeypatch.setattr(training, "available", lambda: False)
    reference = summed_normaliser(log_probs, lengths, model)
    (wanted,) = torch.autograd.grad(reference, log_probs)
    assert compiled.item() == pytest.approx(reference.item(), rel=1e-6)
    torch.testing.assert_close(shares, wanted, rtol=1e-3, atol=1e-6)


def test_lengths_are_checked(model):
    with pytest.raises(TrainingError, match="length"):
        summed_normaliser(random_log_probs(1, 4, 4), torch.tensor([5]), model)
