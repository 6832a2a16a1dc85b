"""The model of images: its layers see pixels where they are, and only squares are images."""

import pytest
import torch
from torch.nn.functional import conv2d

from fedmodel.errors import FedmodelError
from fedmodel.models.image import cnn


def test_the_first_layer_sees_the_pixels_row_by_row():
    module = cnn(num_features=9, num_classes=4, channels=(2,))
    x = torch.randn(5, 9)
    kernel = module[1]
    by_hand = conv2d(x.view(5, 1, 3, 3), kernel.weight, kernel.bias, padding=1)
    torch.testing.assert_close(module[:2](x), by_hand)
    assert module(x).shape == (5, 4)


@pytest.mark.parametrize("side", [1, 5, 8, 28])
def test_any_side_does(side):
    assert cnn(num_features=side**2, num_classes=3)(torch.zeros(2, side**2)).shape == (2, 3)


def test_what_is_no_square_is_refused():
    with pytest.raises(FedmodelError, match="10 numbers make no square"):
        cnn(num_features=10, num_classes=2)
