"""Model files: those on this disk, what a GGUF file says of itself, and the shipped catalogue."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
from model_files import Place, sha256, write_gguf

from joules.core.catalogue import Catalogue, Source
from joules.core.errors import UserError
from joules.core.places import REPOSITORY
from joules.core.reading import read_catalogue
from joules.inputs import prompts
from joules.inputs.chat_template import render_chat
from joules.inputs.gguf_facts import GgufFacts, gguf_facts


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_path_is_linked_not_copied(place, tmp_path):
    source = write_gguf(tmp_path / "made.gguf")
    place.fetch(Source(path=str(source), sha256=sha256(source.read_bytes())))
    assert place.target.samefile(source)
    assert not place.target.is_symlink()
    assert place.files() == ["tiny.gguf"]


def test_a_path_can_be_fetched_again(place, tmp_path):
    source = write_gguf(tmp_path / "made.gguf")
    known = Source(path=str(source), sha256=sha256(source.read_bytes()))
    place.fetch(known)
    place.fetch(known)
    assert place.files() == ["tiny.gguf"]


def test_a_path_that_is_a_symbolic_link_is_followed(place, tmp_path):
    source = write_gguf(tmp_path / "made.gguf")
    (tmp_path / "link.gguf").symlink_to(source)
    place.fetch(Source(path=str(tmp_path / "link.gguf"), sha256=sha256(source.read_bytes())))
    assert not place.target.is_symlink()
    assert place.target.samefile(source)


def test_a_path_on_another_file_system_is_copied(place, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    source = write_gguf(tmp_path / "made.gguf")
    place.fetch(Source(path=str(source), sha256=sha256(source.read_bytes())))
    assert place.target.read_bytes() == source.read_bytes()
    assert not place.target.samefile(source)


def test_a_relative_path_is_relative_to_the_repository(place):
    with pytest.raises(UserError, match=str(REPOSITORY / "data/missing.gguf")):
        place.fetch(Source(path="data/missing.gguf", sha256="0" * 64))


def test_a_path_with_wrong_bytes_is_refused_and_left_alone(place, tmp_path):
    source = write_gguf(tmp_path / "made.gguf")
    before = source.read_bytes()
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, got {sha256(before)}"):
        place.fetch(Source(path=str(source), sha256="0" * 64))
    assert source.read_bytes() == before
    assert place.files() == []


def test_a_path_that_is_no_gguf_is_refused(place, tmp_path):
    source = tmp_path / "page.gguf"
    source.write_bytes(b"PK\x03\x04 an archive")
    with pytest.raises(UserError, match="begins with b'GGUF', got b'PK"):
        place.fetch(Source(path=str(source), sha256=sha256(source.read_bytes())))
    assert source.exists()


def test_the_facts_of_a_file_are_read(tmp_path):
    path = write_gguf(
        tmp_path / "a.gguf",
        file_type=gguf.LlamaFileType.MOSTLY_Q4_K_M,
        template="{{ messages }}",
        add_bos=True,
    )
    assert gguf_facts(path) == GgufFacts(
        architecture="llama",
        name="tiny",
        parameters=256 * 256 + 32,
        quantization="Q4_K_M",
        context_length=2048,
        tokenizer="gpt2",
        add_bos=True,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        chat_template="{{ messages }}",
    )


def test_what_a_file_does_not_say_is_as_the_runtimes_take_it(tmp_path):
    plain = gguf_facts(write_gguf(tmp_path / "a.gguf"))
    assert (plain.chat_template, plain.quantization, plain.add_bos) == (None, "F32", False)
    assert gguf_facts(write_gguf(tmp_path / "b.gguf", pre="llama-bpe")).add_bos
    sentencepiece = gguf_facts(write_gguf(tmp_path / "c.gguf", tokenizer="llama"))
    assert sentencepiece.add_bos
    assert (sentencepiece.bos_token, sentencepiece.eos_token) == ("<s>", "</s>")


def test_a_missing_file_has_no_facts(tmp_path):
    with pytest.raises(UserError, match="no model file"):
        gguf_facts(tmp_path / "missing.gguf")


@pytest.mark.parametrize("kept", [0, 4, 100, -1000])
def test_a_truncated_file_has_no_facts(tmp_path, kept):
    path = write_gguf(tmp_path / "a.gguf")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="not a whole GGUF file"):
        gguf_facts(path)


def changed(tmp_path: Path, old: bytes, new: bytes) -> Path:
    """Return a bundled model of which the first place with some bytes was changed."""
    content = (REPOSITORY / "data/demo-model/parrot-1m.gguf").read_bytes()
    assert old in content
    path = tmp_path / "changed.gguf"
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"GGUF\x03", b"GGUF\x04", "it is of version 4"),
        (b"general.type", b"general.name", "the key general.name stands there twice"),
        (b"parrot-1m", b"parrot\xff1m", "a text in it is not UTF-8, near b'parrot\\xff1m'"),
        (b"general.name", b"general.\xffame", "not UTF-8"),
        (b"general.name\x08", b"general.name\x63", "a value is of the unknown type 99"),
        (
            b"blk.0.attn_k.weight",
            b"blk.0.attn_q.weight",
            "the tensor blk.0.attn_q.weight stands there twice",
        ),
    ],
)
def test_what_is_not_known_of_a_whole_file_is_named_and_no_deletion_advised(
    tmp_path, old, new, words
):
    with pytest.raises(UserError) as caught:
        gguf_facts(changed(tmp_path, old, new))
    assert words in str(caught.value) and "cannot be read here" in str(caught.value)
    assert "elete" not in str(caught.value)


def test_a_tensor_of_an_unknown_type_is_named(tmp_path):
    source = REPOSITORY / "data/demo-model/parrot-1m.gguf"
    field = gguf.GGUFReader(source).tensors[0].field
    place = field.offset + sum(int(part.nbytes) for part in field.parts[:4])
    content = bytearray(source.read_bytes())
    content[place : place + 4] = (200).to_bytes(4, "little")
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(UserError, match=r"a tensor is of the unknown type 200.*keep it"):
        gguf_facts(tmp_path / "a.gguf")


def test_a_text_file_has_no_facts(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_text("not a model" * 100)
    with pytest.raises(UserError, match="GGUF magic invalid"):
        gguf_facts(path)


def test_a_file_without_weights_has_no_facts(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="not a whole GGUF file.*no weights"):
        gguf_facts(tmp_path / "a.gguf")


def test_one_file_of_several_has_no_facts(tmp_path):
    with pytest.raises(UserError, match="one of 2 files"):
        gguf_facts(write_gguf(tmp_path / "a.gguf", split=2))


def test_the_reader_is_not_loaded_with_the_module():
    code = (
        "import sys, joules.inputs.gguf_facts, joules.inputs.model_files;"
        "sys.exit('gguf' in sys.modules or 'requests' in sys.modules)"
    )
    path = {"PYTHONPATH": str(REPOSITORY / "workflow/scripts")}
    subprocess.run([sys.executable, "-c", code], env=os.environ | path, check=True)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue()


def test_the_shipped_catalogue_gets_its_defaults(catalogue):
    assert catalogue.models["qwen2.5-coder-7b-instruct"].bundled is False
    assert catalogue.models["codegemma-2b"].newline == "unchanged"
    bundled = {name for name, entry in catalogue.models.items() if entry.bundled}
    assert bundled == {"parrot-1m", "parrot-3m"}


def test_every_address_is_that_of_its_repository_revision_and_file(catalogue):
    addressed = [entry for entry in catalogue.models.values() if entry.url]
    assert addressed
    for entry in addressed:
        revision = entry.revision or "main"
        address = f"https://huggingface.co/{entry.repo}/resolve/{revision}/{entry.file}"
        assert entry.url == address


def test_bundled_files_are_what_the_catalogue_says(catalogue):
    for entry in catalogue.models.values():
        if entry.bundled:
            content = (REPOSITORY / entry.path).read_bytes()
            assert (sha256(content), len(content)) == (entry.sha256, entry.bytes)


def test_the_chat_templates_render_as_their_authors_publish_them(catalogue):
    problem = "def f():\n"
    deepseek = catalogue.models["deepseek-coder-1.3b-instruct"].chat_template
    asked = prompts.INSTRUCTION.format(problem=problem.strip("\n"))
    text = render_chat(deepseek, asked, "<B>", "<E>", adds_bos=False)
    assert text.startswith("<B>You are an AI programming assistant, utilizing the Deepseek Coder")
    assert text.endswith(
        f"you will refuse to answer\n### Instruction:\n{asked}\n### Response:\n{prompts.PREFILL}"
    )
    codellama = catalogue.models["codellama-7b-instruct"].chat_template
    text = render_chat(codellama, asked, "<s>", "</s>", adds_bos=False)
    assert text == f"<s>[INST] {asked.strip()} [/INST] {prompts.PREFILL}"
