"""Do small teachers of a domain help a larger model to adapt to it, and what does that forget?

A model of general text is pretrained further on a domain, or on two at once in equal shares: alone, or with a teacher of
each domain for the sequences of its own, and with ever less of the domain's text. How well it then knows the domain, what
it has forgotten of the general text, and what it scores when it is fine-tuned (task `none`: not at all).

Source: Qin et al. 2022: domain adaptation, two domains at once, and what is forgotten.
Hypothesis: the less text, the more the model alone overfits it and the more a teacher helps; with one more is forgotten.
What differs: 4 layers of 128 and two domains of the generated language for 12 of 768 and papers of computer science and
biology; teachers are trained on the whole domain, from scratch; their hundred largest logits are kept, and the others as
one. Real text: `text=wiki domain=cs,bio second=none,bio task=none,chemprot size=all student=bert-4x256`, paths all. Cost
and result: see --dry-run and --table.
"""

from __future__ import annotations

from plm import RunSpec, finetune
from plm.duration import epochs
from search_spaces import teachers as space
from search_spaces.architectures import models
from search_spaces.finetuning import durations, tasks
from search_spaces.seeds import seeds
from search_spaces.texts import texts
from sweeps.engine.launch import launch
from sweeps.engine.sweep import Sweep


def run(
    *, text: str, student: str, pretraining: str, domain: str, second: str, part: str, duration: str, guided: float,
    teacher: str, task: str, size: int, seed: int,
) -> RunSpec | None:  # fmt: skip
    """Adapt a pretrained student to a domain or two, and fine-tune it if there is a task."""
    if second == domain:
        return None
    domains = (domain,) if second == space.NONE else (domain, second)
    general = space.pretrained(student, text, pretraining, seed=seed)
    alone = space.adapted(general, domains, duration, of=part)
    taught = space.taught(alone, space.teacher_of_each(teacher, domains, text), guided=guided)
    if task == space.NONE:
        return taught
    return finetune(task, init=taught.final, size=size, seed=seed, lr=5e-4, duration=epochs(5), dtype="float32")


sweep = Sweep(
    run,
    over={
        "text": texts("world"),
        "student": models("bert-4x128"),
        "pretraining": durations("steps:1000"),
        "domain": texts("world:home", "world:field"),
        "second": texts(space.NONE, "world:field"),
        "part": space.parts("all", "1/64", "1/512"),
        "duration": durations("steps:300"),
        "guided": space.guided_shares(0.5),
        "teacher": space.teachers(space.NONE, "bert-2x64@600"),
        "task": tasks(space.NONE, "sentiment"),
        "size": space.sizes(1000),
        "seed": seeds(3),
    },
    baseline=lambda cell: cell | {"teacher": space.NONE},
    arms=("teacher",),
    learning="teacher",
)

if __name__ == "__main__":
    launch(sweep)
