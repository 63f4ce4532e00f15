"""A pytest plugin: the packages of [vision-extras] from a folder of their own, for one run of tests alone.

    PYTHONPATH=tests:.vision-extras pytest -p vision_extras tests/models/test_sweep.py

torchvision's wheels on the package index are for CUDA: beside a CPU build of torch, their library of
operators does not load, and the import fails for two operators. Nothing here calls them.
"""

from __future__ import annotations

import torch

_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        OPERATORS.define(name + _BOXES)
