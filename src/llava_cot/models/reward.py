"""Opening a reward model by its folder or its address.

Imports no torch before a folder is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llava_cot.errors import ModelError
from llava_cot.models.endpoint.config import find_providers, load_config

if TYPE_CHECKING:
    from llava_cot.models.endpoint.reward_endpoint import EndpointReward
    from llava_cot.models.local.reward_local import LocalReward


def open_reward(
    spec: str | Path, *, model_name: str | None = None, device: str = "auto", dtype: str = "auto"
) -> LocalReward | EndpointReward:
    """Open the folder of a sequence-classification checkpoint with one label, or a server's reward model.

    A server is an address or a name in the user's endpoints.yaml, as for `open_model`; an address that ends
    in /classify, /pooling or /score says which of these is asked. `device` and `dtype` are for folders, as
    for `open_model`. Raises ModelError.
    """
    folder = Path(spec).expanduser()
    config = load_config()
    providers = [] if folder.is_dir() else find_providers(str(spec), config)
    if len(providers) > 1:
        raise ModelError(f"{spec} is several servers; give one for the reward model")
    if providers:
        from llava_cot.models.endpoint.reward_endpoint import EndpointReward

        return EndpointReward(providers[0], model_name, config.prices)
    if model_name is not None:
        raise ModelError(f"a model name is for servers, and {spec} is none; leave it out")
    if not folder.is_dir():
        raise ModelError(f"there is no folder {spec}; give a reward model's folder, or a server's address")
    from llava_cot.models.local.reward_local import LocalReward

    return LocalReward(folder, device=device, dtype=dtype)
