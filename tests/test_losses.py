"""Each loss against a closed form written independently, in numpy or by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.special import softmax
from scipy.stats import entropy, norm

from infoae import losses

LOGITS = npst.arrays(np.float32, (5,), elements=st.floats(-30, 30, width=32))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.astype(np.float64)))


@given(LOGITS)
def test_real_is_minus_log_probability_of_real(logits: np.ndarray) -> None:
    np.testing.assert_allclose(losses.real(torch.tensor(logits)), -np.log(sigmoid(logits)), rtol=1e-4, atol=1e-6)


@given(LOGITS)
def test_generated_is_minus_log_probability_of_generated(logits: np.ndarray) -> None:
    expected = -np.log1p(-sigmoid(logits.clip(-30, 15)))
    np.testing.assert_allclose(losses.generated(torch.tensor(logits.clip(-30, 15))), expected, rtol=1e-3, atol=1e-6)


def test_a_critic_that_knows_nothing_pays_two_log_two() -> None:
    zero = torch.zeros(4)
    assert (losses.real(zero) + losses.generated(zero)).mean().item() == pytest.approx(2 * math.log(2))


@given(
    npst.arrays(np.float32, (3, 2, 4, 4), elements=st.floats(-8, 8, width=32)),
    npst.arrays(np.float32, (3, 2, 4, 4), elements=st.floats(0, 1, width=32)),
)
@settings(max_examples=25)
def test_reconstruction_distances(logits: np.ndarray, image: np.ndarray) -> None:
    p, x = sigmoid(logits), image.astype(np.float64)
    expected = {
        "squared": ((p - x) ** 2).sum((1, 2, 3)),
        "absolute": np.abs(p - x).sum((1, 2, 3)),
        "cross-entropy": -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3)),
    }
    for name, value in expected.items():
        result = losses.reconstruction(torch.tensor(logits), torch.tensor(image), name)  # type: ignore[arg-type]
        np.testing.assert_allclose(result, value, rtol=2e-3, atol=1e-4)
        mean = losses.reconstruction(torch.tensor(logits), torch.tensor(image), name, mean=True)  # type: ignore[arg-type]
        np.testing.assert_allclose(mean * 32, result, rtol=1e-5, atol=1e-6)


@given(*[npst.arrays(np.float32, (4, 3), elements=st.floats(-3, 3, width=32)) for _ in range(3)])
def test_gaussian_is_minus_log_of_the_density(mean: np.ndarray, log_deviation: np.ndarray, value: np.ndarray) -> None:
    expected = -norm.logpdf(value.astype(np.float64), mean, np.exp(log_deviation.astype(np.float64))).sum(1)
    result = losses.gaussian(*(torch.tensor(array) for array in (mean, log_deviation, value)))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@given(npst.arrays(np.float32, (6, 4), elements=st.floats(-20, 20, width=32)))
def test_entropies_of_answers(logits: np.ndarray) -> None:
    """CatGAN's objective is their difference, the mutual information of image and answer."""
    p = softmax(logits.astype(np.float64), 1)
    conditional = losses.conditional_entropy(torch.tensor(logits)).item()
    marginal = losses.marginal_entropy(torch.tensor(logits)).item()
    assert conditional == pytest.approx(entropy(p, axis=1).mean(), abs=1e-5)
    assert marginal == pytest.approx(entropy(p.mean(0)), abs=1e-5)
    assert -1e-5 <= conditional <= marginal + 1e-5 <= math.log(4) + 2e-5


def test_entropies_have_finite_gradients_for_certain_answers() -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0], [200.0, -200.0, 0.0]], requires_grad=True)
    (losses.conditional_entropy(logits) - losses.marginal_entropy(logits)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_discriminator_accuracy_counts_both_kinds_alike() -> None:
    real, fake = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, 1.0])
    assert losses.discriminator_accuracy(real, fake).item() == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_classification_is_minus_log_of_the_softmax() -> None:
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    asked = np.array([1, 0])
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(softmax[[0, 1], asked])
    np.testing.assert_allclose(losses.classification(torch.tensor(logits), torch.tensor(asked)), expected, rtol=1e-6)


def brute_force_mutual_information(p: np.ndarray, q: np.ndarray) -> float:
    """Sum over all cells of the symmetrised joint, one at a time."""
    count, num_categories = p.shape
    joint = np.zeros((num_categories, num_categories))
    for a, b in zip(p, q, strict=True):
        joint += (np.outer(a, b) + np.outer(b, a)) / (2 * count)
    total = 0.0
    for i in range(num_categories):
        for j in range(num_categories):
            if joint[i, j] > 0:
                total += joint[i, j] * math.log(joint[i, j] / (joint[i].sum() * joint[:, j].sum()))
    return total


