"""A convolution whose second derivative is fast: for discriminators under a gradient penalty.

PyTorch differentiates the backward pass of a convolution by a convolution with a kernel as large as the
image, and one group after another; that is several times slower than the forward pass on every device. Here
the gradient at the input is written as a transposed convolution, whose own derivative is an ordinary first
one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[int, int]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.bias_sizes = None if bias is None else [len(bias)]
        ctx.geometry = stride, padding, groups
        return F.conv2d(inputs, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        stride, padding, groups = ctx.geometry
        # A penalty asks for the gradient at the images alone; the weights' would double its first pass.
        nodes = [node for node, _ in ctx.next_functions] + [None]  # an absent bias has no node
        needs = [
            need and _wanted(node) for need, node in zip(ctx.needs_input_grad[:3], nodes[:3], strict=True)
        ]
        at_inputs: Tensor | None = None
        if needs[0] and torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
            # What a stride leaves over at the far edge has to be given back.
            extra = [
                inputs.shape[2 + i]
                - (gradient.shape[2 + i] - 1) * stride[i]
                + 2 * padding[i]
                - weight.shape[2 + i]
                for i in range(2)
            ]
            at_inputs = F.conv_transpose2d(gradient, weight, None, stride, padding, extra, groups)
            needs[0] = False
        rest: list[Tensor | None] = [None, None, None]
        if any(needs):
            geometry = (stride, padding, (1, 1), False, (0, 0), groups)
            rest = torch.ops.aten.convolution_backward(
                gradient, inputs, weight, ctx.bias_sizes, *geometry, needs
            )
        return (at_inputs if at_inputs is not None else rest[0], rest[1], rest[2], None, None, None)


def _wanted(node: Any) -> bool:
    """Whether the backward pass that is running goes on to `node`; yes where PyTorch cannot say."""
    will_run = getattr(torch._C, "_will_engine_execute_node", None)
    try:
        return will_run is None or node is None or bool(will_run(node))
    except RuntimeError:  # a leaf that is itself asked for
        return True


def conv2d(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d`; eager and in float32, as for penalties, with a fast second derivative."""
    autocast = torch.is_autocast_enabled(inputs.device.type)
    if autocast or not inputs.requires_grad or torch.compiler.is_compiling():
        return F.conv2d(inputs, weight, bias, stride, padding, 1, groups)
    result: Tensor = _Convolution.apply(inputs, weight, bias, (stride, stride), (padding, padding), groups)
    return result


class Conv2d(nn.Conv2d):
    """A layer of it, with square kernels, strides and paddings."""

    def forward(self, inputs: Tensor) -> Tensor:
        stride, padding = self.stride[0], self.padding[0]
        assert isinstance(padding, int)
        return conv2d(inputs, self.weight, self.bias, stride=stride, padding=padding, groups=self.groups)


def channels_last(images: Tensor) -> Tensor:
    """The same images, with strides that tell the first convolution to work in channels_last.

    With one channel both layouts are contiguous, PyTorch takes the other one, and the layers after it copy.
    """
    batch, channels, height, width = images.shape
    if channels > 1:
        return images
    return images.reshape(batch, height, width, 1).permute(0, 3, 1, 2)
