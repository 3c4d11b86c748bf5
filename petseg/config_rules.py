"""Checks of settings, and how they are compared and explained.

`validate` is called once, before any work; what depends on files, devices or the built model
is checked where these are read.
"""

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Iterator

from petseg import registry
from petseg.augmentation import Augmentation
from petseg.config import Config, Stage
from petseg.data import label_map
from petseg.errors import UserError, did_you_mean
from petseg.losses.terms import parse_loss, reading, taking_teacher
from petseg.patch_rules import validate_patches
from petseg.setting import Resume, Rules, Section, rules_of

FEATURE_CACHE_DIR = "config.data.feature_cache_dir"
_STAGE_SETTINGS = ("trainable", "epochs", "learning_rate")
_MAX_INTEGER = 2**63 - 1
# Values of petseg 0.1.
_NEW_VALUES = {
    ("decoder", "wide"): "fpn",
    ("decoder", "five_tap"): "fcn2s",
    ("trainable", "head"): "decoder",
}


def validate(config: Config) -> None:
    """Checks every setting that does not depend on files, devices or a built model.

    Raises:
      UserError: Names the first setting that is wrong, its value and what it may be.
    """
    registry.load_plugins(config.plugins, "config.plugins")
    for name, value, rules, kind in _settings(config, "config"):
        if rules.is_size:
            _check_size(name, value)
        else:
            _check_type(name, value, kind)
        _check(name, value, rules)
    if config.data.label_map:
        label_map.parse_label_map(config.data.label_map)
    _require(
        not config.data.service_address or "://" in config.data.service_address,
        "config.data.service_address",
        config.data.service_address,
        "name a protocol, as in grpc://host:5050",
    )
    _validate_cache(config)
    _require(
        bool(config.model.encoder_weights),
        "config.model.encoder_weights",
        "",
        "be imagenet, none or a path",
    )
    _validate_stages(config)
    _validate_teacher(config)
    _validate_heads(config)
    _validate_masks_of(config)
    validate_patches(config)
    if config.train.class_weights not in ("none", "balanced"):
        parse_class_weights(config.train.class_weights)
    steps = config.train.profile_steps
    _require(
        steps == ()
        or (len(steps) == 2 and all(type(s) is int for s in steps) and 0 <= steps[0] < steps[1]),
        "config.train.profile_steps",
        steps,
        "be two rising steps, as in 100,110",
    )
    _validate_best_metric(config.train.best_metric)
    _validate_optimizer(config)
    if config.data.feature_cache_dir:
        _validate_feature_cache(config)


def _settings(section: Section, prefix: str) -> Iterator[tuple[str, object, Rules, object]]:
    """Name, value, rules and type of every setting, those of train.stages included."""
    types = typing.get_type_hints(type(section))
    for field in dataclasses.fields(section):
        name, value = f"{prefix}.{field.name}", getattr(section, field.name)
        if isinstance(value, Section):
            yield from _settings(value, name)
        elif isinstance(value, list) and all(isinstance(item, Section) for item in value):
            for index, item in enumerate(value):
                yield from _settings(item, f"{name}[{index}]")
        else:
            yield name, value, rules_of(field), types[field.name]


def _check_size(name: str, value: object) -> None:
    """Raises UserError unless a value is one number or two; see image_size.ImageSize."""
    is_pair = isinstance(value, tuple)
    _require(not is_pair or len(value) == 2, name, value, "be one number, or height and width")
    for side in value if is_pair else (value,):
        _check_type(name, side, int)


def _check_type(name: str, value: object, kind: object) -> None:
    """Raises UserError unless a value is of the type that its field has, and finite."""
    of_items = typing.get_args(kind)
    outer = typing.get_origin(kind) or kind
    accepted = (int, float) if outer is float else outer
    is_fine = isinstance(value, accepted) and (outer is bool or not isinstance(value, bool))
    shown = getattr(outer, "__name__", str(kind))
    _require(is_fine, name, value, f"be of type {shown}")
    if outer is float:
        _require(math.isfinite(value), name, value, "be finite")
    if outer is int:
        _require(abs(value) <= _MAX_INTEGER, name, value, "fit into 64 bits")
    for item in value if of_items else ():
        _check_type(name, item, of_items[0])


