"""The graphs of a bundle as torch modules, batch normalisation folded: what `torch.onnx.export` is given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from infoae.category_model import CategoryModel
from infoae.deploy.bundle import GraphSpec, TensorSpec

Role: TypeAlias = Literal["classifier", "decoder", "generator"]
_Module = TypeVar("_Module", bound=nn.Module)


class ClassifierGraph(nn.Module):
    """Images uint8 (B, C, H, W) -> probabilities (B, K), latent (B, Z). Over-categories are merged."""

    merged: Tensor

    def __init__(self, model: CategoryModel) -> None:
        super().__init__()
        self.encoder = fold_batch_norm(model.encoder)
        first = next(layer for layer in self.encoder.modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))
        first.weight.data /= 255  # so that no pass over the images scales them
        self.classifier = fold_batch_norm(model.classifier)
        self.merges = model.merges
        self.register_buffer("merged", F.one_hot(model.category_of, model.num_categories).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities float32 (B, K) and latent float32 (B, Z) of uint8 `images` (B, C, H, W)."""
        z = self.encoder(images.float())
        probabilities = self.classifier(z).softmax(1)
        return probabilities @ self.merged if self.merges else probabilities, z


class FeatureClassifierGraph(nn.Module):
    """Features (B, D) of a frozen encoder -> probabilities (B, K), latent (B, Z): what comes after it in one graph."""

    merged: Tensor

    def __init__(self, model: CategoryModel) -> None:
        super().__init__()
        self.encoder, self.classifier = fold_batch_norm(model.encoder), fold_batch_norm(model.classifier)
        self.merges = model.merges
        self.register_buffer("merged", F.one_hot(model.category_of, model.num_categories).float())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities float32 (B, K) and latent float32 (B, Z) of `features` float32 (B, D)."""
        z = self.encoder(features)
        probabilities = self.classifier(z).softmax(1)
        return probabilities @ self.merged if self.merges else probabilities, z


class DecoderGraph(nn.Module):
    """Latent (B, Z) -> images (B, C, H, W) in [0, 1]."""

    def __init__(self, model: CategoryModel) -> None:
        super().__init__()
        self.model = fold_batch_norm(model)

    def forward(self, latent: Tensor) -> Tensor:
        """Return images float32 (B, C, H, W) in [0, 1] of `latent` float32 (B, Z)."""
        return self.model.decoded(latent)


class GeneratorGraph(nn.Module):
    """Noise (B, U) and category int64 (B,) -> images (B, C, H, W) in [0, 1].

    The first noise value chooses among the category's over-categories, as `CategoryModel.choose_over` does.
    """

    one_hot: Tensor

    def __init__(self, model: CategoryModel) -> None:
        super().__init__()
        self.model = fold_batch_norm(model)
        # A table and not F.one_hot: looking up a category that does not exist fails, comparing with it gives zeros.
        self.register_buffer("one_hot", torch.eye(model.num_over_categories))

    def forward(self, noise: Tensor, category: Tensor) -> Tensor:
        """Return images float32 (B, C, H, W) in [0, 1] of `noise` float32 (B, U) and `category` int64 (B,)."""
        over = self.model.choose_over(category, noise[:, 0])
        return self.model.generated(noise, F.embedding(over, self.one_hot))


def build_graphs(model: CategoryModel) -> dict[Role, nn.Module]:
    """Return the graph of each role, on the CPU, in evaluation mode; `model` is left as it is."""
    kinds: dict[Role, Callable[[CategoryModel], nn.Module]] = {
        "classifier": ClassifierGraph if model.features_dim is None else FeatureClassifierGraph,
        "decoder": DecoderGraph,
        "generator": GeneratorGraph,
    }
    without = missing(model)
    graphs = {role: kind(model).cpu().eval() for role, kind in kinds.items() if role not in without}
    # PyTorch's exporter takes no loop whose weights need gradients.
    return {role: graph.requires_grad_(requires_grad=False) for role, graph in graphs.items()}


def missing(model: CategoryModel) -> dict[Role, str]:
    """Return which graphs a model does not have, and why."""
    reasons: dict[Role, str | None] = {"decoder": model.no_decoder, "generator": model.no_generator}
    return {role: reason for role, reason in reasons.items() if reason is not None}


def describe(model: CategoryModel) -> dict[Role, GraphSpec]:
    """Return what goes in and out of each graph: names, types and shapes, `batch` where it varies."""
    images = ("batch", *model.image_shape)
    seen = TensorSpec(dtype="uint8", shape=("batch", *model.seen_shape))
    latent = TensorSpec(dtype="float32", shape=("batch", model.latent_dim))
    probabilities = TensorSpec(dtype="float32", shape=("batch", model.num_categories))
    noise = TensorSpec(dtype="float32", shape=("batch", model.noise_dim))
    decoded = {"images": TensorSpec(dtype="float32", shape=images)}
    return {
        "classifier": GraphSpec(
            file="classifier.onnx",
            inputs={"images": seen},
            outputs={"probabilities": probabilities, "latent": latent},
        ),
        "decoder": GraphSpec(file="decoder.onnx", inputs={"latent": latent}, outputs=decoded),
        "generator": GraphSpec(
            file="generator.onnx",
            inputs={"noise": noise, "category": TensorSpec(dtype="int64", shape=("batch",))},
            outputs=decoded,
        ),
    }


def fold_batch_norm(module: _Module) -> _Module:
    """Return a copy of `module` in which each layer has taken in the batch normalisation that follows it."""
    module = copy.deepcopy(module).eval()
    for layers in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for (name, layer), (after_name, after) in pairwise(list(layers.named_children())):
            if isinstance(after, nn.BatchNorm2d) and isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                transpose = isinstance(layer, nn.ConvTranspose2d)
                setattr(layers, name, fuse_conv_bn_eval(layer, after, transpose))
                setattr(layers, after_name, nn.Identity())
            elif isinstance(after, nn.BatchNorm1d) and isinstance(layer, nn.Linear):
                setattr(layers, name, fuse_linear_bn_eval(layer, after))
                setattr(layers, after_name, nn.Identity())
    return module
