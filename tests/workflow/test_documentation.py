"""config/README.md explains every key that the schemas allow, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def keys_of(schema: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield every key that a schema allows, written with dots; of a mapping only what is in it."""
    for name, value in schema.get("properties", {}).items():
        if "properties" in value and name != "published_pass_at_1":
            yield from keys_of(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def schema(name: str) -> dict[str, Any]:
    content = (ROOT / f"workflow/schemas/{name}.schema.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(content))


def explained() -> set[str]:
    """Return what stands in the first column of the tables of config/README.md."""
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| ((?:`[^`|]+`(?:, )?)+) \|", text, re.M))


def test_every_key_of_config_and_catalogue_is_explained() -> None:
    names = {key for cell in explained() for key in re.findall(r"`([^`]+)`", cell)}
    config = set(keys_of(schema("config"))) - {"runtime_options", "campaign"}
    models = schema("models")["properties"]
    catalogue = set(keys_of(models["models"]["additionalProperties"]))
    catalogue |= {f"prompt_styles.{key}" for key in keys_of(models["prompt_styles"])}
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    options = {
        f"runtime_options.{runtime}.{option}"
        for runtime, values in default["runtime_options"].items()
        for option in values
    }
    assert config and catalogue and options
    assert not (config | catalogue | options) - names
    about = {
        "config.yaml",
        "study.yaml",
        "runtimes.yaml",
        "models.yaml",
        "task",
        "control",
        "fixed",
        "quality",
    }
    assert not names - config - catalogue - options - about - {"runtime_options.ollama.port"}
