"""The GRU recurrence against PyTorch's own."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.families.deepspeech import Gru


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 7)])
def test_outputs_and_gradients_equal_those_of_torch(batch, steps):
    torch.manual_seed(0)
    ours = Gru(5, 4).double()
    reference = torch.nn.GRU(5, 4, batch_first=True).double()
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    with torch.no_grad():
        for name in names:
            getattr(ours, name).normal_()
            getattr(reference, f"{name}_l0").copy_(getattr(ours, name))
    x = torch.randn(batch, steps, 5, dtype=torch.double, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    expected, _ = reference(y)
    output = ours(x)
    torch.testing.assert_close(output, expected)
    pull = torch.randn_like(output)
    (output * pull).sum().backward()
    (expected * pull).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for name in names:
        torch.testing.assert_close(getattr(ours, name).grad, getattr(reference, f"{name}_l0").grad)
