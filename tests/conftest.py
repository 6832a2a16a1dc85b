"""Settings for all tests: one thread a process, no network, shapes checked."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("fedmodel", deadline=None, max_examples=25, print_blob=True)
settings.load_profile("fedmodel")


@pytest.fixture(autouse=True)
def _torch_seed():
    torch.manual_seed(0)
