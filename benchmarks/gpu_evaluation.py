"""The section of gpu.py that asks questions about several clips as an evaluation does, from pixels to answers."""

from dataclasses import replace
from typing import Any

from gpu_shapes import Bench, compared, counts_of, free, now
from gpu_training import settings

from vtg.annotations.sample import Sample
from vtg.data.grounding_dataset import GroundingDataset
from vtg.evaluation.generate import predict
from vtg.evaluation.question_reader import QuestionReader
from vtg.memory.estimate import estimate
from vtg.memory.training_load import Batch
from vtg.memory.workload import Workload

QUERIES = ("a red square moves to the left", "a person sits down", "the door is opened", "somebody laughs, and leaves")


def evaluation(bench: Bench, found: dict[str, Any]) -> None:
    """Long clips with one question each, and half as many with four, by `vtg.evaluation.generate.predict`."""
    free()
    config = settings(bench)
    model = bench.model(bench.scale.models[0], fused=True)
    own = counts_of(model.config, model.dtype, config)
    cases = {"one question a clip": (bench.scale.evaluated, 1), "four": (bench.scale.evaluated // 2, 4)}
    for name, (clips, asked) in cases.items():
        if bench.reaches(found, name):
            found[name] = _evaluated(bench, config, model, own, clips=clips, asked=asked)


def _evaluated(bench: Bench, config: Any, model: Any, own: Any, *, clips: int, asked: int) -> dict[str, Any]:
    frames, plain = bench.scale.frames, bench.dataset([bench.scale.frames], training=False)
    sample: Sample = plain.samples[0]
    samples = [
        replace(sample, video=f"clip-{clip}-frames-{frames}", query=query, qid=f"{clip}-{query}")
        for clip in range(clips)
        for query in QUERIES[:asked]
    ]
    dataset = GroundingDataset(
        samples,
        task=plain.task,
        processor=bench.processor,
        provider=plain.provider,
        video_dir=None,
        max_length=plain.max_length,
        tokens_per_second=plain.tokens_per_second,
        training=False,
    )
    reader = QuestionReader([dataset], num_workers=4 if bench.on_gpu else 0)
    size = config.evaluation.batch_size
    told = {"batch_size": size, "max_new_tokens": bench.scale.new_tokens, "reader": reader}
    # Kernels and workers are there in all but the first evaluation of a training; graphs are captured in each.
    predict(model, dataset, **told)
    free()
    start = now()
    rows, skipped = predict(model, dataset, **told)
    seconds = now() - start
    assert len(rows) == len(samples) and not skipped
    features = dataset.features(samples[0])
    length, vision = len(features["input_ids"]), int((features["mm_token_type_ids"] == 2).sum())
    batch = Batch(size, length + bench.scale.new_tokens, size * vision)
    setup = Workload(config).training_setup(gpu=bench.on_gpu, ranks=1)
    expected = estimate(own, Batch(1, length, vision), setup, generating=batch)
    return {
        "clips": clips,
        "questions": len(samples),
        "prompt_tokens": length,
        "seconds": seconds,
        "seconds_a_sample": seconds / len(samples),
        **compared(expected.generation_bytes - expected.optimizer_bytes, expected),
    }
