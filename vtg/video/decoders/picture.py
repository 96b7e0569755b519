"""From decoded pictures to the array that a model input is made of."""

import numpy as np


def resized(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W, 3) uint8 → (N, 3, height, width) uint8, bicubic with antialiasing.

    The very function by which Hugging Face's video processors resize (torchvision's, in 8-bit integers where the CPU
    has AVX2), so the pixels are theirs. qwen-vl-utils resizes in floats: at most a few grey levels away.
    """
    if pictures.shape[1:3] == size:
        return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    # torch takes seconds to import, and only exact resizing needs it.
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    stacked = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    small = resize(stacked, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)
    return small.contiguous().numpy()
