"""The config that lists and show read: what a model is, from its weights and what its texts name.

Fields: contract/registry.md 1.3. Knows no store and no manifest's bytes.
"""

from collections.abc import Mapping
from typing import Any

from registry.capabilities import capabilities_of
from registry.manifests import Config


def build_config(
    gguf: Mapping[str, Any], *, template: str, has_projector: bool, named: Mapping[str, str]
) -> Config:
    """Return a model's config.

    `gguf`: what the weights say (as GgufFile.to_json); `template`: its Go template; `named`: what
    the model asks for by name, `renderer`, `parser` and `requires`, each perhaps empty.
    """
    architecture = gguf["architecture"]
    renderer, parser = named.get("renderer", ""), named.get("parser", "")
    return Config(
        model_format="gguf",
        model_family=architecture,
        model_families=(architecture,),
        model_type=gguf["parameter_size"],
        file_type=gguf["quantization_level"],
        renderer=renderer,
        parser=parser,
        requires=named.get("requires", ""),
        capabilities=capabilities_of(
            architecture,
            gguf["metadata"],
            template,
            has_projector=has_projector,
            parser=parser,
            renderer=renderer,
        ),
        context_length=gguf["context_length"] or 0,
        embedding_length=gguf["embedding_length"] or 0,
        architecture="amd64",
        os="linux",
    )
