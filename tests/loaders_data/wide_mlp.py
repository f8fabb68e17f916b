import torch
import torch.nn as nn


class Model(nn.Module):
    """Linear layers with ReLU between, batch normalisation, and a bias that is drawn."""

    def __init__(self, features, hidden_sizes, classes):
        super().__init__()
        sizes = [features, *hidden_sizes]
        layers = []
        for size, following in zip(sizes, sizes[1:]):  # noqa: B905, RUF007
            layers += [nn.Linear(size, following), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.BatchNorm1d(sizes[-1]), nn.Linear(sizes[-1], classes))
        self.bias = nn.Parameter(torch.randn(classes))

    def forward(self, x):
        return self.network(x) + self.bias


batch_size = 128
features = 2048
hidden_sizes = [4096, 4096]
classes = 1000


def get_inputs():
    return [torch.rand(batch_size, features)]


def get_init_inputs():
    return [features, hidden_sizes, classes]
