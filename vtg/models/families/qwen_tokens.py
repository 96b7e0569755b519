"""The special tokens that all Qwen-VL families share; their chats are ChatML."""

ASSISTANT_START = "<|im_start|>assistant\n"
TURN_END = "<|im_end|>"

VISION_TOKENS = ("<|video_pad|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