@given(
    npst.arrays(np.float64, (6, 4), elements=st.floats(-10, 10)),
    npst.arrays(np.float64, (6, 4), elements=st.floats(-10, 10)),
)
def test_the_loss_is_minus_the_mutual_information(first: np.ndarray, second: np.ndarray) -> None:
    p, q = (np.exp(a) / np.exp(a).sum(1, keepdims=True) for a in (first, second))
    result = losses.mutual_information(torch.tensor(first), torch.tensor(second)).item()
    assert result == pytest.approx(-brute_force_mutual_information(p, q), abs=1e-5)
    assert -math.log(4) - 1e-5 <= result <= 1e-5


def test_mutual_information_of_certain_equal_balanced_answers_is_log_k() -> None:
    logits = torch.eye(5).repeat(3, 1) * 200
    assert losses.mutual_information(logits, logits).item() == pytest.approx(-math.log(5), abs=1e-5)


def test_mutual_information_has_finite_gradients_for_certain_answers() -> None:
    logits = (torch.eye(4) * 1000).requires_grad_()
    losses.mutual_information(logits, logits.roll(1, 0)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_mutual_information_of_several_heads_is_their_mean() -> None:
    first, second = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    of_each = [losses.mutual_information(*pair).item() for pair in zip(first, second, strict=True)]
    assert losses.mutual_information(first, second).item() == pytest.approx(sum(of_each) / 3)


def test_a_category_that_is_never_answered_has_no_part_in_the_mutual_information() -> None:
    """Its probabilities are exactly 0, and so is what it adds to value and gradient."""
    used = torch.eye(2).repeat(3, 1) * 200
    logits = torch.cat([used, torch.full((6, 1), -1e4)], 1).requires_grad_()
    loss = losses.mutual_information(logits, logits)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(2), abs=1e-5)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@given(
    npst.arrays(np.float64, (5, 3), elements=st.floats(-3, 3)),
    npst.arrays(np.float64, (5, 3), elements=st.floats(-3, 3)),
    st.floats(0.1, 2),
)
def test_contrastive_is_minus_log_of_the_twins_share(u: np.ndarray, v: np.ndarray, temperature: float) -> None:
    rows = np.concatenate([u, v]) + 4  # none is of length 0
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    total = 0.0
    for i in range(10):
        likeness = {j: math.exp(unit[i] @ unit[j] / temperature) for j in range(10) if j != i}
        total -= math.log(likeness[(i + 5) % 10] / sum(likeness.values())) / 10
    result = losses.contrastive(torch.tensor(u + 4), torch.tensor(v + 4), temperature).item()
    assert result == pytest.approx(total, abs=1e-4)


def test_pseudo_label_is_the_cross_entropy_of_the_merged_answers() -> None:
    torch.manual_seed(0)
    logits, category_of = torch.randn(6, 5), torch.tensor([0, 2, 1, 0, 2])
    labels = torch.tensor([0, 1, 2, -1, 0, -1])
    found = losses.pseudo_label(logits, category_of, labels)
    p = logits.double().exp().numpy()
    for row, category in enumerate(labels.tolist()):
        inside = category_of.numpy() == category
        expected = 0.0 if category < 0 else -np.log(p[row, inside].sum() / p[row].sum())
        assert found[row].item() == pytest.approx(expected, abs=1e-5)


def test_images_without_a_pseudo_label_give_no_gradient() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    losses.pseudo_label(logits, torch.tensor([0, 0, 1, 1, 2]), torch.tensor([-1, 0, -1, 2])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.ne(0).any(1).tolist() == [False, True, False, True]


def brute_force_energy_distance(z_gen: np.ndarray, c: np.ndarray, z: np.ndarray, p: np.ndarray) -> float:
    """Category by category and pair by pair."""
    distance = spread = 0.0
    for k in range(p.shape[1]):
        x, q = z_gen[c == k], p[:, k] / p[:, k].sum()
        if len(x) < 2:
            continue
        ordered = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j]
        between = sum(q[j] * np.linalg.norm(a - z[j]) for a in x for j in range(len(z))) / len(x)
        generated = sum(np.linalg.norm(a - b) for a in x for b in x) / (len(x) * (len(x) - 1))
        encoded = sum(q[i] * q[j] * np.linalg.norm(z[i] - z[j]) for i, j in ordered)
        encoded /= sum(q[i] * q[j] for i, j in ordered)
        distance += p[:, k].mean() * (2 * between - generated - encoded)
        spread += p[:, k].mean() * encoded
    return float(distance / spread)


