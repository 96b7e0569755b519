"""Fine-tuning of Qwen-VL models for video temporal grounding."""

from vtg.threads import share_cores

share_cores()  # before any module here imports torch
