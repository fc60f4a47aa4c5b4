"""Networks of torchvision as frozen encoders: without their classifying layer, exported once to ONNX and kept.

The one module of this folder that needs PyTorch. What it writes is read as any other ONNX file.
"""

from __future__ import annotations

import difflib
import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from infoae.config.features import TORCHVISION, Features
from infoae.errors import InfoAEError, UsageError, one_line
from infoae.features.encoder import path_of
from infoae.features.preprocessing import METADATA_KEY
from infoae.files import atomic_file

OPSET = 20


def prepare(config: Features) -> None:
    """Make the ONNX file of torchvision:NAME, if that is the encoder and it is not there yet.

    Weights are downloaded only with `config.download`. Raises UsageError for a name that torchvision does not have,
    and where its weights are not on this machine.
    """
    name = config.of_torchvision
    if name is None or (path := path_of(f"{TORCHVISION}{name}")).exists():
        return
    from torchvision import models

    if name not in models.list_models():
        near = difflib.get_close_matches(name, models.list_models(), n=3, cutoff=0.3)
        raise UsageError(f"torchvision has no network {name!r}; near are {', '.join(near or models.list_models()[:3])}")
    weights = models.get_model_weights(name).DEFAULT
    there = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not there.exists() and not config.download:
        raise UsageError(
            f"the weights of {TORCHVISION}{name} are not on this machine ({there}): --download fetches them"
        )
    try:
        network = models.get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise InfoAEError(f"the weights of {TORCHVISION}{name} cannot be had: {one_line(error)}") from None
    export(without_head(network, name), path, weights.transforms())


def without_head(network: nn.Module, name: str) -> nn.Module:
    """Return a classifying network whose last linear layer is left out. Raises UsageError if there is none."""
    linear = [each for each, module in network.named_modules() if isinstance(module, nn.Linear)]
    outputs = list(network.children())[-1]
    if not linear or not any(isinstance(module, nn.Linear) for module in outputs.modules()):
        raise UsageError(f"{TORCHVISION}{name} does not end in a linear layer: export its features to an ONNX file")
    network.set_submodule(linear[-1], nn.Identity())
    return network.eval()


def export(network: nn.Module, path: Path, transforms: Any) -> None:
    """Write a network of images (N, 3, H, W) as ONNX to `path`, with what torchvision's `transforms` state."""
    size = int(transforms.crop_size[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own insides
        program = torch.onnx.export(
            network.requires_grad_(requires_grad=False),
            (torch.zeros(2, 3, size, size),),
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: "batch"},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    stated = {"size": size, "mean": list(transforms.mean), "std": list(transforms.std)}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(stated)})
    with atomic_file(path) as file:
        file.write_bytes(model.SerializeToString(deterministic=True))