@given(st.integers(0, 1000))
def test_latent_matching_is_the_energy_distance_over_the_spread(seed: int) -> None:
    random = np.random.default_rng(seed)
    z_gen, z = random.normal(size=(9, 5)), random.normal(1, 2, size=(9, 5))
    c = np.array([0, 0, 1, 1, 1, 1, 0, 3, 0])  # category 2 was not asked for, 3 only once
    p = random.dirichlet(np.full(4, 0.3), 9)
    result = losses.latent_matching(*map(torch.tensor, (z_gen, c, z, p))).item()
    assert result == pytest.approx(brute_force_energy_distance(z_gen, c, z, p), rel=1e-3, abs=1e-4)


def test_latent_matching_has_the_gradient_of_its_value() -> None:
    """Against central differences of the brute-force distance; what is encoded gets none."""
    random = np.random.default_rng(0)
    z_gen, z = random.normal(size=(6, 3)), random.normal(1, 2, size=(6, 3))
    c, p = np.array([0, 0, 1, 1, 1, 0]), random.dirichlet(np.ones(2), 6)
    tensors = [torch.tensor(each, requires_grad=True) for each in (z_gen, z, p)]
    losses.latent_matching(tensors[0], torch.tensor(c), *tensors[1:]).backward()
    expected = np.zeros_like(z_gen)
    for place in np.ndindex(*z_gen.shape):
        moved = np.zeros_like(z_gen)
        moved[place] = 1e-4
        up, down = (brute_force_energy_distance(z_gen + sign * moved, c, z, p) for sign in (1, -1))
        expected[place] = (up - down) / 2e-4
    assert tensors[0].grad is not None
    np.testing.assert_allclose(tensors[0].grad.numpy(), expected, rtol=1e-3, atol=1e-5)
    assert tensors[1].grad is None
    assert tensors[2].grad is None


def test_latent_matching_is_zero_for_equal_distributions_and_says_what_a_collapse_costs() -> None:
    random = torch.Generator().manual_seed(0)
    c, dimensions = torch.arange(2).repeat(500), 200
    z, own = torch.randn(2, 1000, dimensions, generator=random)
    p = torch.eye(2)[c]
    z, own = z + 10 * c[:, None], own + 10 * c[:, None]
    assert losses.latent_matching(own, c, z, p).item() == pytest.approx(0, abs=1e-3)
    assert losses.latent_matching(own, 1 - c, z, p).item() > 5  # the other category's latents
    mean = 10.0 * c[:, None].expand(-1, dimensions)
    assert losses.latent_matching(mean, c, z, p).item() == pytest.approx(math.sqrt(2) - 1, abs=0.01)
    assert losses.latent_matching(3 * own, c, 3 * z, p).item() == pytest.approx(0, abs=1e-3)


def test_latent_matching_spreads_equal_latents_apart() -> None:
    """Equal latents have no direction to part in by themselves; the encoded ones give it. No gradient is NaN."""
    random = torch.Generator().manual_seed(0)
    z, c = torch.randn(64, 3, generator=random), torch.zeros(64, dtype=torch.int64)
    z_gen = (torch.randn(64, 3, generator=random) * 1e-3).requires_grad_()
    optimizer = torch.optim.Adam([z_gen], 0.05)
    for _ in range(150):
        optimizer.zero_grad()
        losses.latent_matching(z_gen, c, z, torch.ones(64, 1)).backward()
        optimizer.step()
    spread = torch.pdist(z_gen.detach()).mean() / torch.pdist(z).mean()
    assert 0.9 < spread < 1.1
    still = torch.zeros(4, 3, requires_grad=True)
    losses.latent_matching(still, c[:4], z[:4], torch.ones(4, 1)).backward()
    assert still.grad is not None
    assert torch.isfinite(still.grad).all()


def test_latents_that_are_all_the_same_are_no_division_by_zero() -> None:
    same, c = torch.ones(6, 3), torch.tensor([0, 0, 0, 1, 1, 1])
    assert losses.latent_matching(same, c, same, torch.full((6, 2), 0.5)).item() == 0


def test_losses_are_computed_in_float32_whatever_autocast_gives() -> None:
    half = torch.tensor([11.0, -11.0], dtype=torch.bfloat16)
    assert losses.real(half).dtype == losses.generated(half).dtype == torch.float32
    assert losses.mutual_information(half[None], half[None]).dtype == torch.float32
    rows = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    c, p = torch.arange(64) % 10, rows.softmax(1)
    plain = [losses.mutual_information(rows, rows.flip(0)), losses.latent_matching(rows, c, rows.flip(0), p)]
    with torch.autocast("cpu", torch.bfloat16):
        cast = [losses.mutual_information(rows, rows.flip(0)), losses.latent_matching(rows, c, rows.flip(0), p)]
    assert cast == plain
