"""Networks of PyTorch, by `torch.onnx.export`. Both sides compute in `float`; sums of products are taken in another order."""

import tempfile
from pathlib import Path

import case
import numpy as np
import onnx
import torch
from torch import nn


class Numbers(nn.Module):
    """Scaled numbers through two layers with batch normalisation, to one probability."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)
        self.layers = nn.Sequential(
            nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 8), nn.LeakyReLU(0.1), nn.Linear(8, 1), nn.Sigmoid()
        )

    def forward(self, x):
        return self.layers(torch.clamp((x - self.mean) / self.std, -5.0, 5.0))


class Mixed(nn.Module):
    """Numbers, and codes of a plan by an embedding, to the probabilities of three classes."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)
        self.plan = nn.Embedding(len(case.PLANS), 3)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3), nn.Softmax(dim=-1))

    def forward(self, x, plan):
        scaled = torch.clamp((x - self.mean) / self.std, -5.0, 5.0)
        return self.layers(torch.cat([scaled, self.plan(plan).flatten(1)], dim=1))


def fit(model, inputs, loss):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        loss(model(*inputs)).backward()
        optimizer.step()
    return model.eval()


def exported(model, inputs, names):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        shapes = tuple({0: torch.export.Dim("rows")} for _ in inputs)
        ways = {"dynamic_shapes": shapes, "dynamo": True, "external_data": False, "verbose": False}
        torch.onnx.export(model, inputs, path, input_names=names, output_names=["score"], **ways)
        return without_notes(onnx.load(path)).SerializeToString()


def without_notes(model):
    """Without the lines of source code, with their paths, that the exporter notes at every node."""
    for part in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def make(out):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    train, rows = case.people(3000, 5), case.asked()
    x = torch.tensor(train[case.NUMBERS].values, dtype=torch.float32)
    asked = torch.tensor(rows[case.NUMBERS].values, dtype=torch.float32)
    mean, std = x.mean(0), x.std(0)
    two = torch.tensor((case.labels(train) == "stays").astype(np.float32))[:, None]
    model = fit(Numbers(mean, std), (x,), lambda p: nn.functional.binary_cross_entropy(p, two))
    with torch.no_grad():
        expected = model(asked).numpy()
    about = {"packages": ["torch", "onnx", "onnxscript"]}
    content = exported(model, (asked[:8],), ["x"])
    case.write(out / "torch_network", "PyTorch", "onnx", ("model.onnx", content), rows[case.NUMBERS], expected, task="regression", tolerance=1e-5, **about)

    def codes(table):
        return torch.tensor(table["plan"].map({p: i for i, p in enumerate(case.PLANS)}).to_numpy(np.int64))[:, None]

    three = torch.tensor(np.searchsorted(sorted(set(case.levels(train))), case.levels(train)))
    model = fit(Mixed(mean, std), (x, codes(train)), lambda p: nn.functional.nll_loss(torch.log(p + 1e-9), three))
    with torch.no_grad():
        expected = model(asked, codes(rows)).numpy()
    content = exported(model, (asked[:8], codes(rows)[:8]), ["x", "plan"])
    given = rows[case.NUMBERS].assign(plan=codes(rows).numpy()[:, 0].astype(float))
    classes = ["0", "1", "2"]
    case.write(out / "torch_embedding", "PyTorch", "onnx", ("model.onnx", content), given, expected, task="multiclass", classes=classes, tolerance=1e-5, **about)
