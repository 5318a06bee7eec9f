"""The public surface: what `import ns_video` offers is there, documented and typed."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ns_video
from ns_video import errors


def test_all_names_are_there_and_documented() -> None:
    assert sorted(ns_video.__all__) == sorted(set(ns_video.__all__))
    for name in ns_video.__all__:
        value = getattr(ns_video, name)
        if name != "__version__":
            assert inspect.getdoc(value), name


def test_interface_names() -> None:
    assert {"restore", "load_model", "NsVideoError", "RunRecord"} <= set(ns_video.__all__)
    assert {"RestoreOptions", "restore_steps", "Progress", "verify", "Difference"} <= set(ns_video.__all__)
    assert {name for name in errors.__all__ if name[0].isupper()} <= set(ns_video.__all__)
    assert list(inspect.signature(ns_video.restore).parameters)[:3] == ["input", "output", "preset"]


def test_the_example_of_the_readme_runs(plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    (tmp_path / "in.mp4").write_bytes(plain_clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert isinstance(names["record"], ns_video.RunRecord) and names["record"].exit_code == 0
    assert names["out"].shape == names["rgb"].shape and bool((names["out"] == names["rgb"]).all())
    updates = list(ns_video.restore_steps("in.mp4", "again.mp4", ns_video.RestoreOptions(model="identity")))
    assert all(isinstance(update, ns_video.Progress) for update in updates)
    assert all(isinstance(told, ns_video.Difference) for told in ns_video.verify("in.mp4", "out.mp4"))


def test_load_model_gives_a_call_from_tensor_to_tensor(small_model: Path) -> None:
    import torch

    enhancer = ns_video.load_model(str(small_model), device="cpu")
    rgb = torch.rand(2, 3, 20, 26)
    out = enhancer(rgb)
    assert isinstance(enhancer, ns_video.Enhancer)
    assert out.shape == rgb.shape and 0 <= float(out.min()) <= float(out.max()) <= 1
    assert float((out - rgb).abs().max()) > 0


def test_a_call_with_no_pictures_is_a_usage_error(small_model: Path) -> None:
    import torch

    enhancer = ns_video.load_model(str(small_model), device="cpu")
    for wrong in (torch.zeros(0, 3, 8, 8), torch.zeros(1, 3, 0, 8), torch.zeros(3, 8, 8), [[0.0]], None):
        with pytest.raises(ns_video.UsageError, match="shape"):
            enhancer(wrong)


def test_a_call_with_no_values_is_a_usage_error(small_model: Path) -> None:
    import torch

    enhancer = ns_video.load_model(str(small_model), device=torch.device("cpu"))  # as restore takes it
    rgb = torch.rand(1, 3, 8, 8)
    for wrong in (rgb.to_sparse(), rgb.to("meta")):
        with pytest.raises(ns_video.UsageError, match="a dense tensor"):
            enhancer(wrong)


def test_an_unknown_option_is_a_usage_error_that_lists_the_known() -> None:
    with pytest.raises(ns_video.UsageError, match=r"no option 'nope' \(known are allow_protocols, .*, verify\)"):
        ns_video.restore("a.mp4", "b.mp4", nope=1)


def test_what_is_no_path_is_a_usage_error(tmp_path: Path) -> None:
    for source, target in (("a\0.mp4", "b.mp4"), ("a.mp4", str(tmp_path / "b\0.mp4")), ("", "b.mp4")):
        with pytest.raises(ns_video.UsageError, match="is no path"):
            ns_video.restore(source, target, model="identity")
    for model in (None, 3, "", "a\0", "a\0.pth"):
        with pytest.raises(ns_video.UsageError, match="model"):
            ns_video.load_model(model)  # pyright: ignore[reportArgumentType]


def test_windows_of_tiles_are_known_without_a_network() -> None:
    from ns_video import preset, tile

    assert ("auto", *tile.BLENDS) == preset.BLENDS
    with pytest.raises(ns_video.UsageError, match="no blend 'bogus'"):
        ns_video.restore("a.mp4", "b.mp4", model="identity", blend="bogus")


def test_what_is_imported_later_is_listed() -> None:
    found = "{'restore', 'RunRecord', 'errors'} <= set(dir(ns_video)), 'torch' in sys.modules"
    line = f"import sys, ns_video; print({found})"
    assert subprocess.check_output([sys.executable, "-c", line], text=True).split() == ["True", "False"]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        ns_video.no_such_thing  # noqa: B018


def test_typed_marker_is_there() -> None:
    assert (Path(ns_video.__file__).parent / "py.typed").exists()


def test_every_error_derives_from_one_and_has_its_exit_code() -> None:
    wanted = {"UsageError": 2, "DownstreamClosed": 141, "Interrupted": 130}
    wanted |= {"UnknownModelError": 2, "UnknownDeviceError": 2, "OutputBusyError": 2}
    names = [n for n in errors.__all__ if n.endswith(("Error", "Closed", "Interrupted"))]
    assert len(names) >= 12
    for name in names:
        kind = getattr(errors, name)
        assert issubclass(kind, ns_video.NsVideoError)
        assert kind.exit_code == wanted.get(name, 1)
        assert name in (errors.__doc__ or "")


def test_an_error_names_stage_time_cause_and_remedy() -> None:
    error = errors.InputError("no such thing", stage="decode", pts_seconds=1.25, remedy="try another")
    assert str(error) == "decode at 1.250 s: no such thing (try another)"
    assert str(errors.InputError("plain")) == "plain"


@pytest.mark.parametrize("module", ["pipeline", "preset", "record", "prefetch", "flow", "journal", "media.mux"])
def test_what_a_module_exports_exists(module: str) -> None:
    loaded = importlib.import_module(f"ns_video.{module}")
    assert inspect.getdoc(loaded)
    for name in getattr(loaded, "__all__", ()):
        assert hasattr(loaded, name), name
