"""The losses of all methods, a pure function each, per sample and unreduced where a sample has one.

Those of InfoAE are of section 2.4 of its paper.
Adversarial losses are the non-saturating cross-entropies of Goodfellow et al. (2014), in nats; `softplus(-l)` is the
cross-entropy of the logit `l` against "real", `softplus(l)` against "generated". `docs/method.md` has the mathematics.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from infoae.config import ReconstructionDistance
from infoae.device import without_autocast
from infoae.distributed import collectives


def reconstruction(x_recon_logits: Tensor, x: Tensor, distance: ReconstructionDistance, mean: bool = False) -> Tensor:
    """R_l: distance of the reconstruction sigmoid(x_recon_logits) from x, both (B, C, H, W) -> (B,).

    The paper does not say which distance (reading): `squared` Euclidean, `absolute`, or `cross-entropy` in nats with
    each pixel as a probability; nor whether their sum or, with `mean`, their mean over pixels and channels.
    """
    logits = x_recon_logits.float()
    if distance == "cross-entropy":
        pixels = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    elif distance == "squared":
        pixels = (torch.sigmoid(logits) - x).square()
    else:
        pixels = (torch.sigmoid(logits) - x).abs()
    return pixels.flatten(1).mean(1) if mean else pixels.flatten(1).sum(1)


def real(logits: Tensor) -> Tensor:
    """Cross-entropy in nats of logits (B,) against "real": De_g, De_r, E_l, and the real half of D_l and S_l."""
    return F.softplus(-logits.float())


def generated(logits: Tensor) -> Tensor:
    """Cross-entropy in nats of logits (B,) against "generated": the other half of D_l and S_l."""
    return F.softplus(logits.float())


def discriminator_accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """How often logits (B,) and (B',) of real and generated images have the right sign, both kinds alike -> scalar."""
    right = (real_logits > 0).float().mean() + (fake_logits < 0).float().mean()
    return right.detach() / 2


def classification(logits: Tensor, c: Tensor) -> Tensor:
    """Cl_g, Cl_e: cross-entropy in nats of category logits (B, K) against the asked category indices c (B,) -> (B,)."""
    return F.cross_entropy(logits.float(), c, reduction="none")


def gaussian(mean: Tensor, log_deviation: Tensor, value: Tensor) -> Tensor:
    """Minus the log density in nats of values (B, D) under normal distributions, mean and log deviation (B, D) -> (B,).

    The continuous codes of InfoGAN (Chen et al. 2016, section 5).
    """
    mean, log_deviation = mean.float(), log_deviation.float()
    distance = (value - mean) * torch.exp(-log_deviation)
    return (distance.square() / 2 + log_deviation + math.log(2 * math.pi) / 2).sum(1)


def conditional_entropy(logits: Tensor) -> Tensor:
    """H[p(c | x)]: mean entropy in nats of the answers, logits (B, K) -> scalar (Springenberg 2015, equation 3)."""
    log_p = logits.float().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()


def marginal_entropy(logits: Tensor) -> Tensor:
    """H[p(c)]: entropy in nats of the mean answer, logits (B, K) -> scalar (Springenberg 2015, equation 4).

    It is no mean over samples, so the mean answer is that of the whole micro-batch, on whatever ranks its images are.
    """
    p = collectives.mean(logits.float().softmax(1).mean(0), len(logits))
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum()


def joint_distribution(p: Tensor, q: Tensor) -> Tensor:
    """Joint probabilities (..., K, K) of two answers p, q (..., B, K) for the same: the mean of p q^T, made symmetric.

    In float64: answers of untrained networks are so alike that the information is a difference of nearly equal numbers.
    """
    with without_autocast(p.device):
        joint = p.double().mT @ q.double() / p.shape[-2]
    return (joint + joint.mT) / 2


def information_of(joint: Tensor) -> Tensor:
    """Mutual information (...) in nats of joint distributions (..., K, K); 0 log 0 is 0.

    As `metrics.mutual_information`, with gradient.
    """
    product = joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True)
    tiny = torch.finfo(joint.dtype).tiny
    return (joint * (joint.clamp_min(tiny).log() - product.clamp_min(tiny).log())).sum((-2, -1))


