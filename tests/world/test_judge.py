from pathlib import Path

import lightning as L
import pytest
import torch
from safetensors.torch import load_file

from mira_pl.judges import TruthJudge, parse
from mira_pl.judges import truth as truth_module
from mira_pl.world.judge import JudgeNetwork, JudgeTraining, Verdict, distort, loss
from mira_pl.world.names import COLOURS, NATURAL, SUBJECTS
from mira_pl.world.render import Renderer
from mira_pl.world.scenes import NOTHING, generator, sample_scenes
from mira_pl.world.training import Ticks

CAT, DOG, APPLE = (SUBJECTS.index(name) for name in ("cat", "dog", "apple"))
RED, BLUE = COLOURS.index("red"), COLOURS.index("blue")


@pytest.fixture(scope="module")
def judge() -> TruthJudge:
    return TruthJudge()


@pytest.fixture(scope="module")
def fresh() -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Clean renders of a seed that nothing was trained on, with captions and whether a picture has two subjects."""
    scenes = sample_scenes(1000, generator(987, 0))
    return Renderer()(scenes), scenes.captions, scenes.subject[:, 1] != NOTHING


class Fixed(JudgeNetwork):
    """Sees the given logits in every picture."""

    def __init__(self, presence: dict[int, float], colour: dict[tuple[int, int], float]) -> None:
        super().__init__()
        self.verdict = Verdict(torch.full((1, len(SUBJECTS)), -9.0), torch.zeros(1, len(SUBJECTS), len(COLOURS) + 1))
        for subject, logit in presence.items():
            self.verdict.presence[0, subject] = logit
        for (subject, name), logit in colour.items():
            self.verdict.colour[0, subject, name] = logit

    def forward(self, images):
        return Verdict(*(logits.expand(len(images), *logits.shape[1:]) for logits in self.verdict))


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a cat", [("cat", None)]),
        ("generate an image of an elephant", [("elephant", None)]),
        ("a ant", [("ant", None)]),
        ("The blue pig.", [("pig", "blue")]),
        ("an orange bowl", [("bowl", "orange")]),
        ("a cat and a red apple", [("cat", None), ("apple", "red")]),
        ("generate an image of a mouse with glasses", [("mouse", None), ("glasses", None)]),
    ],
)
def test_parse(prompt, phrases):
    assert parse(prompt) == phrases


@pytest.mark.parametrize("prompt", ["", "a unicorn", "a turquoise cat", "a blue", "a cat on a red chair", "a cat and"])
def test_parse_refuses_what_the_world_lacks(prompt):
    with pytest.raises(ValueError, match="is no subject of the emoji world") as caught:
        parse(prompt)
    assert "\n" not in str(caught.value)


def test_right_animal_on_fresh_renders(judge, fresh):
    images, captions, two = fresh
    right = judge.right_subject(images, captions)
    assert set(right.tolist()) <= {0.0, 1.0}
    assert right[~two].mean() >= 0.99
    assert right[two].mean() >= 0.95


def test_right_colour_on_fresh_renders(judge, fresh):
    images, captions, _ = fresh
    right = judge.right_colour(images, captions)
    coloured = torch.tensor([any(colour for _, colour in parse(caption)) for caption in captions])
    assert torch.equal(right.isnan(), ~coloured)
    assert right[coloured].mean() >= 0.98


def test_distorted_pictures_are_still_recognised(judge, fresh):
    images, captions, two = fresh
    distorted, light_kept = distort(images, generator(988, 0))
    assert judge.right_subject(distorted, captions)[~two].mean() >= 0.95
    assert judge.right_colour(distorted, captions)[light_kept > 0].nanmean() >= 0.93


def test_wrong_prompts_are_found_out(judge, fresh):
    images, captions, _ = fresh
    kept = [i for i in range(len(captions) - 1) if not set(parse(captions[i + 1])) & set(parse(captions[i]))]
    true = judge.probability(images[kept], [captions[i] for i in kept])
    false = judge.probability(images[kept], [captions[i + 1] for i in kept])
    assert ((true >= 0) & (true <= 1)).all()
    assert (true > false).float().mean() >= 0.98


def test_batch_equals_singles(judge, fresh):
    images, captions = fresh[0][:12], fresh[1][:12]
    for answer in (judge.right_subject, judge.right_colour, judge.probability):
        alone = torch.cat([answer(images[i : i + 1], captions[i : i + 1]) for i in range(12)])
        torch.testing.assert_close(answer(images, captions), alone, equal_nan=True)


def test_judge_sees_the_saved_picture(judge, fresh):
    """Pixels beyond the range, which a reward may see, are clamped; precision does not matter."""
    images, captions = fresh[0][:12], fresh[1][:12]
    beyond = torch.where(images.abs() > 0.9, 2 * images, images)
    expected = judge.probability(beyond.clamp(-1, 1), captions)
    torch.testing.assert_close(judge.probability(beyond, captions), expected)
    torch.testing.assert_close(judge.probability(beyond.double(), captions), expected)


def test_judge_is_frozen(judge, fresh):
    assert not any(parameter.requires_grad for parameter in judge.network.parameters())
    assert not judge.probability(fresh[0][:1].clone().requires_grad_(), fresh[1][:1]).requires_grad


def test_one_animal_is_looked_for_among_animals(fresh):
    judge = TruthJudge(Fixed({CAT: 1.0, APPLE: 5.0, DOG: 0.0}, {}))
    assert judge.right_subject(fresh[0][:3], ["a cat", "a dog", "an apple"]).tolist() == [1, 0, 1]


def test_two_subjects_must_be_the_top_two_of_all(fresh):
    judge = TruthJudge(Fixed({CAT: 1.0, APPLE: 5.0, DOG: 0.0}, {}))
    prompts = ["a cat and a red apple", "a cat and a dog", "an apple and a cat"]
    assert judge.right_subject(fresh[0][:3], prompts).tolist() == [1, 0, 1]


def test_natural_is_no_answer_to_a_colour(fresh):
    judge = TruthJudge(Fixed({}, {(CAT, NATURAL): 9.0, (CAT, RED): 1.0, (DOG, BLUE): 1.0}))
    prompts = ["a red cat", "a blue cat", "a blue dog", "a cat", "a cat and a blue dog", "a blue cat and a blue dog"]
    answers = judge.right_colour(fresh[0][:6], prompts).tolist()
    assert answers == pytest.approx([1, 0, 1, float("nan"), 1, 0], nan_ok=True)


def test_probability_is_the_product_of_what_the_prompt_names(fresh):
    judge = TruthJudge(Fixed({CAT: 0.5, APPLE: -0.5}, {(APPLE, RED): 2.0, (APPLE, NATURAL): 9.0}))
    one, two = (torch.tensor(logit).sigmoid().item() for logit in (0.5, -0.5))
    red = torch.tensor([2.0] + [0.0] * 10).softmax(dim=0)[0].item()
    answers = judge.probability(fresh[0][:2], ["a cat", "a cat and a red apple"])
    assert answers.tolist() == pytest.approx([one, one * two * red])


@pytest.mark.parametrize(("content", "error"), [(None, FileNotFoundError), (b"damage", ValueError)])
def test_weights_missing_or_damaged(content, error, tmp_path, monkeypatch):
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    monkeypatch.setattr(truth_module, "packaged", lambda name: tmp_path / "model.safetensors")
    with pytest.raises(error, match=r"model\.safetensors is .*: reinstall mira_pl"):
        TruthJudge()


def test_distortion_comes_from_the_seed_and_keeps_the_shape():
    images = Renderer()(sample_scenes(16, generator(0, 0)))
    (one, kept), (two, _) = (distort(images, generator(0, 1)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == images.shape
    assert set(kept.tolist()) == {0.0, 1.0}


def test_loss_teaches_colours_of_present_subjects_under_kept_light_only():
    scenes = sample_scenes(32, generator(0, 0))
    verdict = Verdict(torch.zeros(32, len(SUBJECTS)), torch.zeros(32, len(SUBJECTS), 12, requires_grad=True))
    kept = torch.arange(32) % 2
    loss(verdict, scenes, kept.float())[1].backward()
    taught = verdict.colour.grad.abs().sum(dim=2) > 0
    expected = torch.zeros_like(taught)
    for row, subjects in enumerate(scenes.subject.tolist()):
        for subject in subjects:
            if subject != NOTHING and kept[row]:
                expected[row, subject] = True
    assert torch.equal(taught, expected)


def test_training_writes_weights_that_load(tmp_path: Path):
    training = JudgeTraining(tmp_path / "model", steps=2, batch_size=8)
    before = {key: value.clone() for key, value in training.network.state_dict().items()}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(training, Ticks())
    weights = load_file(tmp_path / "model" / "model.safetensors")
    network = JudgeNetwork()
    network.load_state_dict(weights)
    assert any(not torch.equal(before[key].half(), value) for key, value in weights.items())