def _check(name: str, value: object, rules: Rules) -> None:
    if rules.choices is not None:
        _require_choice(name, str(value), tuple(rules.choices))
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        low, high = rules.at_least, rules.at_most
        if low is not None and high is not None:
            _require(
                low <= number <= high, name, value, f"lie between {low:,.10g} and {high:,.10g}"
            )
        elif low is not None:
            _require(number >= low, name, value, f"be at least {low}")
        elif high is not None:
            _require(number <= high, name, value, f"be at most {high:,.10g}")
        if rules.multiple_of != 1:
            is_multiple = number > 0 and number % rules.multiple_of == 0
            _require(is_multiple, name, value, f"be a positive multiple of {rules.multiple_of}")
        elif rules.above is not None:
            _require(number > rules.above, name, value, f"be above {rules.above:g}")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    hint = _NEW_VALUES.get((name.rpartition(".")[2], value))
    note = f"; '{value}' is now called '{hint}'" if hint else ""
    note = note or did_you_mean(value, choices)
    _require(value in choices, name, value, f"be one of {', '.join(choices)}{note}")


def _validate_stages(config: Config) -> None:
    train, plain = config.train, type(config.train)()
    if train.stages:
        for name in _STAGE_SETTINGS:
            value = getattr(train, name)
            if value != getattr(plain, name):
                raise UserError(
                    f"config.train.{name}={value!r} has no effect beside config.train.stages; set "
                    f"config.train.stages[0].{name}"
                )
    trainable = ("decoder", *registry.ENCODERS.get(config.model.encoder).stages, "all")
    for index, stage in enumerate(config.stages()):
        name = f"config.train.stages[{index}]" if train.stages else "config.train"
        _require_choice(f"{name}.trainable", stage.trainable, trainable)


def _validate_teacher(config: Config) -> None:
    """Checks the loss, and that a term and the setting that need each other are both there."""
    of_teacher, teacher = taking_teacher(parse_loss(config.train.loss)), config.train.teacher
    if of_teacher and not teacher:
        raise UserError(
            f"config.train.loss={config.train.loss!r}: {of_teacher[0]} follows another run's "
            "model; name that run's folder as config.train.teacher, or leave the term out"
        )
    _require(
        not teacher or bool(of_teacher),
        "config.train.teacher",
        teacher,
        "be '' unless config.train.loss has a term for it, as in cross_entropy+0.5*distillation",
    )
    _require(
        not (teacher and config.data.feature_cache_dir),
        "config.train.teacher",
        teacher,
        f"be '' with {FEATURE_CACHE_DIR}: a teacher needs the images, which are not read then",
    )


def _validate_heads(config: Config) -> None:
    """Checks that each head and the losses that train it are all there, or all not."""
    loss, model = config.train.loss, config.model
    terms = parse_loss(loss)
    for name, value, absent, present, what, added in (
        ("presence", model.presence, False, "True", "presence", "0.5*presence"),
        ("class_masks", model.class_masks, "none", "transfer", "detection", "image_class+box"),
    ):
        of_head = reading(what, terms)
        if of_head and value == absent:
            raise UserError(
                f"config.train.loss={loss!r}: {of_head[0]} trains a head that the model does not "
                f"have; set config.model.{name}={present}, or leave the term out"
            )
        _require(
            value == absent or bool(of_head),
            f"config.model.{name}",
            value,
            f"be {absent} unless config.train.loss has a term for it, as in {loss}+{added}",
        )
    _require(
        bool(reading("pixels", terms)),
        "config.train.loss",
        loss,
        f"have a term for the pixels, as in cross_entropy+{loss}",
    )


