"""Values that cannot be are refused by their key, with what is allowed, before a model loads."""

import pytest
from hydra import compose, initialize_config_dir

from vtg.config import rules
from vtg.config.load import load_config
from vtg.config.schema import RLConfig, SFTConfig
from vtg.entry import conf_dir
from vtg.errors import ConfigError


def composed(*words: str, program: str = "sft") -> SFTConfig:
    words = tuple(f"++{word}" if word.startswith(("trainer.", "rl.")) else word for word in words)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return load_config(compose(program, overrides=list(words)), RLConfig if program == "rl" else SFTConfig)


WRONG = {
    "trainer.per_device_train_batch_size=0": "trainer.per_device_train_batch_size = 0: must be at least 1",
    "trainer.gradient_accumulation_steps=0": "trainer.gradient_accumulation_steps = 0: must be at least 1",
    "trainer.gradient_accumulation_steps=1.5": ("trainer.gradient_accumulation_steps = 1.5: must be a whole number"),
    "trainer.max_steps=0": "trainer.max_steps = 0: must be at least 1, or -1 for num_train_epochs",
    "trainer.max_steps=[1]": "trainer.max_steps = [1]: must be a number",
    "trainer.learning_rate=fast": "trainer.learning_rate = 'fast': must be a number",
    "trainer.learning_rate=null": "trainer.learning_rate = None: must be a number",
    "trainer.learning_rate=nan": "trainer.learning_rate = nan: must be a number",
    "trainer.label_smoothing_factor=1": "trainer.label_smoothing_factor = 1: must be at least 0 and below 1",
    "trainer.adam_beta1=2": "trainer.adam_beta1 = 2: must be at least 0 and below 1",
    "trainer.save_total_limit=0": "trainer.save_total_limit = 0: must be at least 1",
    "trainer.report_to=sheet": "trainer.report_to = 'sheet': must be none, all, or some of azure_ml, ",
    "evaluation.batch_size=0": "evaluation.batch_size = 0: must be at least 1",
    "evaluation.max_val_samples=-1": "evaluation.max_val_samples = -1: must be at least 0",
    "lora.r=0": "lora.r = 0: must be at least 1; lora=none trains without LoRA",
    "lora.alpha=0": "lora.alpha = 0: must be at least 1, or the update is scaled to nothing",
    "output_dir=": "output_dir is empty; give a name, or leave it out",
    "run_name=": "run_name is empty; give a name, or leave it out",
    "seed=-1": "seed = -1: must be at least 0 and below 4294967296",
    "model.patch_factor=0": "model.patch_factor = 0: must be at least 1",
    "data.max_samples=-1": "data.max_samples = -1: must be 0 (all) or more",
    "lora.dropout=1": "lora.dropout = 1.0: must be at least 0 and below 1",
    "lora.target_modules=3": "lora.target_modules = 3: must be all-linear, a list of names, or a regular expression",
    "lora.target_modules='*'": "lora.target_modules = '*': not a regular expression (",
    "task.selection=first": "task.selection = 'first': that is fixed here; must be one of fixed, seeded, random",
    "model.dtype=bf16": "model.dtype = 'bf16': that is bfloat16 here; must be one of ",
    "batching.max_batch_size=-1": "batching.max_batch_size = -1: must be at least 0",
    "augmentation.crop=2": "augmentation.crop = 2.0: must be a share of the rows, from 0 to 1",
    "augmentation.crop_min_share=0": "augmentation.crop_min_share = 0.0: must be over 0, and at most 1",
    "augmentation.speed=0.2": "augmentation.speed = 0.2: must be a factor from 1 (as it is) to 4",
    "augmentation.color=1": "augmentation.color = 1.0: must be at least 0 and below 1",
    "augmentation.shift=0.5 batching.packing=true batching.share_video=true": (
        "augmentation.shift = 0.5 changes the clip of each row by itself, and batching.share_video holds one for all"
    ),
    "batching.max_batch_size=2 batching.min_batch_size=3": "batching.min_batch_size = 3, batching.max_batch_size = 2: ",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_value_that_cannot_be_is_refused_by_its_key(words):
    with pytest.raises(ConfigError) as error:
        composed(*words.split())
    assert str(error.value).startswith(WRONG[words])


def test_a_package_that_is_not_there_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("vtg.config.arguments.find_spec", lambda name: None)
    monkeypatch.setattr(rules, "find_spec", lambda name: None)
    for word, install in {
        "trainer.report_to=wandb": "wandb is not installed; pip install 'vtg[wandb]', or set trainer.report_to=",
        "trainer.report_to=[tensorboard,mlflow]": "tensorboard is not installed; pip install tensorboard, or set ",
        "video.decoder=decord": "decord is not installed; pip install 'vtg[video]', or set video.decoder=auto",
        "video.decoder=torchcodec": "torchcodec is not installed; pip install 'vtg[video]', or set video.decoder=auto",
    }.items():
        with pytest.raises(ConfigError) as error:
            composed(word, "trainer.report_to=none") if "report_to" not in word else composed(word)
        assert install in str(error.value)


def test_a_reference_that_never_moves_is_not_synchronised():
    with pytest.raises(ConfigError, match=r"rl\.sync_ref_model = true: with LoRA .* set lora=none"):
        composed("rl.sync_ref_model=true", "rl.beta=0.1", program="rl")
    with pytest.raises(ConfigError, match=r"rl\.sync_ref_model = true: rl\.beta = 0 needs no reference"):
        composed("rl.sync_ref_model=true", "lora=none", program="rl")
    composed("rl.sync_ref_model=true", "rl.beta=0.1", "lora=none", program="rl")


def test_no_limit_may_be_null_and_modules_may_be_a_list():
    assert composed("batching.max_batch_size=null").batching.max_batch_size is None
    assert composed("lora.target_modules=[q_proj,v_proj]").lora.target_modules == ["q_proj", "v_proj"]
    assert composed("trainer.save_total_limit=null").trainer["save_total_limit"] is None
