import dataclasses
import re

from petseg.cli import settings_page
from petseg.config import Config
from petseg.setting import Section


def test_every_setting_is_there_with_its_default_and_what_it_does():
    page = settings_page.page()
    config = Config()
    for section in dataclasses.fields(config):
        value = getattr(config, section.name)
        if not isinstance(value, Section):
            continue
        for field in dataclasses.fields(value):
            name = f"--config.{section.name}.{field.name}={getattr(value, field.name)!r}"
            entry = page.partition(f"  {name}\n")[2].partition("\n\n")[0]
            assert len(entry.split()) >= 2, name
    assert "--config.train.stages[0].epochs=4.0" in page
    assert max(map(len, page.splitlines())) <= 100


def test_choices_and_limits_are_named():
    page = " ".join(settings_page.page().split())
    assert re.search(r"--config.optimizer.name='adam' adam, .*? \[adam, adamw, sgd\]", page)
    assert re.search(
        r"--config.data.image_size=224 [^\[]*\[a multiple of 32, at most 16,384\]", page
    )
    assert re.search(r"--config.train.epochs=4.0 [^\[]*\[above 0\]", page)
