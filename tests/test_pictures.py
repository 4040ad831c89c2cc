"""Grids of samples: where tiles lie, what their pixels are, and points as a scatter plot."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from lit_gan.pictures import POINTS_SIDE, grid, grid_batch, is_points, picture, scatter
from tiny import tiny_module


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA"), (2, "L"), (5, "L")])
def test_picture_has_the_mode_of_its_channels(channels, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = picture(torch.zeros(channels, 6, 4))

    assert image.mode == mode
    assert image.size == (4, 6)


def test_minus_one_is_black_one_is_white_and_what_lies_beyond_is_clamped():
    image = picture(torch.tensor([[[-1.0, 1.0, 0.0, -3.0, 3.0]]]))

    assert np.asarray(image).tolist() == [[0, 255, 128, 0, 255]]


def test_tiles_lie_row_by_row_with_a_gap_around_each():
    images = torch.stack([torch.full((3, 4, 5), value) for value in (-0.5, 0.0, 0.5)])

    sheet = grid(images, columns=2, gap=2)

    pixels = np.asarray(sheet)
    assert sheet.size == (2 * (5 + 2) + 2, 2 * (4 + 2) + 2)
    assert (pixels[2:6, 2:7] == 64).all()
    assert (pixels[2:6, 9:14] == 128).all()
    assert (pixels[8:12, 2:7] == 191).all()
    assert pixels.sum() == 3 * 20 * (64 + 128 + 191), "gaps and empty places are black"


def test_transparency_survives_in_a_grid():
    image = torch.ones(4, 2, 2)
    image[3] = 0.0

    pixels = np.asarray(grid(image[None], columns=1, gap=1))

    assert (pixels[1:3, 1:3, 3] == 128).all()
    assert (pixels[0] == 0).all()


def test_points_are_dots_where_they_lie_darker_where_many_are():
    points = torch.tensor([[-1.0, 1.0], [1.0, -1.0], [1.0, -1.0], [9.0, 9.0]])

    ink = np.asarray(scatter(points))

    assert is_points((2, 1, 1))
    assert ink.shape == (POINTS_SIDE, POINTS_SIDE)
    assert ink[0, 0] == int(255 * np.exp(-1)), "x to the right, y upwards"
    assert ink[-1, -1] == int(255 * np.exp(-2))
    assert ink[0, -1] == int(255 * np.exp(-1)), "points beyond the edge are drawn at it"
    assert ink[POINTS_SIDE // 2, POINTS_SIDE // 2] == 255
    assert np.array_equal(np.asarray(grid(points.reshape(-1, 2, 1, 1), columns=1)), ink)


def test_broken_points_are_drawn_and_stop_nothing():
    scatter(torch.tensor([[float("nan"), float("inf")]]))


def test_grid_of_a_conditional_variant_has_a_class_a_row():
    batch = grid_batch(tiny_module("dcgan"), seed=0, rows=12, columns=3, num_classes=10)

    assert batch["label"].reshape(12, 3).tolist() == [[row % 10] * 3 for row in range(12)]
    assert len(batch["z"]) == 36
