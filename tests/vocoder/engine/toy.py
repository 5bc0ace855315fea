"""A vocoder folder of toy sizes with random weights, in the public layout, and its exported graphs."""

import shutil
from pathlib import Path

import torch

from services.vocoder.config import CONFIG_FILE, FLOW_FILE, HIFT_FILE, SPEAKER_FILE, load_config
from services.vocoder.flow import Flow
from services.vocoder.hift import HiFT
from tests.vocoder.cases import NANO_FOLDER

TOY_YAML = """
sample_rate: 22050
flow: !new:flow
    input_size: 16
    output_size: 80
    spk_embed_dim: 192
    vocab_size: 5120
    input_frame_rate: 41.6667
    encoder: !new:encoder
        {output_size: 16, attention_heads: 2, linear_units: 32, num_blocks: 1}
    length_regulator: !new:regulator
        {channels: 80, sampling_ratios: [1]}
    decoder: !new:cfm
        cfm_params: !new:params
            {solver: euler, t_scheduler: cosine, inference_cfg_rate: 0.7}
        estimator: !new:estimator
            {channels: [16, 16], n_blocks: 1, num_mid_blocks: 1, num_heads: 2, attention_head_dim: 8}
hift: !new:hift
    sampling_rate: !ref <sample_rate>
    base_channels: 16
    resblock_kernel_sizes: [3]
    resblock_dilation_sizes: [[1]]
    source_resblock_kernel_sizes: [3, 3]
    source_resblock_dilation_sizes: [[1], [1]]
    istft_params: {n_fft: 16, hop_len: 4}
    f0_predictor: !new:f0
        {cond_channels: 16}
"""


def write_folder(folder: Path, *, seed: int = 0) -> Path:
    """Write the folder; equal seeds give equal folders."""
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text(TOY_YAML)
    shutil.copy(NANO_FOLDER / SPEAKER_FILE, folder / SPEAKER_FILE)
    config = load_config(folder)
    generator = torch.Generator().manual_seed(seed)
    for module, name in ((Flow(config.flow), FLOW_FILE), (HiFT(config.hift), HIFT_FILE)):
        with torch.no_grad():
            for parameter_name, value in module.named_parameters():
                if value.dim() > 1 and not parameter_name.endswith("weight_g"):
                    value.normal_(0, value[0].numel() ** -0.5, generator=generator)
        torch.save(module.state_dict(), folder / name)
    return folder
