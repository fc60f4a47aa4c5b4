"""The losses of InfoAE (paper section 2.4), a pure function each, per sample and unreduced where a sample has one.

Adversarial losses are the non-saturating cross-entropies of Goodfellow et al. (2014), in nats; `softplus(-l)` is the
cross-entropy of the logit `l` against "real", `softplus(l)` against "generated". `docs/method.md` has the mathematics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from infoae import distributed
from infoae.config import ReconstructionDistance


def reconstruction(x_recon_logits: Tensor, x: Tensor, distance: ReconstructionDistance) -> Tensor:
    """R_l: distance of the reconstruction sigmoid(x_recon_logits) from x, both (B, C, H, W); sum over pixels -> (B,).

    The paper does not say which distance (reading): `squared` Euclidean, `absolute`, or `cross-entropy` in nats with
    each pixel as a probability.
    """
    logits = x_recon_logits.float()
    if distance == "cross-entropy":
        pixels = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    elif distance == "squared":
        pixels = (torch.sigmoid(logits) - x).square()
    else:
        pixels = (torch.sigmoid(logits) - x).abs()
    return pixels.flatten(1).sum(1)


def real(logits: Tensor) -> Tensor:
    """Cross-entropy in nats of logits (B,) against "real": De_g, De_r, E_l, and the real half of D_l and S_l."""
    return F.softplus(-logits.float())


def generated(logits: Tensor) -> Tensor:
    """Cross-entropy in nats of logits (B,) against "generated": the other half of D_l and S_l."""
    return F.softplus(logits.float())


def classification(logits: Tensor, c: Tensor) -> Tensor:
    """Cl_g, Cl_e: cross-entropy in nats of category logits (B, K) against the asked category indices c (B,) -> (B,)."""
    return F.cross_entropy(logits.float(), c, reduction="none")


def joint_distribution(p: Tensor, q: Tensor) -> Tensor:
    """Joint probabilities (K, K) of two answers p, q (B, K) for the same things: the mean of p q^T, made symmetric."""
    joint = p.float().T @ q.float() / len(p)
    return (joint + joint.T) / 2


def mutual_information(joint: Tensor) -> Tensor:
    """Mutual information in nats of a joint distribution (K, K); 0 log 0 is 0."""
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    tiny = torch.finfo(joint.dtype).tiny
    return (joint * (joint.clamp_min(tiny).log() - product.clamp_min(tiny).log())).sum()


def information(logits: Tensor, logits_twin: Tensor) -> Tensor:
    """Minus the mutual information, in nats, between the answers for images and for their augmented twins.

    Category logits (B, K) twice -> scalar, between -log K and 0. Not in the paper: Ji et al. (2019), equation 3.
    It is no mean over samples, so the joint distribution is that of the whole batch, on whatever ranks its images are.
    """
    joint = joint_distribution(logits.float().softmax(1), logits_twin.float().softmax(1))
    return -mutual_information(distributed.mean(joint, len(logits)))
