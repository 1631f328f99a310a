"""scikit-learn's handwritten digits, and a small convolutional network to read them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.learned_quantization.quantizers import quantize_weights

Split = tuple[Tensor, Tensor]


def digits() -> tuple[Split, Split]:
    """Images of 8x8 and their labels, three quarters to train with and a quarter to test on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(images).float().reshape(-1, 1, 8, 8)[order] / 16
    y = torch.from_numpy(labels)[order]
    cut = len(y) * 3 // 4
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


def network() -> nn.Module:
    """Two convolutions and a linear layer: 7,600 weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 16, 24),
        nn.ReLU(),
        nn.Linear(24, 10),
    )


def train(model: nn.Module, data: Split, epochs: int, rate: float) -> nn.Module:
    """Adam, batches of 64, the rate falling to 0 along a cosine."""
    x, y = data
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for batch in torch.randperm(len(y), generator=generator).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def accuracy(model: nn.Module, data: Split) -> float:
    """The share of right answers."""
    x, y = data
    return (model(x).argmax(1) == y).float().mean().item()


def compare(formats: tuple[str, ...], epochs: int) -> dict[tuple[str, str], float]:
    """Accuracies on the test digits by (method, format), every run from one trained float model."""
    training, test = digits()
    trained = train(network(), training, epochs, 1e-2)
    found = {("float", "float32"): accuracy(trained, test)}
    for format in formats:
        for method in ("straight-through", "learned"):
            model = copy.deepcopy(trained)
            quantize_weights(model, method, format)
            found.setdefault(("only rounded", format), accuracy(model, test))
            train(model, training, epochs, 1e-2)
            found[method, format] = accuracy(model, test)
    return found
