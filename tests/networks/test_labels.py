"""The published class lists: as many as the heads have rows, in their order."""

import pytest

from networks.labels import CLASS_LISTS, class_list, class_list_of


@pytest.mark.parametrize("name", CLASS_LISTS)
def test_a_list_is_whole_and_in_alphabetical_order(name: str) -> None:
    labels = class_list(name)
    assert len(labels) == len(set(labels)) == CLASS_LISTS[name]
    assert list(labels) == sorted(labels)
    assert all(label == label.strip() != "" for label in labels)
    assert class_list_of(len(labels)) == name


def test_known_rows_of_the_published_heads() -> None:
    kinetics = class_list("kinetics-400")
    assert (kinetics[0], kinetics[5], kinetics[399]) == ("abseiling", "archery", "zumba")
    assert class_list("something-something-v2")[67] == (
        "Pretending to open something without actually opening it"
    )
    assert class_list_of(48) is None
    with pytest.raises(KeyError, match="known: kinetics-400"):
        class_list("imagenet")