def _validate_masks_of(config: Config) -> None:
    """Checks what goes with masks of some images alone, which only the input of images knows."""
    data, augment = config.data, config.augment
    _require(
        bool(data.masks_of) or data.without_mask == "ignored",
        "config.data.without_mask",
        data.without_mask,
        "be ignored unless config.data.masks_of says which images have masks",
    )
    _require(
        not data.masks_of or config.train.class_weights != "balanced",
        "config.train.class_weights",
        "balanced",
        "be none or numbers with config.data.masks_of: it counts the pixels of all masks",
    )
    needing = [
        name
        for name, is_on in (
            ("config.data.masks_of", bool(data.masks_of)),
            ("config.model.class_masks", config.model.class_masks != "none"),
        )
        if is_on
    ]
    if not needing:
        return
    _require(
        not data.cache_decoded,
        "config.data.cache_decoded",
        data.cache_decoded,
        f"be False with {needing[0]}: decoded images keep no class",
    )
    _require(
        not augment.cutmix_probability,
        "config.augment.cutmix_probability",
        augment.cutmix_probability,
        f"be 0 with {needing[0]}: a mixed image has no class",
    )
    _require(
        not config.patches.enabled,
        "config.patches.enabled",
        True,
        f"be False with {needing[0]}: a patch is not of its picture's class",
    )


def _validate_best_metric(name: str) -> None:
    """Checks a metric's name; that of a class is checked with the label map."""
    base, slash, _ = name.partition("/")
    metrics = dict(registry.METRICS.items())
    whole = [metric for metric, one in metrics.items() if not one.per_class]
    of_class = [f"{metric}/CLASS" for metric, one in metrics.items() if one.per_class]
    is_known = base in metrics and metrics[base].per_class == bool(slash)
    _require(is_known, "config.train.best_metric", name, f"be one of {', '.join(whole + of_class)}")


def parse_class_weights(text: str) -> tuple[float, ...]:
    """The numbers in '1,1,2.5'; raises UserError if they are none, or below 0."""
    try:
        weights = tuple(float(number) for number in text.split(","))
    except ValueError:
        weights = (-1.0,)
    _require(
        all(0 <= weight < math.inf for weight in weights) and any(weights),
        "config.train.class_weights",
        text,
        "be none, balanced, or a number of at least 0 for each class, as in 1,1,2.5",
    )
    return weights


def _validate_optimizer(config: Config) -> None:
    optimizer = config.optimizer
    _require(
        not optimizer.weight_decay or optimizer.name != "adam",
        "config.optimizer.weight_decay",
        optimizer.weight_decay,
        "be 0 with adam; use --config.optimizer.name=adamw",
    )
    _require(
        all(0 < share < 1 for share in optimizer.drop_at)
        and list(optimizer.drop_at) == sorted(optimizer.drop_at),
        "config.optimizer.drop_at",
        optimizer.drop_at,
        "be rising shares between 0 and 1",
    )
    most = config.data.batch_size
    _require(
        optimizer.microbatches <= most,
        "config.optimizer.microbatches",
        optimizer.microbatches,
        f"be at most config.data.batch_size={most}",
    )


def _validate_cache(config: Config) -> None:
    data = config.data
    _require(bool(data.cache), "config.data.cache", "", "be none, memory or a folder")
    if data.cache_decoded:
        where = "be memory or a local folder with config.data.cache_decoded"
        is_local = data.cache != "none" and "://" not in data.cache
        _require(is_local, "config.data.cache", data.cache, where)
        for name in ("service_address", "feature_cache_dir"):
            value = getattr(data, name)
            _require(
                not value, f"config.data.{name}", value, "be '' with config.data.cache_decoded"
            )
    elif data.cache_short_side:
        _require(
            False, "config.data.cache_short_side", data.cache_short_side,
            "be 0 without config.data.cache_decoded",
        )  # fmt: skip


