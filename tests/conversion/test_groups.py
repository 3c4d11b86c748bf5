import collections
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petseg.conversion import groups, stratify
from petseg.conversion.sources.base import hash_order, split_by_hash
from petseg.errors import UserError

NAMES = [f"{letter}{digit}" for letter in "abcdef" for digit in range(6)]
names_drawn = st.lists(st.sampled_from(NAMES), min_size=2, unique=True)
links_drawn = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=12)


def test_the_first_group_or_the_whole_match_is_what_names_share():
    names = ["p1/x", "p1/y", "p2/x", "other"]
    assert groups.group_by_regex(names, r"^p(\d)/") == {"p1/x": "1", "p1/y": "1", "p2/x": "2"}
    assert groups.group_by_regex(names, r"p\d") == {"p1/x": "p1", "p1/y": "p1", "p2/x": "p2"}
    with pytest.raises(UserError, match="is found in no name; one name is 'other'"):
        groups.group_by_regex(names, "z")
    with pytest.raises(UserError, match="is no regular expression"):
        groups.group_by_regex(names, "(")


def test_a_name_alone_keeps_the_split_that_it_has_without_groups():
    names = [f"n{i}" for i in range(200)] + ["g_1", "g_2", "g"]
    component_of = groups.components(names, [groups.group_by_regex(names, r"^(g)_")])
    splits = groups.split_by_component(component_of, 0.2, 0.2)
    for name in names[:200]:
        assert splits[component_of[name]] == split_by_hash(name, 0.2, 0.2)
    assert component_of["g_1"] == component_of["g_2"] != component_of["g"]


def reachable(names, edges):
    """Sets of names that are joined, by another way than union-find."""
    near = {name: {name} for name in names}
    for _ in names:
        for one, other in edges:
            if one in near and other in near:
                near[one] |= near[other]
                near[other] |= near[one]
    return near


@given(names=names_drawn, links=links_drawn)
def test_names_that_are_joined_by_others_are_one_component(names, links):
    links = [link for link in links if set(link) <= set(names)]
    by_letter = groups.group_by_regex(names, "[abc]") if set("abc") & set("".join(names)) else {}
    component_of = groups.components(names, [by_letter], links)
    edges = [
        *links,
        *(
            (one, other)
            for one, other in itertools.combinations(names, 2)
            if by_letter.get(one, 1) == by_letter.get(other, 2)
        ),
    ]
    near = reachable(names, edges)
    for one, other in itertools.combinations(names, 2):
        assert (component_of[one] == component_of[other]) == (other in near[one])
    # In whatever order they are listed.
    assert component_of == groups.components(
        sorted(names, key=hash_order), [by_letter], [(b, a) for a, b in reversed(links)]
    )


@given(names=names_drawn, links=links_drawn)
def test_a_new_image_moves_no_other_component(names, links):
    new = names[-1]
    links = [link for link in links if set(link) <= set(names)]
    before = groups.components(names[:-1], [], [link for link in links if new not in link])
    after = groups.components(names, [], links)
    splits = [groups.split_by_component(of, 0.3, 0.3) for of in (before, after)]
    for name in names[:-1]:
        if after[name] != after[new]:
            assert splits[1][after[name]] == splits[0][before[name]]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    strata=st.integers(1, 6),
    validation=st.sampled_from([0.0, 0.1, 0.25]),
    test=st.sampled_from([0.0, 0.2, 0.5]),
)
def test_each_stratum_gets_its_share_within_one_component(sizes, strata, validation, test):
    components = {f"c{i}": size for i, size in enumerate(sizes)}
    stratum_of = {name: (int(name[1:]) * 7 % strata,) for name in components}
    splits = stratify.split_by_strata(components, stratum_of, validation, test)
    assert splits.keys() == components.keys()
    largest = max(sizes)
    shares = {"validation": validation, "test": test}
    for split, share in shares.items():
        taken, total = collections.Counter(), collections.Counter()
        for name, size in components.items():
            total[stratum_of[name]] += size
            taken[stratum_of[name]] += size * (splits[name] == split)
        for stratum in total:
            assert abs(taken[stratum] - share * total[stratum]) < largest + 1e-6
        assert abs(sum(taken.values()) - share * sum(sizes)) < 2 * largest
    again = dict(sorted(components.items(), key=lambda item: hash_order(item[0])))
    assert stratify.split_by_strata(again, stratum_of, validation, test) == splits


def test_nothing_that_is_found_is_no_group():
    names = ["a1", "a2", "b", "c"]
    assert groups.group_by_regex(names, r"a|$") == {"a1": "a", "a2": "a"}
    with pytest.raises(UserError, match="found in no name"):
        groups.group_by_regex(names, r"x*")
