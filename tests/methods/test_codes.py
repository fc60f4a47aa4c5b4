"""Codes and the PixelCNN that some methods share."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest

from infoae.methods.codes import CategoryCode, SoftmaxCode, normal
from infoae.methods.pixelcnn import PixelCNN


def test_normal_noise_is_normal_and_its_values_are_independent() -> None:
    u = torch.rand(20_000, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = normal(u).numpy()
    assert values.shape == (20_000, 4)
    for column in values.T:
        assert kstest(column, "norm").pvalue > 0.01
    correlation = torch.corrcoef(torch.tensor(values).T) - torch.eye(4)
    assert correlation.abs().max() < 0.03
    assert torch.isfinite(normal(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))).all()


def test_a_category_code_answers_with_its_own_probabilities() -> None:
    code = SoftmaxCode(3)(torch.tensor([[1.0, 2.0, 0.0, 7.0, -4.0]]))
    torch.testing.assert_close(code[:, :3], torch.tensor([[1.0, 2.0, 0.0]]).softmax(1))
    assert code[0, 3:].tolist() == [7.0, -4.0]
    torch.testing.assert_close(CategoryCode(3)(code).softmax(1), code[:, :3])


@pytest.fixture
def pixelcnn() -> PixelCNN:
    torch.manual_seed(1)  # with which no place's last ReLUs are all 0
    network = PixelCNN(channels=2, image_size=9, width=12, num_blocks=4, num_categories=3).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return network


@pytest.mark.parametrize("place", [(0, 0), (0, 5), (4, 4), (8, 0), (8, 8)])
def test_a_pixel_depends_on_those_before_it_alone(pixelcnn: PixelCNN, place: tuple[int, int]) -> None:
    x = torch.rand(1, 2, 9, 9, requires_grad=True)
    row, column = place
    pixelcnn(x, torch.eye(3)[:1])[0, :, row, column].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((0, 1)).flatten() > 0
    position = 9 * row + column
    assert not seen[position:].any()
    assert bool(seen.any()) == (position > 0)


def test_drawing_pixel_by_pixel_follows_the_whole_images_probabilities(pixelcnn: PixelCNN) -> None:
    threshold = torch.rand(4, 2, 9, 9, generator=torch.Generator().manual_seed(1))
    categories = torch.eye(3)[[0, 1, 2, 0]]
    with torch.inference_mode():
        images = pixelcnn.draw(threshold, categories)
        probabilities = torch.sigmoid(pixelcnn(images, categories))
    assert torch.equal(images, (probabilities > threshold).float())
    assert 0.1 < images.mean() < 0.9
    assert not torch.equal(images[0], images[3])
