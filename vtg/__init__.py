"""Fine-tuning of Qwen-VL models for video temporal grounding."""

from vtg.threads import share_cores

__version__ = "0.2.0"

share_cores()  # before any module here imports torch
