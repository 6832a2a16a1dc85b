"""Where the records of a federation are kept while clients train."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedmodel.types import FederatedData

__all__ = ["on_device"]

SHARE = 0.5  # of a device's free memory that records may take


def on_device(data: FederatedData, device: str) -> FederatedData:
    """The same records with features and labels on a device for good, if they take half of what is
    free there. Else they stay, and each batch travels."""
    if torch.device(device).type != "cuda":
        return data
    free, _ = torch.cuda.mem_get_info(device)
    if data.x.nbytes + data.y.nbytes > SHARE * free:
        return data
    return replace(data, x=data.x.to(device), y=data.y.to(device))
