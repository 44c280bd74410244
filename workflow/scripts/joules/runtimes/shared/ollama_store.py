"""Ollama's store of models, as far as one model of one file needs it.

`ollama create` would write the weights anew, with another order of tensors and another sha256 (from
0.30 on, by llama.cpp's quantiser). So the file is uploaded as a blob, which the server checks, and
the two small files that make a model of it are written here. Source: manifest/manifest.go and
types/model/config.go of Ollama 0.34.0.
"""

import hashlib
import json
import os
from pathlib import Path

from joules.core.inference import Model

NAME = "measured"  # of the model, in the server
MANIFEST = Path("manifests/registry.ollama.ai/library") / NAME / "latest"


def name_model(models: Path, model: Model) -> None:
    """Give the model, whose blob is in the store `models`, its name; wait for the disk.

    It has no template and no parameters: prompts go in raw, and requests say everything.
    """
    weights = f"sha256:{model.sha256}"
    config = json.dumps(
        {
            "model_format": "gguf",
            "model_family": "",
            "model_families": [],
            "model_type": "",
            "file_type": "",
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [weights]},
        }
    ).encode()
    digest = hashlib.sha256(config).hexdigest()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": f"sha256:{digest}",
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.ollama.image.model",
                "digest": weights,
                "size": model.path.stat().st_size,
            }
        ],
    }
    (models / MANIFEST).parent.mkdir(parents=True, exist_ok=True)
    (models / f"blobs/sha256-{digest}").write_bytes(config)
    (models / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    for file in filter(Path.is_file, models.rglob("*")):
        with open(file, "rb") as written:  # else it is written while the next windows run
            os.fsync(written.fileno())