def mutual_information(logits: Tensor, logits_twin: Tensor) -> Tensor:
    """Minus the mutual information, in nats, between the answers for images and for their augmented twins.

    Category logits (..., B, K) twice, of each head in the first dimensions -> scalar, between -log K and 0, the mean
    over heads. Not in the paper: Ji et al. (2019), equation 3. It is no mean over samples, so the joint distribution is
    that of the whole micro-batch, on whatever ranks its images are.
    """
    joint = joint_distribution(logits.float().softmax(-1), logits_twin.float().softmax(-1))
    return -information_of(collectives.mean(joint, logits.shape[-2])).mean().float()


def contrastive(u: Tensor, v: Tensor, temperature: float) -> Tensor:
    """NT-Xent: minus the log probability, in nats, of each projection's twin among all others -> scalar.

    Projections u and v (B, D) of images and of their twins; logits are cosines over `temperature`. Not in the paper:
    Chen et al. (2020), equation 1. The others are those of the whole micro-batch, on whatever ranks its images are.
    """
    with without_autocast(u.device):
        u, v = (collectives.gather_with_gradient(F.normalize(each.float(), dim=1)) for each in (u, v))
        both = torch.cat([u, v])
        logits = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
        return F.cross_entropy(logits, torch.arange(len(both), device=both.device).roll(len(u)))


def pseudo_label(logits: Tensor, category_of: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats of the answers against pseudo-labels; 0 where there is none.

    Logits (B, M) of over-categories, the category of each (M,), and the pseudo-label (B,) or -1 -> (B,). Not in the
    paper: training on what several clusterings of the same images agree on.
    """
    other = category_of != labels.clamp_min(0)[:, None]  # over-categories of other categories
    log_probability = logits.float().log_softmax(1).masked_fill(other, -torch.inf).logsumexp(1)
    return torch.where(labels >= 0, -log_probability, 0.0)


def latent_matching(z_gen: Tensor, c: Tensor, z: Tensor, p: Tensor) -> Tensor:
    """Energy distance between the generated and the encoded latents of a category, over their spread -> scalar.

    z_gen (B, Z) generated for categories c (B,); z (B, Z) encoded, answered with probabilities p (B, K). With X and X'
    generated, Y and Y' encoded latents of one category, 2 E|X - Y| - E|X - X'| - E|Y - Y'| is 0 if they are distributed
    alike and positive otherwise (Székely and Rizzo 2013). It is averaged over the categories as encoded, and divided
    by the average of E|Y - Y'|, so that it has no unit: 0.41 where the generator draws nothing but the mean of many
    dimensions. Not in the paper. The pairs are those of the whole micro-batch, on whatever ranks its images are, each
    rank computing those of its own latents with all; a category asked for less than twice is left out. z and p get no
    gradient: the generator follows the encoder, not the reverse.
    """
    with without_autocast(z.device):
        z_gen, z, p = z_gen.float(), z.detach().float(), p.detach().float()
        rows, mine = collectives.gather(torch.cat([z_gen.detach(), z, p, c[:, None]], 1))
        all_gen, z, p, c = rows.split([z.shape[1], z.shape[1], p.shape[1], 1], 1)
        asked = F.one_hot(c[:, 0].long(), p.shape[1]).float()
        weight = p.mean(0) * (asked.sum(0) > 1)
        tiny = torch.finfo(p.dtype).tiny
        asked, p = (membership / membership.sum(0).clamp_min(tiny) for membership in (asked, p))
        between = ((asked[mine] * weight) @ p.T * torch.cdist(z_gen, z)).sum()
        within, spread = _within(z_gen, all_gen, asked, weight, mine), _within(z[mine], z, p, weight, mine)
        # A pair of generated latents is in two rows, once for each of them, but has its gradient in the first alone.
        within = 2 * within - within.detach()
        between, within, spread = collectives.total(torch.stack([between, within, spread]), len(z_gen)).unbind()
        return (2 * between - within - spread) / spread.clamp_min(tiny)


def _within(rows: Tensor, values: Tensor, membership: Tensor, weight: Tensor, mine: slice) -> Tensor:
    """Sum over categories of weight (K,) times E|V - V'|, V and V' being two of values (B, D) by membership (B, K).

    Of that sum over pairs, the part in which V is one of `rows` (R, D), which are the values `mine`.
    """
    different = (1 - membership.square().sum(0)).clamp_min(1e-6)  # how often two draws are not of the same row
    pairs = (membership[mine] * (weight / different)) @ membership.T
    return (pairs * torch.cdist(rows, values)).sum()
