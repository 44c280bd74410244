"""The demonstration's campaigns that tests read: the committed one, and an older one.

`COMMITTED` has records of schema 3. The older one has records of schema 2, prompts files of schema
1, grades without a nonce, all null controls on one runtime, keys of a configuration that are gone,
and neither models.yaml nor a registered plan. It is `data/measurements/vm-xeon-2core-2026-11-25` of
commit ce402b6, every byte of it, packed because it holds the same answers thirty times.
"""

import tarfile
from pathlib import Path

from joules.core import paths
from joules.core.places import REPOSITORY

COMMITTED = REPOSITORY / paths.archived_folder("vm-epyc-2core-2026-11-26")
OLDER_NAME = "vm-xeon-2core-2026-11-25"
PACKED = REPOSITORY / f"tests/data/{OLDER_NAME}.tar.xz"


def unpack_older(root: Path) -> Path:
    """Unpack the older campaign below `root` where a checkout would hold it; return its folder."""
    measurements = root / paths.archived_folder("")
    measurements.mkdir(parents=True)
    with tarfile.open(PACKED) as packed:
        packed.extractall(measurements, filter="data")
    return measurements / OLDER_NAME


def checkout_of(campaign: Path) -> Path:
    """Return the folder of the checkout that holds a campaign's folder."""
    return campaign.parents[2]
