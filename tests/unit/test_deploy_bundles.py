"""The `bundle` commands: reproducible bundles, and one sentence for a wrong one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deploy.bundles import INITIALISERS, PRESETS, PresetName, app, init_bundle
from fusion.model import FusionModel
from xscene.nn.bundle import open_bundle
from xscene.nn.bundle_writer import BundleContent, SectionContent, write_bundle

SMALL = PRESETS[PresetName.SMALL]
ROOT = Path(__file__).resolve().parents[2]


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def failed(result, message):
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout


def model_id(directory) -> str:
    return open_bundle(directory).model_id


@pytest.mark.parametrize(("preset", "width"), [("small", 256), ("crossover", 768)])
def test_init_makes_an_untrained_bundle_that_the_fusion_model_takes(tmp_path, preset, width):
    result = call("init", "--preset", preset, "--out", tmp_path / "bundles" / "new")
    assert result.exit_code == 0
    bundle = open_bundle(tmp_path / "bundles" / "new")
    assert bundle.model_id in result.stdout
    manifest = bundle.manifest
    assert (manifest.name, manifest.preset, manifest.width, manifest.trained) == ("new", preset, width, False)
    assert FusionModel.from_bundle(bundle).width == width


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path):
    for directory, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert call("init", "--out", tmp_path / directory, "--seed", seed).exit_code == 0
    assert model_id(tmp_path / "a") == model_id(tmp_path / "b")
    assert model_id(tmp_path / "a") != model_id(tmp_path / "c")


def test_init_leaves_the_callers_random_numbers_alone(tmp_path):
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    init_bundle(SMALL, tmp_path / "a", name="a", seed=0)
    assert torch.equal(torch.rand(3), wanted)


def test_a_name_may_differ_from_the_directory(tmp_path):
    assert call("init", "--out", tmp_path / "Some Where", "--name", "mine").exit_code == 0
    assert open_bundle(tmp_path / "Some Where").manifest.name == "mine"


def test_init_again_is_no_fault_but_never_overwrites(tmp_path):
    out = tmp_path / "a"
    assert [call("init", "--out", out).exit_code for _ in range(2)] == [0, 0]
    before = model_id(out)
    failed(call("init", "--out", out, "--seed", 9), "bundle a is there and differs in model_id")
    assert model_id(out) == before


def test_a_name_that_no_bundle_may_have_is_one_sentence(tmp_path):
    failed(call("init", "--out", tmp_path / "a", "--name", "A B"), "name: is 'A B', needed: 1 to 64 of")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    failed(call("init", "--out", tmp_path / "file" / "a"), "error: ")


def test_sections_are_open_and_a_further_one_changes_no_other(tmp_path):
    def text(preset, seed):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.rand(preset.width, generator=generator)
        return SectionContent(schema="text/1", config={"seed": seed}, tensors={"weight": weight})

    more = {**INITIALISERS, "text": text, "image": text}
    one = init_bundle(SMALL, tmp_path / "one", name="one", seed=0)
    three = init_bundle(SMALL, tmp_path / "three", name="three", seed=0, initialisers=more)
    assert set(three.manifest.sections) == {*INITIALISERS, "text", "image"}
    assert three.section("fusion") == one.section("fusion")
    assert three.section("text").config != three.section("image").config
    assert three.model_id != one.model_id


def test_show_names_all_that_identifies_the_bundle(tmp_path):
    call("init", "--out", tmp_path / "a")
    result = call("show", tmp_path / "a")
    assert result.exit_code == 0
    bundle = open_bundle(tmp_path / "a")
    text = "".join(result.stdout.split())
    for wanted in ("small,width256", bundle.model_version, "answerscarrynomeaning", "fusion/1", "66,182"):
        assert wanted in text
    # The table folds the digest over lines.
    assert bundle.model_id[:40] in text


def test_show_prints_notes_as_they_are(tmp_path):
    sections = {"fusion": FusionModel(4).section()}
    notes = "best of [3] runs [/red]"
    write_bundle(
        BundleContent(name="a", preset="p", width=4, trained=True, sections=sections, notes=notes),
        tmp_path / "a",
    )
    assert notes in call("show", tmp_path / "a").stdout


def test_show_for_programs_is_the_manifest_and_the_version(tmp_path):
    call("init", "--out", tmp_path / "a")
    shown = json.loads(call("show", tmp_path / "a", "--json").stdout)
    assert shown.pop("model_version") == open_bundle(tmp_path / "a").model_version
    assert shown == json.loads((tmp_path / "a" / "manifest.json").read_text())


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_an_invalid_bundle_is_one_sentence_and_exit_one(tmp_path, flags):
    call("init", "--out", tmp_path / "a")
    path = tmp_path / "a" / "fusion.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    failed(call("show", tmp_path / "a", *flags), "bundle a: section fusion: torn, fusion.safetensors has")


def test_a_bundle_that_is_not_there_is_one_sentence(tmp_path):
    failed(call("show", tmp_path / "none"), "bundle none: there is no such directory")


def test_the_size_limit_of_show_is_a_flag(tmp_path):
    call("init", "--out", tmp_path / "a")
    failed(call("show", tmp_path / "a", "--max-bytes", 10), "bytes, the limit is 10")


@pytest.mark.parametrize("command", ["init", "show"])
def test_help_has_an_example(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"Example: python -m deploy bundle {command}" in result.stdout


def run_python(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_commands_are_known_without_torch():
    result = run_python("import sys, deploy.bundles; sys.exit('torch' in sys.modules)")
    assert result.returncode == 0, result.stderr


def test_a_missing_package_is_one_sentence_with_the_extra(tmp_path):
    block = "import sys; sys.modules['torch'] = None; from deploy.bundles import app; "
    for args in (["init", "--out", str(tmp_path / "a")], ["show", str(tmp_path)]):
        result = run_python(f"{block}app({args!r})")
        assert result.returncode == 1
        assert result.stderr.strip() == (
            "error: bundle needs packages that are not installed: pip install 'xscene[fusion]'"
        )
