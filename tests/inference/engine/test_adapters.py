"""LoRA adapters on a tiny model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.engine.llama import adapters
from inference.engine.model import LoadError
from inference.engine.runner_messages import AdapterFile
from tests.gguf_files import write_tiny_model
from tests.inference.engine.llama_session import LlamaSession
from tests.vision_files import write_adapter

PROMPT = [1, 300, 301, 302, 303]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[LlamaSession]:
    session = LlamaSession(write_tiny_model(tmp_path / "model.gguf"))
    yield session
    session.close()


def logits_with(session: LlamaSession, *files: AdapterFile) -> np.ndarray:
    adapters.apply(session.context, adapters.load_adapters(session.model, files))
    session.forget()
    return session.logits_after(PROMPT)


def test_an_adapter_changes_the_logits(session: LlamaSession, tmp_path: Path) -> None:
    plain = session.logits_after(PROMPT)
    path = write_adapter(tmp_path / "lora.gguf")
    assert not np.allclose(plain, logits_with(session, AdapterFile(path=str(path))), atol=1e-2)


def test_scale_0_changes_nothing(session: LlamaSession, tmp_path: Path) -> None:
    plain = session.logits_after(PROMPT)
    path = write_adapter(tmp_path / "lora.gguf")
    assert np.array_equal(plain, logits_with(session, AdapterFile(path=str(path), scale=0.0)))


def test_the_scale_says_how_much(session: LlamaSession, tmp_path: Path) -> None:
    plain = session.logits_after(PROMPT)
    path = str(write_adapter(tmp_path / "lora.gguf"))
    changes = [
        np.abs(logits_with(session, AdapterFile(path=path, scale=scale)) - plain).max()
        for scale in (0.01, 1.0)
    ]
    assert 0 < changes[0] < changes[1] / 10


def test_two_adapters_work_together(session: LlamaSession, tmp_path: Path) -> None:
    files = [
        AdapterFile(path=str(write_adapter(tmp_path / f"{seed}.gguf", seed=seed)))
        for seed in (1, 2)
    ]
    alone = [logits_with(session, file) for file in files]
    together = logits_with(session, *files)
    assert not any(np.allclose(together, one, atol=1e-2) for one in alone)


def test_an_adapter_of_another_width_is_refused(session: LlamaSession, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "lora.gguf", width=48)
    with pytest.raises(LoadError, match=r"adapter 1 does not fit the model: .*shape"):
        adapters.load_adapters(session.model, [AdapterFile(path=str(path))])


def test_an_adapter_of_another_architecture_is_refused(
    session: LlamaSession, tmp_path: Path
) -> None:
    path = write_adapter(tmp_path / "lora.gguf", architecture="qwen2")
    with pytest.raises(LoadError, match=r"does not fit the model: .*arch"):
        adapters.load_adapters(session.model, [AdapterFile(path=str(path))])


def test_a_model_is_no_adapter(session: LlamaSession, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="does not fit"):
        adapters.load_adapters(session.model, [AdapterFile(path=str(tmp_path / "model.gguf"))])


def test_a_file_that_is_not_there_is_refused(session: LlamaSession, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="does not fit"):
        adapters.load_adapters(session.model, [AdapterFile(path=str(tmp_path / "none.gguf"))])


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(
    session: LlamaSession, tmp_path: Path, scale: float
) -> None:
    path = write_adapter(tmp_path / "lora.gguf")
    with pytest.raises(LoadError, match="scale"):
        adapters.load_adapters(session.model, [AdapterFile(path=str(path), scale=scale)])
