"""A make-believe accelerator for torch: it finds on a CPU what would fail, or wait, on a GPU.

Importing it adds the device "fakegpu" to torch, for the whole process. The data of its tensors lie on the
CPU, but the tensors say that they are elsewhere: an operation on them and on CPU tensors of one dimension or
more is refused, as CUDA refuses it, and so is `numpy()`. Results equal the CPU's.

This takes experimental parts of torch (tried with 2.13). `torch.inference_mode` becomes `no_grad`, since such
tensors cannot be made under it, and attention takes the plain path.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
import torch.utils._device
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

# Refused operations on tensors of both devices, and what had the host wait for the device: reads of values,
# copies to the CPU, copies from it that are not `non_blocking`, Boolean indices. Each by operation and by the
# line of the package that caused it.
MIXED: Counter[tuple[str, str]] = Counter()
WAITS: Counter[tuple[str, str]] = Counter()
_PACKAGE = "/llava_cot/"
aten = torch.ops.aten


class _Module:
    """What torch asks of a device's module."""

    is_available = staticmethod(lambda: True)
    is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)
    synchronize = staticmethod(lambda *device: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.float16, torch.bfloat16])


_setup_privateuseone_for_python_backend("fakegpu", backend_module=_Module)
DEVICE = torch.device("fakegpu", 0)
# These take CPU tensors beside the device's, on CUDA too.
_INDEXING = {
    aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default,
}  # fmt: skip
_COPIES = {aten.copy_.default, aten._to_copy.default}


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _line() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _PACKAGE not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return "elsewhere"
    return f"{frame.f_code.co_filename.split(_PACKAGE)[-1]}:{frame.f_lineno}"


def _wait(operation: Any) -> None:
    WAITS[str(operation), _line()] += 1


def _index(at: Any) -> Any:
    def turned(one: Any) -> Any:
        return _plain_tensor(one) if isinstance(one, list | tuple | range) else one

    return tuple(map(turned, at)) if isinstance(at, tuple) else turned(at)


class FakeTensor(Tensor):
    """A tensor on the device; `on_cpu` has its data."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, data: Tensor) -> FakeTensor:
        made: FakeTensor = Tensor._make_wrapper_subclass(
            cls,
            data.size(),
            strides=data.stride(),
            storage_offset=data.storage_offset(),
            dtype=data.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        return made

    def __init__(self, data: Tensor) -> None:
        self.on_cpu = data

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})

    def __repr__(self, *args: Any, **kwargs: Any) -> str:
        return f"FakeTensor({self.on_cpu})"

    def __getitem__(self, at: Any) -> Any:
        return Tensor.__getitem__(self, _index(at))

    def __setitem__(self, at: Any, value: Any) -> Any:
        return Tensor.__setitem__(self, _index(at), value)

    def tolist(self) -> Any:
        _wait("tolist")
        return self.on_cpu.tolist()

    def item(self) -> Any:
        _wait("item")
        return self.on_cpu.item()

    def __index__(self) -> int:
        return int(self.item())

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert a fakegpu tensor to numpy; use Tensor.cpu() first")

    __array__ = numpy

    def __deepcopy__(self, memo: Any) -> FakeTensor:
        return FakeTensor(self.on_cpu.clone())

    def data_ptr(self) -> int:
        return self.on_cpu.data_ptr()


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to the parts of tuples and lists."""
    if isinstance(value, tuple | list):
        return type(value)([_map(function, part) for part in value])
    return function(value)


def _run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the data, and say that what it gives is on the device."""
    if op is aten._fused_sdp_choice.default:
        return 0
    tensors: list[Tensor] = []
    _map(lambda one: tensors.append(one) if isinstance(one, Tensor) else None, [*args, *kwargs.values()])
    ours = [one for one in tensors if isinstance(one, FakeTensor)]
    others = [one for one in tensors if not isinstance(one, FakeTensor) and one.dim()]
    if ours and others and op not in _INDEXING | _COPIES:
        MIXED[str(op), _line()] += 1
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found fakegpu and cpu, in {op}"
        )
    target = kwargs.get("device")
    to_cpu = target is not None and not _is_ours(target)
    if op is aten._to_copy.default:
        waits = to_cpu or (not ours and not kwargs.get("non_blocking"))
    elif op is aten.copy_.default:
        waits = len(ours) == 1 and not (isinstance(args[0], FakeTensor) and (*args, False, False)[2])
    elif op in _INDEXING:
        waits = bool(others) or any(getattr(one, "dtype", None) == torch.bool for one in args[1])
    else:
        waits = op in (aten._local_scalar_dense.default, aten.nonzero.default)
    if waits:
        _wait(op)
    same = {id(one.on_cpu): one for one in ours}
    plain_args, plain = _map(_inside, args), {name: _map(_inside, one) for name, one in kwargs.items()}
    if op is not aten._to_copy.default:
        plain.pop("pin_memory", None)
    if op is aten.histc.default:  # of whole numbers, which the CPU does not take
        plain_args = (plain_args[0].float(), *plain_args[1:])
    with torch.no_grad():
        out = op(*plain_args, **plain)
    if op is aten.copy_.default:
        return args[0]
    if op is aten._local_scalar_dense.default or not (ours if target is None else _is_ours(target)):
        return out

    def outside(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        return same[id(one)] if id(one) in same else FakeTensor(one)

    return _map(outside, out)


def _inside(one: Any) -> Any:
    if isinstance(one, FakeTensor):
        return one.on_cpu
    return torch.device("cpu") if isinstance(one, torch.device) and _is_ours(one) else one


def _make(op: Any, *args: Any, **kwargs: Any) -> Any:
    """What is made on the device from nothing comes here, without a tensor of ours among its arguments."""
    made = kwargs.get("device") is not None or any(isinstance(one, Tensor) for one in args)
    return _run(op, args, kwargs if made else kwargs | {"device": DEVICE})


_library = torch.library.Library("_", "IMPL")
_library.fallback(_make, "PrivateUse1")
torch.utils._device._device_constructors()  # remembers the true torch.tensor for `with torch.device(...)`
_plain_tensor = torch.tensor


def _made_on_cpu(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """What torch would make by resizing an empty tensor, which a FakeTensor cannot follow."""

    def make(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if not _is_ours(device):
            return function(*args, device=device, **kwargs)
        if function is _plain_tensor:
            _wait("tensor")
        args = _map(lambda one: one.tolist() if isinstance(one, FakeTensor) else one, args)
        return FakeTensor(function(*args, device="cpu", **kwargs))

    return make


for _name in ("tensor", "arange", "linspace", "eye", "randperm"):
    setattr(torch, _name, _made_on_cpu(getattr(torch, _name)))
torch.inference_mode = lambda *args, **kwargs: torch.no_grad()  # type: ignore[assignment,misc]
