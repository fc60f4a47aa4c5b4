"""The three graphs of a bundle as torch modules, batch normalisation folded: what `torch.onnx.export` is given."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from infoae.deploy.bundle import GraphSpec, TensorSpec
from infoae.model import InfoAE

Role: TypeAlias = Literal["classifier", "decoder", "generator"]


class ClassifierGraph(nn.Module):
    """Images uint8 (B, C, H, W) -> probabilities (B, K), latent (B, Z). Over-categories are merged."""

    merged: Tensor

    def __init__(self, model: InfoAE) -> None:
        super().__init__()
        self.encoder = fold_batch_norm(model.encoder)
        first = self.encoder.get_parameter("features.0.weight")
        first.data /= 255  # so that no pass over the images scales them
        self.classifier = fold_batch_norm(model.classifier)
        self.over = model.num_over_categories > model.num_categories
        self.register_buffer("merged", F.one_hot(model.category_of, model.num_categories).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities float32 (B, K) and latent float32 (B, Z) of uint8 `images` (B, C, H, W)."""
        z = self.encoder(images.float())
        probabilities = self.classifier(z).softmax(1)
        return probabilities @ self.merged if self.over else probabilities, z


class DecoderGraph(nn.Module):
    """Latent (B, Z) -> images (B, C, H, W) in [0, 1]."""

    def __init__(self, model: InfoAE) -> None:
        super().__init__()
        self.decoder = fold_batch_norm(model.decoder)

    def forward(self, latent: Tensor) -> Tensor:
        """Return images float32 (B, C, H, W) in [0, 1] of `latent` float32 (B, Z)."""
        return torch.sigmoid(self.decoder(latent))


class GeneratorGraph(nn.Module):
    """Noise (B, U) and category int64 (B,) -> images (B, C, H, W) in [0, 1].

    The first noise value chooses among the category's over-categories, as `InfoAE.choose_over` does.
    """

    one_hot: Tensor
    chosen_up_to: Tensor

    def __init__(self, model: InfoAE) -> None:
        super().__init__()
        self.generator = fold_batch_norm(model.generator)
        self.decoder = fold_batch_norm(model.decoder)
        # A table and not F.one_hot: looking up a category that does not exist fails, comparing with it gives zeros.
        self.register_buffer("one_hot", torch.eye(model.num_over_categories))
        self.register_buffer("chosen_up_to", model.chosen_up_to.clone())
        self.over = model.num_over_categories > model.num_categories

    def forward(self, noise: Tensor, category: Tensor) -> Tensor:
        """Return images float32 (B, C, H, W) in [0, 1] of `noise` float32 (B, U) and `category` int64 (B,)."""
        if self.over:
            category = (F.embedding(category, self.chosen_up_to) >= noise[:, :1]).int().argmax(1)
        z_gen = self.generator(noise, F.embedding(category, self.one_hot))
        return torch.sigmoid(self.decoder(z_gen))


def build_graphs(model: InfoAE) -> dict[Role, nn.Module]:
    """Return the graph of each role, on the CPU, in evaluation mode; `model` is left as it is."""
    graphs: dict[Role, nn.Module] = {
        "classifier": ClassifierGraph(model),
        "decoder": DecoderGraph(model),
        "generator": GeneratorGraph(model),
    }
    return {role: graph.cpu().eval() for role, graph in graphs.items()}


def describe(model: InfoAE) -> dict[Role, GraphSpec]:
    """Return what goes in and out of each graph: names, types and shapes, `batch` where it varies."""
    images = ("batch", *model.image_shape)
    latent = TensorSpec(dtype="float32", shape=("batch", model.latent_dim))
    probabilities = TensorSpec(dtype="float32", shape=("batch", model.num_categories))
    noise = TensorSpec(dtype="float32", shape=("batch", model.noise_dim))
    decoded = {"images": TensorSpec(dtype="float32", shape=images)}
    return {
        "classifier": GraphSpec(
            file="classifier.onnx",
            inputs={"images": TensorSpec(dtype="uint8", shape=images)},
            outputs={"probabilities": probabilities, "latent": latent},
        ),
        "decoder": GraphSpec(file="decoder.onnx", inputs={"latent": latent}, outputs=decoded),
        "generator": GraphSpec(
            file="generator.onnx",
            inputs={"noise": noise, "category": TensorSpec(dtype="int64", shape=("batch",))},
            outputs=decoded,
        ),
    }


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Return a copy of `module` in which each convolution has taken in the batch normalisation that follows it."""
    module = copy.deepcopy(module).eval()
    for layers in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for (name, layer), (after_name, after) in pairwise(list(layers.named_children())):
            if isinstance(after, nn.BatchNorm2d) and isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                transpose = isinstance(layer, nn.ConvTranspose2d)
                setattr(layers, name, fuse_conv_bn_eval(layer, after, transpose))
                setattr(layers, after_name, nn.Identity())
    return module
