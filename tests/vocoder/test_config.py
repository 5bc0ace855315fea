"""Reading cosyvoice.yaml as data: the public layout, and every way the file can be wrong."""

from pathlib import Path

import pytest

from services.shared.errors import CheckpointError, CorruptFileError, MissingFileError
from services.vocoder.config import CONFIG_FILE, EncoderConfig, EstimatorConfig, load_config
from tests.vocoder.cases import GOLDEN_FOLDER, NANO_FOLDER

pytestmark = pytest.mark.unit

TEXT = (GOLDEN_FOLDER / CONFIG_FILE).read_text()


def write(folder: Path, text: str) -> Path:
    (folder / CONFIG_FILE).write_text(text)
    return folder


def test_the_public_layout_is_read() -> None:
    config = load_config(NANO_FOLDER)
    assert config.sample_rate_hz == config.hift.sample_rate_hz == 22050
    assert config.flow.vocab_size == 5120
    assert config.flow.token_rate_hz == 41.6667
    assert config.flow.guidance == 2.0
    assert config.flow.encoder == EncoderConfig(128, 128, 2, 256, 2)
    assert config.flow.estimator == EstimatorConfig(128, 1, 2, 4, 32)
    assert config.hift.harmonics == 9
    assert config.hift.resblock_dilations == ((1, 3, 5),) * 3
    assert config.hift.hop_samples == 256


def test_unknown_keys_are_tolerated_and_left_out_ones_take_the_releases_defaults(tmp_path: Path) -> None:
    text = TEXT.replace("    only_mask_loss: True\n", "    something_new: {deep: [1, 2]}\n")
    text = text.replace("    resblock_kernel_sizes: [3, 7, 11]\n", "") + "\nllm: !new:some.where.Else\n    x: 1\n"
    assert load_config(write(tmp_path, text)) == load_config(GOLDEN_FOLDER)


def test_nothing_a_tag_names_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    text = TEXT + f"\nextra: !apply:os.mkdir ['{trap}']\nother: !new:pathlib.Path\n    x: 1\n"
    load_config(write(tmp_path, text))
    assert not trap.exists()


def test_a_python_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"cosyvoice\.yaml"):
        load_config(write(tmp_path, TEXT + "\nextra: !!python/object/apply:os.getcwd []\n"))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("    vocab_size: 5121\n", "", "flow.vocab_size"),
        ("    input_frame_rate: 41.666666\n", "", "flow.input_frame_rate"),
        ("    input_frame_rate: 41.666666\n", "    input_frame_rate: fast\n", "flow.input_frame_rate"),
        ("    input_frame_rate: 41.666666\n", "    input_frame_rate: 0\n", "flow.input_frame_rate"),
        ("    vocab_size: 5121\n", "    vocab_size: many\n", "flow.vocab_size"),
        ("        attention_heads: 4\n", "        attention_heads: 5\n", "flow.encoder.attention_heads"),
        ("            channels: [24, 24]\n", "            channels: [24, 32]\n", "flow.decoder.estimator.channels"),
        ("    upsample_rates: [8, 8]\n", "    upsample_rates: [8, 4]\n", "hift.upsample_rates"),
        ("    upsample_rates: [8, 8]\n", "    upsample_rates: 8\n", "hift.upsample_rates"),
        (
            "    source_resblock_kernel_sizes: [7, 11]\n",
            "    source_resblock_kernel_sizes: [7]\n",
            "hift.source_resblock",
        ),
        ("    base_channels: 32\n", "    base_channels: 33\n", "hift.base_channels"),
        ("hift: !new", "hiift: !new", "hift"),
        (
            "    sampling_rate: !ref <sample_rate>\n    nsf",
            "    sampling_rate: !ref <nowhere>\n    nsf",
            "hift.sampling_rate",
        ),
    ],
)
def test_a_missing_or_wrong_key_is_named_with_the_file(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in TEXT
    with pytest.raises(CorruptFileError, match=rf"cosyvoice\.yaml.*{key}"):
        load_config(write(tmp_path, TEXT.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("rel_pos_espnet", "rope", "flow.encoder.pos_enc_layer_type"),
        ("            act_fn: 'gelu'", "            act_fn: 'relu'", "flow.decoder.estimator.act_fn"),
        ("t_scheduler: 'cosine'", "t_scheduler: 'square'", "t_scheduler"),
        ("sample_rate: 22050", "sample_rate: 24000", "sample_rate"),
        ("use_cnn_module: False", "use_cnn_module: True", "flow.encoder.use_cnn_module"),
    ],
)
def test_a_network_that_is_not_implemented_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in TEXT
    with pytest.raises(CheckpointError, match=rf"cosyvoice\.yaml.*{key}.*implemented"):
        load_config(write(tmp_path, TEXT.replace(old, new)))


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [1,", "\x00\x01"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorruptFileError, match=r"cosyvoice\.yaml"):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"cosyvoice\.yaml"):
        load_config(tmp_path)