def _validate_feature_cache(config: Config) -> None:
    """Features are computed once: what needs the images in each epoch is refused."""
    data, augment = config.data, config.augment
    plain = Augmentation(
        flip=augment.flip,
        min_crop_area=augment.min_crop_area,
        max_crop_aspect=augment.max_crop_aspect,
    )
    for name, (value, _) in differences(augment, plain, "config.augment").items():
        raise UserError(
            f"{FEATURE_CACHE_DIR} works with flips and fixed windows alone, but {name}={value!r}; "
            "leave one of them out"
        )
    has_crops = data.feature_crops > 0
    _require(
        augment.uses_whole_images != has_crops,
        "config.data.feature_crops",
        data.feature_crops,
        "be 0 with whole images (augment.min_crop_area=1), and with windows their number for "
        "each image",
    )
    _require(
        not data.service_address,
        "config.data.service_address",
        data.service_address,
        f"be '' with {FEATURE_CACHE_DIR}",
    )
    _require(
        not registry.DECODERS.get(config.model.decoder).needs_images,
        "config.model.decoder",
        config.model.decoder,
        f"be another one with {FEATURE_CACHE_DIR}: this one reads features as large as the images",
    )
    first = registry.ENCODERS.get(config.model.encoder).stages[0]
    for index, stage in enumerate(config.stages()):
        name = f"config.train.stages[{index}]" if config.train.stages else "config.train"
        _require(
            stage.trainable not in ("all", first),
            f"{name}.trainable",
            stage.trainable,
            f"be a stage after {first} with {FEATURE_CACHE_DIR}: that stage needs images",
        )


def differences(old: Section, new: Section, prefix: str = "config") -> dict[str, tuple]:
    """Settings in which two configs differ: 'config.data.seed' -> (old, new)."""
    found = {}
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        name = f"{prefix}.{field.name}"
        if isinstance(before, Section):
            found.update(differences(before, after, name))
        elif before != after:
            found[name] = (before, after)
    return found


def find_rules(name: str) -> Rules:
    """The rules of a setting such as 'config.data.dir'."""
    section: Section = Config()
    *parents, last = name.split(".")[1:]
    for parent in parents:
        section = getattr(section, parent)
    return rules_of(section.__dataclass_fields__[last])


def may_change(name: str, old: object, new: object) -> bool:
    """Whether a resumed run may have another value of a setting."""
    resume = find_rules(name).resume
    if resume == Resume.SAME_PRESENCE:
        return bool(old) == bool(new)
    return resume == Resume.FREE


def is_setting(name: str) -> bool:
    """Whether 'config.train.stages[0].epochs' or the like names a setting, or a group."""
    section: object = Config()
    section.train.stages = [Stage()]
    for part in name.split(".")[1:]:
        field, bracket, _ = part.partition("[")
        if not isinstance(section, Section) or field not in section.__dataclass_fields__:
            return False
        section = getattr(section, field)
        if bracket:
            section = section[0] if isinstance(section, list) and section else None
    return True


def explain_unknown_setting(name: str) -> str:
    """One line about a name such as 'config.model.head' that is no setting."""
    plain = re.sub(r"\[\d+\]", "", name)
    for field in dataclasses.fields(Config()):
        section = getattr(Config(), field.name)
        if isinstance(section, Section):
            for old, new in section.renamed().items():
                if f"{plain}.".startswith(f"config.{field.name}.{old}."):
                    return f"{name} is now config.{new}"
    known = [setting for setting, *_ in _settings(Config(), "config")]
    last = [setting.rpartition(".")[2] for setting in known]
    # The right name in a wrong section, or a wrong name in any.
    nearest = difflib.get_close_matches(plain.rpartition(".")[2], last, 3, cutoff=0.7)
    by_last = [known[last.index(one)] for one in nearest]
    near = difflib.get_close_matches(plain, by_last, 1, cutoff=0)
    hint = f"did you mean {near[0]}?" if near else "--help_config lists all settings"
    return f"{name} is no setting; {hint}"


def data_dir(config: Config) -> str:
    """The data set's folder; raises UserError if the settings name none."""
    if not config.data.dir:
        raise UserError(
            "config.data.dir is missing: name the data set that petseg-convert wrote, as in "
            "--config.data.dir=OUT"
        )
    return config.data.dir


def _require(holds: bool, name: str, value: object, must: str) -> None:
    if not holds:
        raise UserError(f"{name}={value!r} must {must}")
