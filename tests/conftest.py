"""Settings for all tests: one thread a process, no network, shapes checked."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))
# Not fedmodel._flower and messages: the checker prints its arguments, which would fill lazy records.
ROOMS = (
    "audits",
    "clients",
    "cohort",
    "data",
    "evaluation",
    "models",
    "privacy",
    "secure",
    "strategies",
)
install_import_hook([f"fedmodel.{room}" for room in ROOMS], "typechecker.check")

torch.set_num_threads(1)
settings.register_profile("fedmodel", deadline=None, max_examples=15, print_blob=True)
settings.load_profile("fedmodel")


@pytest.fixture(autouse=True)
def _torch_seed():
    torch.manual_seed(0)
